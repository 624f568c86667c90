"""Spin: turn by any angle."""

import math
from functools import partial

import pyvips

from image_processor.engine.vips.color import beside, most, pixel
from image_processor.engine.vips.geometry import Spin
from image_processor.engine.vips.levels import rounded
from image_processor.engine.vips.picture import Picture

MARGIN = 3
"""Around the image, in pixels: as far as the interpolation looks."""


def spin(picture: Picture, step: Spin) -> Picture:
    """Every frame, turned clockwise on a canvas of the step's size and colour."""
    return picture.map(partial(_spin, step=step))


def _spin(frame: pyvips.Image, step: Spin) -> pyvips.Image:
    """Its edges are those of a mask: the image goes on beyond them, so that nothing foreign mixes in."""
    frame = beside(frame, step.background).copy_memory()
    inside = _turned(_mask(frame), step, "bilinear", "black")
    turned = partial(_turned, step=step, interpolation="bicubic", beyond="copy")
    background = pixel(step.background, frame)
    if not frame.hasalpha():
        return inside.ifthenelse(turned(frame), background, blend=True).copy(
            interpretation=frame.interpretation
        )
    *color, alpha = background
    weighed = [*(level * alpha / most(frame) for level in color), alpha]
    image = turned(frame.premultiply()).copy(interpretation=frame.interpretation)
    mixed = inside.ifthenelse(image, weighed, blend=True).copy(interpretation=frame.interpretation)
    return rounded(mixed.unpremultiply(), frame)


def _mask(frame: pyvips.Image) -> pyvips.Image:
    return (pyvips.Image.black(frame.width, frame.height) + 255).cast("uchar")


def _turned(image: pyvips.Image, step: Spin, interpolation: str, beyond: str) -> pyvips.Image:
    """Turned around the middle of the image, which comes to the middle of the canvas."""
    across, down = math.cos(math.radians(step.degrees)), math.sin(math.radians(step.degrees))
    width, height = image.width + 2 * MARGIN, image.height + 2 * MARGIN
    # A pixel's place is that of its middle.
    return image.embed(MARGIN, MARGIN, width, height, extend=beyond).affine(
        [across, -down, down, across],
        idx=-(width - 1) / 2,
        idy=-(height - 1) / 2,
        odx=(step.size.width - 1) / 2,
        ody=(step.size.height - 1) / 2,
        oarea=[0, 0, step.size.width, step.size.height],
        interpolate=pyvips.Interpolate.new(interpolation),
        premultiplied=True,
    )
