"""BlurHash: a picture as some thirty characters. After the algorithm that Wolt published; no pyvips."""

import math
from collections.abc import Sequence
from operator import mul

from image_processor.engine.vips.sample import Sample

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz#$%*+,-.:;=?@[]^_{|}~"
MOST, FEWEST = 4, 3
"""Waves along the longer and along the shorter side."""

Waves = tuple[float, float, float]
"""How much of one wave is in red, green and blue, in linear light."""


def _to_linear(level: float) -> float:
    """IEC 61966-2-1."""
    share = level / 255
    return float(share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4)


_LINEAR = [_to_linear(level) for level in range(256)]


def blurhash(sample: Sample, waves: tuple[int, int] | None = None) -> str:
    """
    The hash of a picture; what is transparent takes the mean colour of what can be seen.

    Args:
        sample: some 64 pixels along its longer side are enough.
        waves: how many across and down, 1 to 9 each; by the picture's shape where they are not given.
    """
    across, down = waves or default_waves(sample.width, sample.height)
    planes = [_linear_plane(sample, channel) for channel in range(3)]
    first, *others = zip(*(_transform(plane, sample, across, down) for plane in planes), strict=True)
    size = _base83(across - 1 + (down - 1) * 9, 1)
    return size + _others_scale(others) + _base83(_pack_mean(first), 4) + _pack_others(others)


def default_waves(width: int, height: int) -> tuple[int, int]:
    """Four along the longer side and three along the other; never more than there are pixels."""
    across, down = (MOST, FEWEST) if width >= height else (FEWEST, MOST)
    return min(across, width), min(down, height)


def _linear_plane(sample: Sample, channel: int) -> list[float]:
    behind = _to_linear(sample.visible_mean[channel])
    return [
        behind + (_LINEAR[level] - behind) * alpha / 255
        for level, alpha in zip(sample.channels[channel], sample.alpha, strict=True)
    ]


def _transform(plane: list[float], sample: Sample, across: int, down: int) -> list[float]:
    """How much of each wave is in a plane, row by row; the first is the mean."""
    cosines = [_cosines(wave, sample.width) for wave in range(across)]
    rows = [plane[at : at + sample.width] for at in range(0, len(plane), sample.width)]
    by_row = [[_product(row, cosine) for row in rows] for cosine in cosines]
    pixels = sample.width * sample.height
    return [
        _product(column, _cosines(wave, sample.height)) * (1 if number == wave == 0 else 2) / pixels
        for wave in range(down)
        for number, column in enumerate(by_row)
    ]


def _cosines(wave: int, length: int) -> list[float]:
    return [math.cos(math.pi * wave * at / length) for at in range(length)]


def _product(one: Sequence[float], other: Sequence[float]) -> float:
    return math.fsum(map(mul, one, other))


def _others_scale(others: Sequence[Waves]) -> str:
    return _base83(_scale_level(others), 1)


def _scale_level(others: Sequence[Waves]) -> int:
    largest = max((abs(part) for wave in others for part in wave), default=0.0)
    return int(max(0, min(82, math.floor(largest * 166 - 0.5))))


def _pack_others(others: Sequence[Waves]) -> str:
    scale = (_scale_level(others) + 1) / 166
    return "".join(_base83(_pack_wave(wave, scale), 2) for wave in others)


def _pack_wave(wave: Waves, scale: float) -> int:
    red, green, blue = (_level_of_19(part / scale) for part in wave)
    return red * 19 * 19 + green * 19 + blue


def _level_of_19(part: float) -> int:
    root = math.copysign(math.sqrt(abs(part)), part)
    return int(max(0, min(18, math.floor(root * 9 + 9.5))))


def _pack_mean(mean: Waves) -> int:
    red, green, blue = map(_to_srgb, mean)
    return (red << 16) + (green << 8) + blue


def _to_srgb(linear: float) -> int:
    share = max(0.0, min(1.0, linear))
    coded = share * 12.92 if share <= 0.0031308 else 1.055 * share ** (1 / 2.4) - 0.055
    return int(coded * 255 + 0.5)


def _base83(number: int, length: int) -> str:
    return "".join(ALPHABET[number // 83**place % 83] for place in reversed(range(length)))
