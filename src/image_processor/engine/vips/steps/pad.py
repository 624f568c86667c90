"""Pad: lay the image on a canvas of one colour."""

import pyvips

from image_processor.engine.vips.color import channels, expanded
from image_processor.engine.vips.geometry import Pad
from image_processor.engine.vips.picture import Picture

OPAQUE = 255


def pad(picture: Picture, step: Pad) -> Picture:
    """Every frame on the canvas; its own transparency stays, the padding is opaque."""
    return picture.map(lambda frame: _pad(expanded(frame), step))


def _pad(frame: pyvips.Image, step: Pad) -> pyvips.Image:
    background = [*channels(step.background), OPAQUE][: frame.bands]
    size = step.size
    return frame.embed(step.x, step.y, size.width, size.height, extend="background", background=background)
