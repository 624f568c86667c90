"""Turn: by quarters, clockwise."""

from image_processor.engine.vips.geometry import Turn
from image_processor.engine.vips.picture import Picture


def turn(picture: Picture, step: Turn) -> Picture:
    """Every frame, turned."""
    return picture.map(lambda frame: frame.rot(f"d{step.degrees}"))
