"""Sharpen: an unsharp mask on the lightness."""

from functools import partial

import pyvips

from image_processor.engine.vips.levels import as_deep_as, in_16_bits
from image_processor.engine.vips.picture import Picture
from image_processor.pipeline import Sharpen

MOST_LIGHTNESS = 100
EDGE = 2.0
"""By so much of L*, 0 to 100, an edge differs from what is around it. This and the others are sharp's."""
MOST_BRIGHTENING = 10.0
MOST_DARKENING = 20.0
LEAST_WEIGHT = 0.1
"""Where the mask ends, as a share of its middle."""


def sharpen(picture: Picture, operation: Sharpen) -> Picture:
    """Every frame, sharpened."""
    return picture.map(partial(_sharpen, operation=operation))


def _sharpen(frame: pyvips.Image, operation: Sharpen) -> pyvips.Image:
    if not (operation.flat or operation.jagged):
        return frame
    if not frame.hasalpha():
        return _on_lightness(frame, None, operation)
    last = frame.bands - 1
    alpha = frame[last]
    return _on_lightness(frame[:last], alpha, operation).bandjoin(alpha)


def _on_lightness(colors: pyvips.Image, alpha: pyvips.Image | None, operation: Sharpen) -> pyvips.Image:
    lab = colors.colourspace("lab")
    detail = lab[0] - _mean(lab[0], alpha, operation.sigma)
    lightness = (lab[0] + _gained(detail, operation)).clamp(min=0, max=MOST_LIGHTNESS)
    sharp = lightness.bandjoin(lab[1:]).copy(interpretation="lab")
    return as_deep_as(colors, in_16_bits(sharp, like=colors))


def _mean(lightness: pyvips.Image, alpha: pyvips.Image | None, sigma: float) -> pyvips.Image:
    """Of what is around each pixel; what cannot be seen has no part in it."""
    mask = pyvips.Image.gaussmat(sigma, LEAST_WEIGHT, separable=True, precision="integer")
    if alpha is None:
        return lightness.convsep(mask, precision="float")
    weight = alpha.cast("float")
    return (lightness * weight).convsep(mask, precision="float") / weight.convsep(mask, precision="float")


def _gained(detail: pyvips.Image, operation: Sharpen) -> pyvips.Image:
    """Detail up to `EDGE` counts as flat; only what goes beyond that is multiplied as jagged."""
    small = detail.clamp(min=-EDGE, max=EDGE)
    gained = detail * operation.jagged + small * (operation.flat - operation.jagged)
    return gained.clamp(min=-MOST_DARKENING, max=MOST_BRIGHTENING)
