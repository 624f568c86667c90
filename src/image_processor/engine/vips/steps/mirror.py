"""Mirror: swap top and bottom, or left and right."""

from image_processor.engine.vips.geometry import Mirror
from image_processor.engine.vips.picture import Picture


def mirror(picture: Picture, step: Mirror) -> Picture:
    """Every frame as its mirror shows it."""
    return picture.map(lambda frame: frame.flipver() if step.upside_down else frame.fliphor())
