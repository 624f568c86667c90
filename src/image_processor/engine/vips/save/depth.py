"""From the depth that a picture has, 8 or 16 bits a channel, to the depth that a file has."""

import pyvips

from image_processor.engine.vips.color import in_depth

FULL_OF_16 = 65_535
HALF_A_LEVEL = 0.5
"""A cast cuts the fraction off: this makes it round."""


def eight_bit(image: pyvips.Image) -> pyvips.Image:
    """The same picture with 8 bits a channel, alpha too, rounded to the nearest level."""
    return in_depth(image, 8)


def at_depth(image: pyvips.Image, bits: int) -> pyvips.Image:
    """
    The picture as libvips' savers take it for so many bits a channel, 8 to 16.

    Between 8 and 16 they write the upper bits of 16: these are set so that white stays white.
    """
    if bits in (8, 16):
        return in_depth(image, bits)
    deep = in_depth(image, 16)
    levels = deep.linear((2**bits - 1) / FULL_OF_16, HALF_A_LEVEL).cast("ushort")
    return (levels << (16 - bits)).cast("ushort").copy(interpretation=deep.interpretation)
