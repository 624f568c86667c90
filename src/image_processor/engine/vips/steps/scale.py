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

SMALL_PIXELS = 100_000
COARSE_FACTOR, SMALL_COARSE_FACTOR = 2.0, 4.0
"""
Before Lanczos, libvips takes plain means as long as so much is left to shrink. In small pictures that shows:
leaving them 4 is worth half a point of SSIMULACRA2 after the codec, at a few milliseconds.
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
    if image.hasalpha():
        scaled = _resample(image.premultiply(), size, grow).unpremultiply()
    elif image.format == "ushort":
        # libvips rounds its weights for 16 bits: white would lose up to 0.4 %.
        scaled = _resample(image.cast("float"), size, grow)
    else:
        return _resample(image, size, grow)
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
        across, down = smaller.width / own.width, smaller.height / own.height
        gap = SMALL_COARSE_FACTOR if smaller.pixels <= SMALL_PIXELS else COARSE_FACTOR
        image = image.resize(across, vscale=down, kernel="lanczos3", gap=gap)
    return image if smaller == size else grow(image, size)
