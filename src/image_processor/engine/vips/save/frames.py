"""The frames of an animation as libvips' savers want them: one below the other, with their times."""

import pyvips

from image_processor.engine.vips.picture import Picture
from image_processor.engine.vips.save.depth import eight_bit

MAX_LOOP = 65_535
"""WebP and GIF count an animation's runs in 16 bits."""


def strip_of_frames(picture: Picture) -> pyvips.Image:
    """All frames as one image of 8 bits a channel; a still is its one frame."""
    frames = [eight_bit(frame) for frame in picture.frames]
    return frames[0] if len(frames) == 1 else pyvips.Image.arrayjoin(frames, across=1)


def timed(strip: pyvips.Image, picture: Picture) -> pyvips.Image:
    """The strip with what makes it an animation: the height of a frame, the delays and the loop."""
    if len(picture.frames) == 1:
        return strip
    strip = strip.copy()
    strip.set_type(pyvips.GValue.gint_type, "page-height", picture.size.height)
    strip.set_type(pyvips.GValue.gint_type, "loop", min(picture.loop, MAX_LOOP))
    if picture.delays:
        strip.set_type(pyvips.GValue.array_int_type, "delay", list(picture.delays))
    return strip
