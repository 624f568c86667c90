"""ThumbHash: a picture with its shape and transparency in 25 bytes. After Evan Wallace; no pyvips."""

import base64
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import mul

from image_processor.engine.vips.sample import Sample

LONGEST_SIDE = 100
"""What the algorithm takes at most, in pixels."""
WAVES_OPAQUE, WAVES_WITH_ALPHA = 7, 5
"""Of lightness along the longer side; colour has three."""
SMALLEST_SCALE = 1e-9
"""Less than this is rounding: a flat picture has no waves."""


@dataclass(frozen=True)
class _Channel:
    mean: float
    waves: tuple[float, ...]
    """From 0 to 1."""
    scale: float


@dataclass(frozen=True)
class _Planes:
    """Lightness, yellow against blue, red against green, and alpha: 0 to 1, or -1 to 1 for the colours."""

    lightness: list[float]
    yellow: list[float]
    red: list[float]
    alpha: list[float]


def thumbhash(sample: Sample) -> str:
    """The hash of a picture of at most 100 x 100 pixels, in base64."""
    return base64.b64encode(thumbhash_bytes(sample)).decode("ascii")


def thumbhash_bytes(sample: Sample) -> bytes:
    """The hash as it is defined."""
    has_alpha = min(sample.alpha) < 255
    across, down = _waves_of_lightness(sample, has_alpha=has_alpha)
    planes = _planes(sample)
    lightness = _encode(planes.lightness, sample, max(3, across), max(3, down))
    colors = [_encode(plane, sample, 3, 3) for plane in (planes.yellow, planes.red)]
    alpha = [_encode(planes.alpha, sample, 5, 5)] if has_alpha else []
    shape = down if sample.width > sample.height else across
    head = _head(lightness, *colors, shape=shape, flags=(has_alpha, sample.width > sample.height))
    for channel in alpha:
        head += bytes([_round(15 * channel.mean) | _round(15 * channel.scale) << 4])
    return head + _nibbles([lightness, *colors, *alpha])


def _waves_of_lightness(sample: Sample, *, has_alpha: bool) -> tuple[int, int]:
    most = WAVES_WITH_ALPHA if has_alpha else WAVES_OPAQUE
    longest = max(sample.width, sample.height)
    return max(1, _round(most * sample.width / longest)), max(1, _round(most * sample.height / longest))


def _planes(sample: Sample) -> _Planes:
    """What is transparent takes the mean colour of what can be seen."""
    alpha = [value / 255 for value in sample.alpha]
    behind = [mean / 255 for mean in sample.visible_mean]
    red, green, blue = (
        [mean + (level / 255 - mean) * share for level, share in zip(channel, alpha, strict=True)]
        for channel, mean in zip(sample.channels, behind, strict=True)
    )
    colors = list(zip(red, green, blue, strict=True))
    return _Planes(
        lightness=[(r + g + b) / 3 for r, g, b in colors],
        yellow=[(r + g) / 2 - b for r, g, b in colors],
        red=[r - g for r, g, _ in colors],
        alpha=alpha,
    )


def _encode(plane: list[float], sample: Sample, across: int, down: int) -> _Channel:
    """The mean, and the waves of a triangle of the cosine transform, scaled by the largest."""
    mean, *waves = _transform(plane, sample, across, down)
    scale = max(map(abs, waves), default=0.0)
    if scale < SMALLEST_SCALE:
        return _Channel(mean, (0.0,) * len(waves), 0.0)
    return _Channel(mean, tuple(0.5 + 0.5 / scale * wave for wave in waves), scale)


def _transform(plane: list[float], sample: Sample, across: int, down: int) -> Iterator[float]:
    cosines = [_cosines(wave, sample.width) for wave in range(across)]
    rows = [plane[at : at + sample.width] for at in range(0, len(plane), sample.width)]
    by_row = [[_product(row, cosine) for row in rows] for cosine in cosines]
    for wave in range(down):
        column = _cosines(wave, sample.height)
        for number in range(across):
            if number * down < across * (down - wave):
                yield _product(by_row[number], column) / len(plane)


def _cosines(wave: int, length: int) -> list[float]:
    return [math.cos(math.pi / length * wave * (at + 0.5)) for at in range(length)]


def _product(one: Sequence[float], other: Sequence[float]) -> float:
    return math.fsum(map(mul, one, other))


def _head(
    lightness: _Channel, yellow: _Channel, red: _Channel, *, shape: int, flags: tuple[bool, bool]
) -> bytes:
    has_alpha, is_landscape = flags
    first = (
        _round(63 * lightness.mean)
        | _round(31.5 + 31.5 * yellow.mean) << 6
        | _round(31.5 + 31.5 * red.mean) << 12
        | _round(31 * lightness.scale) << 18
        | has_alpha << 23
    )
    second = shape | _round(63 * yellow.scale) << 3 | _round(63 * red.scale) << 9 | is_landscape << 15
    return first.to_bytes(3, "little") + second.to_bytes(2, "little")


def _nibbles(channels: Sequence[_Channel]) -> bytes:
    """Two waves a byte, the first in the lower half."""
    levels = [_round(15 * wave) for channel in channels for wave in channel.waves]
    levels += [0] * (len(levels) % 2)
    return bytes(low | high << 4 for low, high in zip(levels[::2], levels[1::2], strict=True))


def _round(number: float) -> int:
    """Halves upwards, as the original does."""
    return math.floor(number + 0.5)
