"""Pad: lay the image on a canvas of one colour."""

import pyvips

from image_processor.engine.vips.color import beside, pixel
from image_processor.engine.vips.geometry import Pad
from image_processor.engine.vips.picture import Picture


def pad(picture: Picture, step: Pad) -> Picture:
    """Every frame on the canvas; its own transparency stays, the padding has the background's."""
    return picture.map(lambda frame: _pad(beside(frame, step.background), step))


def _pad(frame: pyvips.Image, step: Pad) -> pyvips.Image:
    size, color = step.size, pixel(step.background, frame)
    return frame.embed(step.x, step.y, size.width, size.height, extend="background", background=color)
