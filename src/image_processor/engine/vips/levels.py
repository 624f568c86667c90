"""How a look reaches the levels of an image: alpha left out, worked out in fractions, rounded once."""

from collections.abc import Callable
from functools import cache

import pyvips

from image_processor.engine.vips.color import GREY, in_depth

Change = Callable[[pyvips.Image], pyvips.Image]


def recolored(image: pyvips.Image, change: Change) -> pyvips.Image:
    """The image with its colours changed, and its alpha as it is."""
    if not image.hasalpha():
        return change(image)
    last = image.bands - 1
    return change(image[:last]).bandjoin(image[last])


def through_table(image: pyvips.Image, change: Change) -> pyvips.Image:
    """The change of every level by itself, worked out once for each level that there is."""
    is_deep = image.format == "ushort"
    table = pyvips.Image.identity(ushort=is_deep).copy(interpretation="grey16" if is_deep else "b-w")
    return image.maplut(change(table)).copy(interpretation=image.interpretation)


def rounded(image: pyvips.Image, like: pyvips.Image) -> pyvips.Image:
    """What was worked out in fractions of a level, to the nearest level of an image like this."""
    return image.rint().cast(like.format).copy(interpretation=like.interpretation)


def in_16_bits(colors: pyvips.Image, like: pyvips.Image) -> pyvips.Image:
    """
    Colours of any space as sRGB, or as grey where the other image is.

    What is to have 8 bits goes this way too: libvips' own from LAB to 8 bits is slower and up to a level off.
    """
    return colors.colourspace("grey16" if like.interpretation in GREY else "rgb16")


def as_deep_as(image: pyvips.Image, deep: pyvips.Image) -> pyvips.Image:
    """What was worked out in 16 bits, to the nearest level of an image like this."""
    if image.format == "ushort":
        return deep
    return deep.maplut(_nearest()).copy(interpretation="b-w" if deep.interpretation in GREY else "srgb")


@cache
def _nearest() -> pyvips.Image:
    return in_depth(pyvips.Image.identity(ushort=True), 8).copy_memory()
