"""JPEG: which encoder writes, what its files are, and that the quality means the same with each."""

import pytest

from image_processor.engine.vips.picture import Picture
from image_processor.engine.vips.save import jpegli, save
from image_processor.engine.vips.save.quality_scale import JPEGLI, MOZJPEG_TABLES, on_scale
from image_processor.engine.vips.save.similarity import Likeness
from image_processor.engine.vips.save.target import Target
from image_processor.errors import CorruptImageError
from image_processor.pipeline import JpegOutput, Optimize
from image_processor.testing import sample_images
from pictures import differences, opened

pyvips = pytest.importorskip("pyvips")
HALVED, FULL = (2, 2), (1, 1)


def scene(width=320, height=240):
    return pyvips.Image.pngload_buffer(sample_images.png(width, height)).copy_memory()


def noise(side=200):
    return pyvips.Image.pngload_buffer(sample_images.noise_png(side, side)).copy_memory()


def saved(folder, image, output=None, optimize=Optimize.BALANCED) -> bytes:
    target = Target(folder / "file.jpg", optimize)
    save(Picture((image,)), output or JpegOutput(), target)
    return target.path.read_bytes()


def sampling(data: bytes):
    return opened(data).layer[0][1:3]


@pytest.mark.parametrize("optimize", Optimize)
@pytest.mark.parametrize(
    "image",
    [scene(), noise(), scene().colourspace("b-w"), noise().bandjoin(128)],
    ids=["photo", "noise", "grey", "alpha"],
)
def test_what_is_longer_than_ten_kilobytes_is_progressive(tmp_path, optimize, image):
    data = saved(tmp_path, image, JpegOutput(quality=95), optimize)
    shown = opened(data)
    assert shown.size == (image.width, image.height)
    assert shown.mode == ("L" if image.interpretation == "b-w" else "RGB")
    assert len(data) <= 10_000 or "progressive" in shown.info


@pytest.mark.parametrize("optimize", Optimize)
@pytest.mark.parametrize(
    ("settings", "factors"),
    [
        ({"quality": 95}, HALVED),
        ({"quality": 100}, HALVED),
        ({"quality": 85, "subsampling": "4:4:4"}, FULL),
        ({"quality": 89, "subsampling": "auto"}, HALVED),
        ({"quality": 90, "subsampling": "auto"}, FULL),
    ],
)
def test_colour_has_the_resolution_that_is_asked_for(tmp_path, optimize, settings, factors):
    assert sampling(saved(tmp_path, scene(), JpegOutput(**settings), optimize)) == factors


@pytest.mark.parametrize("optimize", Optimize)
def test_the_same_picture_makes_the_same_bytes(tmp_path, optimize):
    assert saved(tmp_path, noise(), optimize=optimize) == saved(tmp_path, noise(), optimize=optimize)


@pytest.mark.parametrize("side", [1, 2, 15, 17])
@pytest.mark.parametrize("optimize", Optimize)
def test_tiny_pictures_keep_their_colour(tmp_path, side, optimize):
    image = pyvips.Image.black(side, side, bands=3).linear(1, [200, 100, 50], uchar=True)
    shown = opened(saved(tmp_path, image, optimize=optimize))
    assert all(abs(a - b) <= 3 for a, b in zip(shown.getpixel((0, 0)), (200, 100, 50), strict=True))


def test_transparency_lies_on_the_background(tmp_path):
    image = scene().bandjoin(0)
    for optimize in Optimize:
        shown = opened(saved(tmp_path, image, JpegOutput(background="#204060"), optimize))
        assert all(abs(a - b) <= 3 for a, b in zip(shown.getpixel((5, 5)), (0x20, 0x40, 0x60), strict=True))


def test_sixteen_bits_become_eight(tmp_path):
    shown = opened(saved(tmp_path, scene().colourspace("rgb16")))
    plain = opened(saved(tmp_path, scene()))
    assert max(differences(shown, plain)) < 1


@pytest.mark.parametrize("points", [JPEGLI, MOZJPEG_TABLES])
def test_a_scale_rises_and_covers_all_qualities(points):
    found = [on_scale(quality, points) for quality in range(1, 101)]
    assert found == sorted(found)
    assert (found[0], found[-1]) == (1, 100)
    assert all(on_scale(quality, points) == other for quality, other in points)


def test_the_lossless_pass_keeps_every_pixel_and_drops_the_metadata():
    original = sample_images.photo(with_metadata=True)
    shorter = jpegli.losslessly_shorter(original)
    assert len(shorter) < len(original)
    assert opened(shorter).tobytes() == opened(original).tobytes()
    assert sample_images.MARKER not in shorter
    with pytest.raises(CorruptImageError, match=r"losslessly\.$"):
        jpegli.losslessly_shorter(b"no JPEG")


@pytest.mark.slow
def test_every_level_looks_as_libjpeg_does_at_that_quality_and_is_no_longer(tmp_path, photos):
    """The measured scales, on photos: a point of SSIMULACRA2 at most below, in total not a byte more."""
    lengths = dict.fromkeys(("libjpeg", *Optimize), 0)
    for path in sorted((photos / "camera").glob("*.jpg"))[::4]:
        image = pyvips.Image.thumbnail(str(path), 600, height=600).copy_memory()
        likeness = Likeness(image)
        plain = image.jpegsave_buffer(Q=85, optimize_coding=True, keep="none")
        aim = likeness.score(pyvips.Image.jpegload_buffer(plain))
        lengths["libjpeg"] += len(plain)
        for optimize in Optimize:
            data = saved(tmp_path, image, optimize=optimize)
            lengths[optimize] += len(data)
            assert likeness.score(pyvips.Image.jpegload_buffer(data)) > aim - 1, (path.name, optimize)
    assert lengths[Optimize.SIZE] < lengths[Optimize.BALANCED] <= lengths[Optimize.SPEED] < lengths["libjpeg"]


@pytest.mark.slow
def test_size_ends_within_five_percent_of_mozjpeg_at_the_same_likeness(tmp_path, photos):
    thorough = {"trellis_quant": True, "overshoot_deringing": True, "optimize_scans": True, "quant_table": 3}
    for path in sorted((photos / "camera").glob("*.jpg"))[1:6:4]:
        image = pyvips.Image.thumbnail(str(path), 500, height=500).copy_memory()
        likeness = Likeness(image)
        ours = saved(tmp_path, image, optimize=Optimize.SIZE)
        aim = likeness.score(pyvips.Image.jpegload_buffer(ours))
        theirs = (
            image.jpegsave_buffer(Q=quality, interlace=True, keep="none", **thorough)
            for quality in range(80, 97, 4)
        )
        best = next(
            data for data in theirs if likeness.score(pyvips.Image.jpegload_buffer(data)) >= aim - 0.3
        )
        assert len(ours) <= 1.05 * len(best), path.name
