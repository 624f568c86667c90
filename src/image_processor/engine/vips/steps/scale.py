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
Lanczos enlarges in memory. Above so many pixels libvips' bicubic is taken, which works out only what a later
cut keeps: that is for slivers that are to cover a square. Animations are always enlarged that way: a frame is
not looked at for long, and a hundred of them take a quarter of the time.
"""


def scale(picture: Picture, step: Scale) -> Picture:
    """Every frame in that size."""
    is_worth_it = len(picture.frames) == 1 and step.size.pixels <= LANCZOS_PIXELS
    change = resample_in_linear_light if step.is_linear else resample
    return picture.map(partial(change, size=step.size, grow=enlarge if is_worth_it else enlarge_lazily))


def resample(image: pyvips.Image, size: Size, grow: Enlarge = enlarge_lazily) -> pyvips.Image:
    """The image in that size; colours are weighed by their alpha, so edges stay clean."""
    if Size(image.width, image.height) == size:
        return image
    if not image.hasalpha():
        return _resample(image, size, grow)
    scaled = _resample(image.premultiply(), size, grow).unpremultiply()
    return scaled.cast(image.format) if image.format == "float" else scaled.rint().cast(image.format)


def resample_in_linear_light(image: pyvips.Image, size: Size, grow: Enlarge = enlarge_lazily) -> pyvips.Image:
    """The same, but what is averaged is the light itself and not its sRGB code."""
    if Size(image.width, image.height) == size:
        return image
    scaled = resample(image.colourspace("scrgb"), size, grow)
    return scaled.colourspace(image.interpretation)


def _resample(image: pyvips.Image, size: Size, grow: Enlarge) -> pyvips.Image:
    own = Size(image.width, image.height)
    smaller = own.meet(size)
    if smaller != own:
        image = image.resize(smaller.width / own.width, vscale=smaller.height / own.height, kernel="lanczos3")
    return image if smaller == size else grow(image, size)
