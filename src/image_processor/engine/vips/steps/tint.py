"""Tint: shades of one hue instead of colours."""

import pyvips

from image_processor.engine.vips.color import GREY, channels, without_profile
from image_processor.engine.vips.levels import as_deep_as, recolored
from image_processor.engine.vips.picture import Picture
from image_processor.pipeline import Tint


def tint(picture: Picture, operation: Tint) -> Picture:
    """Every frame with its own lightness and the colour's hue."""
    shades = _shades(operation.color)
    return picture.map(lambda frame: recolored(frame, lambda colors: _tint(colors, shades)))


def _tint(colors: pyvips.Image, shades: pyvips.Image) -> pyvips.Image:
    if colors.interpretation in GREY:
        colors = without_profile(colors)
    return as_deep_as(colors, colors.colourspace("grey16").maplut(shades).copy(interpretation="rgb16"))


def _shades(color: str) -> pyvips.Image:
    """For each level of grey in 16 bits the shade of the colour that is as light."""
    _lightness, a, b = _flat(channels(color)).colourspace("lab")(0, 0)
    lightness = pyvips.Image.identity(ushort=True).copy(interpretation="grey16").colourspace("lab")[0]
    # Full in the middle and none at both ends, as in sharp: black and white have no room for colour.
    chroma = 1 - (lightness / 50 - 1) ** 2
    shades = lightness.bandjoin([chroma * a, chroma * b]).copy(interpretation="lab")
    return shades.colourspace("rgb16").copy_memory()


def _flat(color: list[int]) -> pyvips.Image:
    return (pyvips.Image.black(1, 1, bands=3) + color).cast("uchar").copy(interpretation="srgb")
