"""What does not fit into the memory of a decoder is refused at once, by its own name; the engine goes on."""

import pillow_heif
import pytest
import pyvips

from image_processor.engine.base import RenderRequest
from image_processor.engine.isolate import IsolatedEngine
from image_processor.engine.vips.failures import is_out_of_memory
from image_processor.errors import ImageTooComplexError, Retry
from image_processor.pipeline import BUILTIN_PRESETS, ImageFormat, Limits
from image_processor.testing import sample_images

MIB = 1024 * 1024
FEW_BYTES = 64 * MIB
"""Room for Python, the libraries and a small picture."""
DEADLINE_SECONDS = 100
SIDE = 2800
SAVERS = {
    ImageFormat.PNG: lambda image, path: image.pngsave(path, compression=1),
    ImageFormat.WEBP: lambda image, path: image.webpsave(path, effort=0),
    ImageFormat.HEIC: lambda image, path: pillow_heif.from_bytes(
        "RGB", (SIDE, SIDE), image[:3].write_to_memory()
    ).save(path, quality=20),
}
"""libpng asks for little at a time, libwebp for all at once; libheif calls a lack of memory damage."""


@pytest.fixture
def render(tmp_path):
    """Renders in a decoder of so much memory, each time the same one."""
    for name in ("in", "out"):
        (tmp_path / name).mkdir()
    engines = []

    def render(path, source_format, *, preset="web", memory_bytes=FEW_BYTES):
        if not engines:
            folders = {"readable": (tmp_path / "in",), "writable": (tmp_path / "out",)}
            engines.append(IsolatedEngine(**folders, memory_bytes=memory_bytes))
        request = RenderRequest(
            source=path,
            source_format=source_format,
            pipeline=BUILTIN_PRESETS[preset].pipeline,
            output_directory=tmp_path / "out",
            limits=Limits(max_bytes=1024 * MIB),
        )
        return engines[0].render(request, deadline_seconds=DEADLINE_SECONDS)

    yield render
    for engine in engines:
        engine.close()


def gradient(side):
    """With alpha; it packs well, so that it is quickly made and small for its pixels."""
    across, down = (pyvips.Image.xyz(side, side)[band] * (255 / side) for band in (0, 1))
    bands = across.bandjoin([down, (across + down) / 2, 128 + down / 2])
    return bands.cast("uchar").copy(interpretation="srgb").copy_memory()


@pytest.mark.slow
@pytest.mark.parametrize("source_format", SAVERS, ids=str)
def test_what_does_not_fit_is_refused_for_good_and_the_next_picture_is_served(
    render, tmp_path, source_format
):
    small = tmp_path / "in" / "small"
    small.write_bytes(sample_images.photo(120, 120))
    large = tmp_path / "in" / f"large.{source_format.extension}"
    SAVERS[source_format](gradient(SIDE), str(large))
    render(small, ImageFormat.JPEG)  # so that the decoder is not a fresh one
    with pytest.raises(ImageTooComplexError, match="more than the 64 MiB of memory") as refused:
        render(large, source_format)
    assert refused.value.retry is Retry.NEVER
    assert len(render(small, ImageFormat.JPEG).variants) == len(BUILTIN_PRESETS["web"].pipeline.variants)


@pytest.mark.parametrize(
    ("said", "is_lack"),
    [
        ("vips_tracked: out of memory -- size == 12MB", True),
        ("webpsave: unable to encode", True),
        ("webpsave: picture memory error", True),
        ("tiffsave: failed to allocate 47997184 bytes", True),
        ("Memory allocation error: Unspecified: Allocating 47997199 bytes failed", True),
        ("Insufficient memory (case 4)", True),
        ("Memory allocation error: Security limit exceeded: too many tiles", False),
        ("premature end of JPEG image", False),
        ("No space left on device", False),
    ],
)
def test_a_lack_of_memory_is_told_from_other_faults(said, is_lack):
    assert is_out_of_memory(said) is is_lack
