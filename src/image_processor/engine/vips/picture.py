"""The value that the steps pass on: the frames of one image, decoded."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import pyvips

from image_processor.engine.vips.geometry import Size


@dataclass(frozen=True)
class Picture:
    """Frames of one size; a still image has one."""

    frames: tuple[pyvips.Image, ...]
    delays: tuple[int, ...] = ()
    """Milliseconds for which each frame is shown."""
    loop: int = 0
    """How often the animation runs; 0 is for ever."""

    @property
    def size(self) -> Size:
        """The size of one frame."""
        return Size(self.frames[0].width, self.frames[0].height)

    @property
    def first(self) -> pyvips.Image:
        """The first frame."""
        return self.frames[0]

    def map(self, change: Callable[[pyvips.Image], pyvips.Image]) -> "Picture":
        """The same picture with every frame changed."""
        return replace(self, frames=tuple(change(frame) for frame in self.frames))

    def still(self) -> "Picture":
        """The first frame alone."""
        return Picture(self.frames[:1])

    def in_memory(self) -> "Picture":
        """The same picture with all its pixels worked out, so that several variants can start from them."""
        return self.map(lambda frame: frame.copy_memory())
