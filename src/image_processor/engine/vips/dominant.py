"""The dominant colour of a picture."""

from collections import Counter, defaultdict

import pyvips

from image_processor.engine.vips.color import expanded

SAMPLE_SIDE = 64
BIN_BITS = 3
"""Eight bins a channel: coarse enough that the shades of one thing fall together."""
NOTHING_TO_SEE = "#000000"


def dominant_color(image: pyvips.Image) -> str:
    """
    The mean of the most populated bin of a coarse histogram, `#RRGGBB`; transparent pixels do not count.

    Black where every pixel is fully transparent. The image is sRGB or grey, 8 bit.
    """
    sample = expanded(_sample(image))
    pixels = bytes(sample.write_to_memory())
    channels = [pixels[band :: sample.bands] for band in range(sample.bands)]
    colors = list(zip(*channels[:3], strict=True))
    visible = (
        [color for color, alpha in zip(colors, channels[3], strict=True) if alpha]
        if sample.bands == 4
        else colors
    )
    return _most_populated(visible)


def _sample(image: pyvips.Image) -> pyvips.Image:
    """A small copy made of means: a sharper filter would overshoot beside edges and shift flat colours."""
    across, down = (min(1.0, SAMPLE_SIDE / side) for side in (image.width, image.height))
    if not image.hasalpha():
        return image.resize(across, vscale=down, kernel="linear")
    small = image.premultiply().resize(across, vscale=down, kernel="linear")
    return small.unpremultiply().rint().cast("uchar")


def _most_populated(colors: list[tuple[int, ...]]) -> str:
    bins: defaultdict[tuple[int, ...], list[tuple[int, ...]]] = defaultdict(list)
    for color in colors:
        bins[tuple(channel >> (8 - BIN_BITS) for channel in color)].append(color)
    if not bins:
        return NOTHING_TO_SEE
    (fullest, count), *_ = Counter({bin_: len(members) for bin_, members in bins.items()}).most_common(1)
    means = (round(sum(channel) / count) for channel in zip(*bins[fullest], strict=True))
    return "#" + "".join(f"{mean:02X}" for mean in means)
