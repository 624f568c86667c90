"""Padding: the colour of the canvas, opaque and translucent, beside every kind of picture."""

import pytest
import pyvips

from image_processor.engine.vips.color import in_depth
from image_processor.engine.vips.geometry import Pad, Size
from image_processor.engine.vips.picture import Picture
from image_processor.engine.vips.steps.pad import pad
from image_processor.pipeline import Resize
from image_processor.testing import sample_images
from pictures import picture

PLACE = (2, 1)


def padded(background, color, kind="srgb"):
    image = (pyvips.Image.black(4, 3, bands=len(color)) + list(color)).cast("uchar")
    image = image.copy(interpretation="srgb")
    image = in_depth(image, 16) if kind == "rgb16" else image.colourspace(kind)
    return pad(Picture((image,)), Pad(*PLACE, Size(9, 6), background)).first


@pytest.mark.parametrize(
    ("background", "color", "kind", "border", "middle"),
    [
        ("#102030", (200, 100, 50), "srgb", [16, 32, 48], [200, 100, 50]),
        ("#10203080", (200, 100, 50), "srgb", [16, 32, 48, 128], [200, 100, 50, 255]),
        ("#00000000", (200, 100, 50), "srgb", [0, 0, 0, 0], [200, 100, 50, 255]),
        ("#102030ff", (200, 100, 50), "srgb", [16, 32, 48], [200, 100, 50]),
        ("#102030", (200, 100, 50, 70), "srgb", [16, 32, 48, 255], [200, 100, 50, 70]),
        ("#10203080", (200, 100, 50, 70), "srgb", [16, 32, 48, 128], [200, 100, 50, 70]),
        ("#ffffff", (90, 90, 90), "b-w", [255], [90]),
        ("#ffffff80", (90, 90, 90), "b-w", [255, 128], [90, 255]),
        ("#ff0000", (90, 90, 90), "b-w", [255, 0, 0], [90, 90, 90]),
        ("#ff000080", (200, 100, 50), "rgb16", [65_535, 0, 0, 32_896], [51_400, 25_700, 12_850, 65_535]),
    ],
)
def test_the_border_has_the_colour_and_the_image_keeps_its_own(background, color, kind, border, middle):
    result = padded(background, color, kind)
    assert (result.width, result.height) == (9, 6)
    assert result(0, 0) == border
    assert result(8, 5) == border
    assert result(*PLACE) == middle
    assert result(5, 3) == middle


def test_a_picture_padded_with_nothing_is_transparent_there(tmp_path):
    fit = Resize(width=100, height=100, fit="pad", background="#00000000")
    result = picture(tmp_path, sample_images.png(), fit, kind="png")
    assert result.mode == "RGBA"
    assert result.size == (100, 100)
    assert result.getpixel((50, 2))[3] == 0
    assert result.getpixel((50, 50))[3] == 255
