"""GIF: still and animated, its colours reduced to a palette."""

from collections.abc import Mapping

from image_processor.engine.vips.attachments import attach
from image_processor.engine.vips.picture import Picture
from image_processor.engine.vips.save.frames import strip_of_frames, timed
from image_processor.engine.vips.save.target import Target
from image_processor.pipeline import GifOutput, Optimize

EFFORTS: Mapping[Optimize, int] = {Optimize.SPEED: 3, Optimize.BALANCED: 7, Optimize.SIZE: 10}
"""How hard the palette is chosen, 1 to 10."""


def save_gif(picture: Picture, output: GifOutput, target: Target) -> None:
    """Write all frames; a palette has the next power of two below or at `colors`."""
    image, keep = attach(strip_of_frames(picture), target)
    timed(image, picture).gifsave(
        str(target.path),
        bitdepth=output.colors.bit_length() - 1,
        dither=output.dither,
        effort=EFFORTS[target.optimize],
        keep=keep,
    )
