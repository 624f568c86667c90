"""AVIF, coded with AV1: 8, 10 or 12 bits a channel."""

from collections.abc import Mapping

from image_processor.engine.vips.attachments import attach
from image_processor.engine.vips.picture import Picture
from image_processor.engine.vips.save.depth import at_depth
from image_processor.engine.vips.save.target import Target
from image_processor.pipeline import AvifOutput, Optimize

SPEEDS: Mapping[Optimize, int] = {Optimize.SPEED: 9, Optimize.BALANCED: 7, Optimize.SIZE: 5}
"""
The encoder's, 0 slowest to 9. Three photos of 2 megapixels, one thread, seconds for one and bytes of all:
9: 0.2 s, 465 kB. 8: 0.5 s, 446 kB. 7: 1.1 s, 444 kB. 6: 1.6 s, 420 kB. 5: 6.7 s, 406 kB. 3: 22 s, 394 kB.
"""
SLOWEST = 9
"""libvips counts the other way round, by effort."""
SUBSAMPLING: Mapping[str, str] = {"4:2:0": "on", "4:4:4": "off", "auto": "auto"}


def save_avif(picture: Picture, output: AvifOutput, target: Target) -> None:
    """Write the first frame."""
    image, keep = attach(at_depth(picture.first, output.bit_depth), target)
    speed = SPEEDS[target.optimize] if output.speed is None else output.speed
    image.heifsave(
        str(target.path),
        compression="av1",
        Q=output.quality,
        lossless=output.lossless,
        effort=SLOWEST - speed,
        bitdepth=output.bit_depth,
        subsample_mode="off" if output.lossless else SUBSAMPLING[output.subsampling],
        keep=keep,
    )
