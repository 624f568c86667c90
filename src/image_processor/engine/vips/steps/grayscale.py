"""Grayscale: one band of grey instead of three of colour."""

import pyvips

from image_processor.engine.vips.color import GREY, without_profile
from image_processor.engine.vips.levels import as_deep_as, recolored
from image_processor.engine.vips.picture import Picture
from image_processor.pipeline import Grayscale


def grayscale(picture: Picture, _operation: Grayscale) -> Picture:
    """Every frame as the grey of the same luminance, which is weighed in linear light."""
    return picture.map(lambda frame: recolored(frame, _grey))


def _grey(colors: pyvips.Image) -> pyvips.Image:
    if colors.interpretation in GREY:
        return colors
    return as_deep_as(colors, without_profile(colors.colourspace("grey16")))
