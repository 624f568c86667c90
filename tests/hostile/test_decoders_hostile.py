"""Every decoder, in the protected child, against files cut off, garbled, or that announce too much."""

import contextlib
import random

import pytest

from image_processor.engine.base import RenderRequest
from image_processor.engine.isolate import IsolatedEngine
from image_processor.errors import ImageTooLargeError, RejectedError
from image_processor.pipeline import ImageFormat, Limits, Resize, WebpOutput
from image_processor.testing import sample_images
from pictures import pipeline_of

pytestmark = pytest.mark.slow
SMALL = pipeline_of(Resize(width=32), output=WebpOutput())
SOURCES = {
    "heic": sample_images.heic(),
    "heic with alpha": sample_images.heic(alpha=True, bits=10),
    "avif": sample_images.avif(96, 64),
    "avif animated": sample_images.animated_avif(),
    "bmp": sample_images.bmp(96, 64),
    "bmp with palette": sample_images.bmp(96, 64, mode="P"),
    "tiff": sample_images.tiff_16bit(96, 64),
    "tiff tiled": sample_images.tiff(96, 64, tile=True, tile_width=32, tile_height=32),
    "tiff of jpeg": sample_images.tiff(96, 64, compression="jpeg"),
    "gif": sample_images.animated_gif(96, 64),
    "svg": sample_images.svg(),
}


@pytest.fixture(scope="module")
def render(tmp_path_factory):
    """Renders bytes in one child for all tests; that child must survive every one of them."""
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "out").mkdir()
    engine = IsolatedEngine(readable=(folder,), writable=(folder / "out",))

    def render(content, kind):
        source = folder / "original"
        source.write_bytes(content)
        for left in (folder / "out").iterdir():
            left.unlink()
        request = RenderRequest(
            source=source,
            source_format=ImageFormat(kind.split()[0]),
            pipeline=SMALL,
            output_directory=folder / "out",
            limits=Limits(),
        )
        return engine.render(request, deadline_seconds=20)

    yield render
    engine.close()


def ends_well(render, content, kind):
    """A picture or a refusal; a crash, a timeout or an engine's own error fails the test."""
    with contextlib.suppress(RejectedError):
        assert len(render(content, kind).variants) == 1


@pytest.mark.parametrize("kind", sorted(SOURCES))
def test_the_whole_file_is_rendered(render, kind):
    assert len(render(SOURCES[kind], kind).variants) == 1


@pytest.mark.parametrize("kind", sorted(SOURCES))
def test_files_that_are_cut_off_end_well(render, kind):
    content = SOURCES[kind]
    for eighth in range(1, 8):
        ends_well(render, content[: len(content) * eighth // 8], kind)


@pytest.mark.parametrize("kind", ["heic", "bmp", "avif", "tiff", "svg"])
def test_half_a_file_is_refused(render, kind):
    content = SOURCES[kind]
    with pytest.raises(RejectedError, match=r"damaged|cut off"):
        render(content[: len(content) // 2], kind)


@pytest.mark.parametrize("kind", sorted(SOURCES))
def test_garbled_files_end_well(render, kind):
    chance = random.Random(kind)
    for _ in range(25):
        content = bytearray(SOURCES[kind])
        for _ in range(chance.choice((1, 2, 8))):
            reach = len(content) if chance.random() < 0.5 else min(len(content), 600)
            content[chance.randrange(8, reach)] = chance.choice(
                (0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256))
            )
        ends_well(render, bytes(content), kind)


@pytest.mark.parametrize("kind", sorted(SOURCES))
def test_noise_behind_the_right_beginning_is_refused(render, kind):
    noise = random.Random(1).randbytes(4000)
    with pytest.raises(RejectedError):
        render(SOURCES[kind][:32] + noise, kind)


def swapped(content, old, new):
    assert old in content
    return content.replace(old, new)


def sides(width, height, order="big"):
    return width.to_bytes(4, order) + height.to_bytes(4, order)


BOMBS = {
    "bmp": swapped(SOURCES["bmp"], sides(96, 64, "little"), sides(30_000, 29_000, "little")),
    "heic": swapped(
        SOURCES["heic"], b"ispe\0\0\0\0" + sides(96, 64), b"ispe\0\0\0\0" + sides(20_000, 16_000)
    ),
    "avif": swapped(
        SOURCES["avif"], b"ispe\0\0\0\0" + sides(96, 64), b"ispe\0\0\0\0" + sides(20_000, 16_000)
    ),
    "svg": sample_images.svg(size='width="20000" height="16000"'),
    "tiff": swapped(
        SOURCES["tiff"],
        (256).to_bytes(2, "little") + b"\3\0\1\0\0\0" + (96).to_bytes(4, "little"),
        (256).to_bytes(2, "little") + b"\3\0\1\0\0\0" + (60_000).to_bytes(4, "little"),
    ),
}


@pytest.mark.parametrize("kind", sorted(BOMBS))
def test_a_size_over_the_limits_is_refused_by_the_header(render, kind):
    with pytest.raises(ImageTooLargeError, match="pixels"):
        render(BOMBS[kind], kind)


def test_the_child_has_survived_all_of_it(render):
    assert len(render(SOURCES["heic"], "heic").variants) == 1
