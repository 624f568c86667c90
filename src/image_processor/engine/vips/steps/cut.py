"""Cut: keep a region."""

from image_processor.engine.vips.geometry import Cut
from image_processor.engine.vips.picture import Picture


def cut(picture: Picture, step: Cut) -> Picture:
    """The region of every frame."""
    return picture.map(lambda frame: frame.crop(step.x, step.y, step.size.width, step.size.height))
