"""Blur: every pixel becomes a mean of those around it, weighed by a Gaussian curve."""

import math
from functools import partial

import pyvips

from image_processor.engine.vips.levels import rounded
from image_processor.engine.vips.picture import Picture
from image_processor.pipeline import Blur

REACH = 3
"""The mask ends at so many standard deviations."""
FINE_ENOUGH = 2.5
"""With a standard deviation of so many pixels, fewer pixels would no longer do."""


def blur(picture: Picture, operation: Blur) -> Picture:
    """Every frame, blurred; its transparency too, and colours are weighed by it."""
    return picture.map(partial(_blur, sigma=operation.sigma))


def _blur(frame: pyvips.Image, sigma: float) -> pyvips.Image:
    if not frame.hasalpha():
        return rounded(_gaussian(frame, sigma), frame)
    return rounded(_gaussian(frame.premultiply(), sigma).unpremultiply(), frame)


def _gaussian(image: pyvips.Image, sigma: float) -> pyvips.Image:
    factor = math.floor(sigma / FINE_ENOUGH)
    return _on_fewer_pixels(image, sigma, factor) if factor > 1 else _convolved(image, sigma)


def _on_fewer_pixels(image: pyvips.Image, sigma: float, factor: int) -> pyvips.Image:
    """A wide blur leaves nothing fine, so that a smaller image holds it as well; its cost no longer grows."""
    border = 2 * factor
    width, height = (-side % factor + side + 2 * border for side in (image.width, image.height))
    small = image.embed(border, border, width, height, extend="copy").cast("float").shrink(factor, factor)
    # The mean over `factor` pixels is a blur by itself, with this variance.
    own = (factor**2 - 1) / 12
    soft = _convolved(small, math.sqrt(sigma**2 - own) / factor)
    offset = (factor - 1) / 2
    return soft.affine(
        [factor, 0, 0, factor],
        oarea=[border, border, image.width, image.height],
        odx=offset,
        ody=offset,
        interpolate=pyvips.Interpolate.new("bicubic"),
        extend="copy",
        premultiplied=True,
    )


def _convolved(image: pyvips.Image, sigma: float) -> pyvips.Image:
    reach = math.ceil(REACH * sigma)
    weights = [math.exp(-((x / sigma) ** 2) / 2) for x in range(-reach, reach + 1)]
    mask = pyvips.Image.new_from_array([weights], scale=sum(weights))
    # In whole numbers libvips is faster, but the picture comes out up to three levels darker or lighter.
    return image.cast("float").convsep(mask, precision="float")
