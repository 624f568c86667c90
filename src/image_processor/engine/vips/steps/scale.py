"""Scale: resample to an exact size with a Lanczos filter of three lobes, smaller and larger."""

from collections.abc import Callable
from functools import partial

import pyvips

from image_processor.engine.vips.geometry import Scale, Size
from image_processor.engine.vips.picture import Picture
from image_processor.engine.vips.steps.enlarge import enlarge, enlarge_lazily

Enlarge = Callable[[pyvips.Image, Size], pyvips.Image]

LANCZOS_PIXELS = 50_000_000
"""
Lanczos enlarges in memory. Above so many pixels over all frames libvips' bicubic is taken, which works out
only what a later cut keeps: that is for animations and for slivers that are to cover a square.
"""


def scale(picture: Picture, step: Scale) -> Picture:
    """Every frame in that size."""
    small_enough = step.size.pixels * len(picture.frames) <= LANCZOS_PIXELS
    return picture.map(partial(resample, size=step.size, grow=enlarge if small_enough else enlarge_lazily))


def resample(image: pyvips.Image, size: Size, grow: Enlarge = enlarge_lazily) -> pyvips.Image:
    """The image in that size; colours are weighed by their alpha, so edges stay clean."""
    if Size(image.width, image.height) == size:
        return image
    if not image.hasalpha():
        return _resample(image, size, grow)
    return _resample(image.premultiply(), size, grow).unpremultiply().rint().cast(image.format)


def _resample(image: pyvips.Image, size: Size, grow: Enlarge) -> pyvips.Image:
    own = Size(image.width, image.height)
    smaller = own.meet(size)
    if smaller != own:
        image = image.resize(smaller.width / own.width, vscale=smaller.height / own.height, kernel="lanczos3")
    return image if smaller == size else grow(image, size)
