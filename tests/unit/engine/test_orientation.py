"""EXIF's eight orientations, and the turns a caller asks for."""

import pytest
from PIL import Image

from image_processor.pipeline import Flip, Flop, Resize, Rotate
from image_processor.testing import sample_images
from pictures import differences, opened, picture, pipeline_of, render, upright

ALL = range(1, 9)
JPEG_NOISE = 1.0
"""Two decoders of one JPEG differ by this much at most, on average and in levels of 255."""


@pytest.mark.parametrize("orientation", ALL)
def test_a_picture_comes_out_as_pillow_turns_it(tmp_path, orientation):
    original = sample_images.photo(orientation=orientation)
    assert max(differences(picture(tmp_path, original), upright(original))) < JPEG_NOISE


@pytest.mark.parametrize("orientation", ALL)
def test_all_orientations_give_the_same_picture(tmp_path, orientation):
    """Shrunk by the decoder, too; what is left of a wrong turn would be tens of levels."""
    turned = picture(tmp_path, sample_images.photo(orientation=orientation), Resize(width=100))
    straight = picture(tmp_path, sample_images.photo(), Resize(width=100))
    assert turned.size == (100, 75)
    assert max(differences(turned, straight)) < 1.5


@pytest.mark.parametrize("orientation", ALL)
def test_the_size_that_is_told_is_the_upright_one(tmp_path, orientation):
    rendering = render(tmp_path, sample_images.photo(640, 480, orientation=orientation), pipeline_of())
    assert (rendering.width, rendering.height) == (640, 480)


def test_png_and_webp_are_turned_as_well(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    for kind in ("png", "webp"):
        stored = opened(sample_images.png(64, 48)).convert("RGB")
        path = tmp_path / f"turned.{kind}"
        stored.save(path, exif=exif, **({"lossless": True} if kind == "webp" else {}))
        shown = picture(tmp_path, path.read_bytes(), kind=kind)
        assert differences(shown, stored.transpose(Image.Transpose.ROTATE_270)) == [0, 0, 0]


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        (Rotate(degrees=90), Image.Transpose.ROTATE_270),
        (Rotate(degrees=180), Image.Transpose.ROTATE_180),
        (Rotate(degrees=270), Image.Transpose.ROTATE_90),
        (Flip(), Image.Transpose.FLIP_TOP_BOTTOM),
        (Flop(), Image.Transpose.FLIP_LEFT_RIGHT),
    ],
)
def test_turns_and_mirrors(tmp_path, operation, expected):
    original = sample_images.png(64, 48)
    shown = picture(tmp_path, original, operation, kind="png")
    assert differences(shown, opened(original).transpose(expected)) == [0, 0, 0]
