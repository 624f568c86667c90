"""Flatten: lay the picture on a colour."""

import pyvips

from image_processor.engine.vips.color import beside, most, pixel
from image_processor.engine.vips.levels import rounded
from image_processor.engine.vips.picture import Picture
from image_processor.pipeline import Flatten


def flatten(picture: Picture, operation: Flatten) -> Picture:
    """Every frame without alpha: its colours, mixed with the background as far as they let it through."""
    return picture.map(lambda frame: _flatten(frame, operation.background) if frame.hasalpha() else frame)


def _flatten(frame: pyvips.Image, background: str) -> pyvips.Image:
    frame = beside(frame, background)
    *color, _opaque = pixel(background, frame)
    return rounded(frame.cast("float").flatten(background=color, max_alpha=most(frame)), frame)
