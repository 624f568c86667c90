"""`quality="auto"` and `max_bytes`: the quality that is looked for, and what is left when there is none."""

import pytest

from image_processor.engine.vips.picture import Picture
from image_processor.engine.vips.save import save, save_once
from image_processor.engine.vips.save.search import AUTO_QUALITIES, LIKE_THE_ORIGINAL, auto_quality, sample
from image_processor.engine.vips.save.similarity import Likeness
from image_processor.engine.vips.save.target import Target
from image_processor.errors import InvalidOperationError
from image_processor.pipeline import AvifOutput, JpegOutput, WebpOutput
from image_processor.testing import sample_images
from pictures import opened, pipeline_of, render

pyvips = pytest.importorskip("pyvips")
LOSSY = [JpegOutput, WebpOutput, pytest.param(AvifOutput, marks=pytest.mark.slow)]


def photo(width=320, height=240):
    return pyvips.Image.jpegload_buffer(sample_images.photo(width, height, quality=98)).copy_memory()


def jpeg(image, quality):
    return pyvips.Image.jpegload_buffer(image.jpegsave_buffer(Q=quality, keep="none"))


def test_likeness_is_100_for_the_same_and_falls_with_the_quality():
    image = photo()
    likeness = Likeness(image)
    scores = [likeness.score(jpeg(image, quality)) for quality in (98, 90, 70, 40, 10)]
    assert likeness.score(image) == pytest.approx(100, abs=0.01)
    assert 100 > scores[0] > scores[1] > scores[2] > scores[3] > scores[4]


@pytest.mark.parametrize(
    "image",
    [
        photo().crop(0, 0, 1, 1),
        photo().crop(0, 0, 7, 200),
        photo().colourspace("b-w"),
        photo().bandjoin(128),
        photo().colourspace("rgb16"),
    ],
    ids=["1x1", "7x200", "grey", "alpha", "16 bit"],
)
def test_any_picture_can_be_compared(image):
    assert Likeness(image).score(image) == pytest.approx(100, abs=0.01)


@pytest.mark.parametrize(
    ("size", "part"),
    [((768, 768), (768, 768)), ((769, 600), (768, 600)), ((3000, 2000), (768, 768)), ((1, 5000), (1, 768))],
)
def test_a_large_picture_is_seen_through_parts_of_it(size, part):
    parts = sample(Picture((pyvips.Image.black(*size),))).first
    assert (parts.width, parts.height) == part


@pytest.mark.parametrize("output", LOSSY)
def test_auto_takes_the_lowest_quality_that_looks_like_the_original(tmp_path, output):
    tries = []

    def counted(*written):
        tries.append(written[1].quality)
        save_once(*written)

    image = photo(160, 120)
    target = Target(tmp_path / "file")
    found = auto_quality(Picture((image,)), output(quality="auto"), target, counted)

    def score(quality):
        save_once(Picture((image,)), output(quality=quality), target)
        coded = pyvips.Image.new_from_buffer(target.path.read_bytes(), "")
        return Likeness(image).score(coded)

    assert len(tries) <= 6
    assert score(found) >= LIKE_THE_ORIGINAL or found == AUTO_QUALITIES[-1]
    assert found == AUTO_QUALITIES[0] or score(found - 2) < LIKE_THE_ORIGINAL


def test_auto_saves_a_file_of_each_lossy_kind(tmp_path):
    for output in (JpegOutput(quality="auto"), WebpOutput(quality="auto")):
        render(tmp_path, sample_images.photo(100, 80), pipeline_of(output=output))
        assert opened((tmp_path / f"only.{output.format[:4].replace('jpeg', 'jpg')}").read_bytes()).size == (
            100,
            80,
        )


@pytest.mark.parametrize("output", LOSSY)
def test_the_best_quality_that_fits_is_taken(tmp_path, output):
    picture = Picture((photo(160, 120),))
    target = Target(tmp_path / "file")
    save_once(picture, output(quality=60), target)
    most = target.path.stat().st_size
    save(picture, output(max_bytes=most), target)
    taken = target.path.stat().st_size
    assert most * 0.9 <= taken <= most


@pytest.mark.parametrize("output", [JpegOutput, WebpOutput])
def test_what_cannot_be_so_short_leaves_no_file(tmp_path, output):
    with pytest.raises(InvalidOperationError, match=r"does not fit into 100 bytes.* has \d+\.$"):
        save(Picture((photo(),)), output(max_bytes=100), Target(tmp_path / "file"))
    assert list(tmp_path.iterdir()) == []


def test_an_animation_is_searched_by_its_first_frame_and_kept_whole(tmp_path):
    original = sample_images.animated_webp()
    (variant,) = render(tmp_path, original, pipeline_of(output=WebpOutput(quality="auto")), "webp").variants
    assert opened(variant.path.read_bytes()).n_frames == variant.frames == 3
