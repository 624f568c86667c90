"""The dominant colour of a picture."""

from collections import Counter
from itertools import compress

import pyvips

from image_processor.engine.vips.color import expanded, to_srgb
from image_processor.engine.vips.sample import of_means

SAMPLE_SIDE = 48
LEAST_SIDE = 256
"""Of a larger picture not every pixel is looked at: the shorter side is left so many."""
BIN_BITS = 3
"""Eight bins a channel: coarse enough that the shades of one thing fall together."""
NOTHING_TO_SEE = "#000000"
_BINS = bytes(level >> (8 - BIN_BITS) for level in range(256))


def dominant_color(image: pyvips.Image) -> str:
    """
    The mean of the most populated bin of a coarse histogram, `#RRGGBB`; transparent pixels do not count.

    Black where every pixel is fully transparent. The image is RGB or grey of 8 or 16 bits, in sRGB or in the
    space of the profile that it carries.
    """
    sample = expanded(to_srgb(_sample(image)))
    pixels = bytes(sample.write_to_memory())
    channels = [pixels[band :: sample.bands] for band in range(sample.bands)]
    if sample.bands == 4:
        channels = [bytes(compress(channel, channels[3])) for channel in channels[:3]]
    return _most_populated(channels)


def _sample(image: pyvips.Image) -> pyvips.Image:
    """A small copy made of means: a sharper filter would overshoot beside edges and shift flat colours."""
    every = max(1, min(image.width, image.height) // LEAST_SIDE)
    image = image.subsample(every, every)
    across, down = (min(1.0, SAMPLE_SIDE / side) for side in (image.width, image.height))
    return of_means(image, across, down)


def _most_populated(channels: list[bytes]) -> str:
    bins = list(zip(*(channel.translate(_BINS) for channel in channels), strict=True))
    if not bins:
        return NOTHING_TO_SEE
    (fullest, count), *_ = Counter(bins).most_common(1)
    members = [bin_ == fullest for bin_ in bins]
    means = (round(sum(compress(channel, members)) / count) for channel in channels)
    return "#" + "".join(f"{mean:02X}" for mean in means)
