"""The pictures that variants start from: the decoded original, and each smaller size that was made of it."""

from image_processor.engine.vips.geometry import Scale, Size
from image_processor.engine.vips.picture import Picture
from image_processor.engine.vips.plan import is_clean_shrink
from image_processor.engine.vips.steps.scale import scale


class Shelf:
    """Pictures of one original in memory, by size. Asked for large ones first, it makes each from another."""

    def __init__(self, base: Picture) -> None:
        self.base = base
        self._pictures = {base.size: base}

    def picture(self, size: Size) -> Picture:
        """The original in that size, which is no larger than the base."""
        if size not in self._pictures:
            self._pictures[size] = scale(self._nearest(size), Scale(size)).in_memory()
        return self._pictures[size]

    def _nearest(self, size: Size) -> Picture:
        """The smallest that is still so much larger that resampling it a second time is not seen."""
        enough = [picture for own, picture in self._pictures.items() if is_clean_shrink(own, size)]
        return min(enough, key=lambda picture: picture.size.pixels, default=self.base)
