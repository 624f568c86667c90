"""Placeholder: a ThumbHash as a tiny PNG in a `data:` URL, in plain Python; the hashes are made elsewhere."""

import base64
import math
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from operator import mul

LONGEST_SIDE = 12
"""Of the PNG, in pixels: a hash has seven waves at most, so more would only make the page longer."""
WAVES_OPAQUE, WAVES_WITH_ALPHA = 7, 5
MORE_COLOR = 1.25
"""How much the reference decoder saturates what quantisation has dulled."""
KEPT = 4096
"""Placeholders in memory; each is below 1 kB."""

Plane = list[float]


@dataclass(frozen=True)
class _Head:
    """What stands before the waves; the format is Evan Wallace's, github.com/evanw/thumbhash."""

    means: tuple[float, float, float]
    """Lightness from 0 to 1; yellow against blue and red against green from -1 to 1."""
    scales: tuple[float, float, float]
    across: int
    """Waves of lightness."""
    down: int
    has_alpha: bool

    @property
    def size(self) -> tuple[int, int]:
        """Of the PNG: nearly the shape of the picture."""
        longest = max(self.across, self.down)
        return round(LONGEST_SIDE * self.across / longest), round(LONGEST_SIDE * self.down / longest)


@lru_cache(maxsize=KEPT)
def placeholder_url(thumbhash: str) -> str | None:
    """A PNG of at most 12 x 12 pixels as a `data:` URL, of a ThumbHash in base64; None for what is none."""
    try:
        png = _png(*_pixels(base64.b64decode(thumbhash, validate=True)))
    except (ValueError, IndexError):
        return None
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"


def has_alpha(thumbhash: str) -> bool:
    """Whether the picture lets its background through somewhere; False for what is no ThumbHash."""
    try:
        return _head(base64.b64decode(thumbhash, validate=True)).has_alpha
    except (ValueError, IndexError):
        return False


def _head(data: bytes) -> _Head:
    first, second = int.from_bytes(data[:3], "little"), int.from_bytes(data[3:5], "little")
    if len(data) < 5:
        raise ValueError("a ThumbHash has at least 5 bytes")
    alpha, is_landscape = bool(first >> 23), bool(second >> 15)
    longer, shorter = WAVES_WITH_ALPHA if alpha else WAVES_OPAQUE, second & 7
    return _Head(
        means=((first & 63) / 63, (first >> 6 & 63) / 31.5 - 1, (first >> 12 & 63) / 31.5 - 1),
        scales=((first >> 18 & 31) / 31, (second >> 3 & 63) / 63, (second >> 9 & 63) / 63),
        across=max(3, longer if is_landscape else shorter),
        down=max(3, shorter if is_landscape else longer),
        has_alpha=alpha,
    )


def _pixels(data: bytes) -> tuple[bytes, int, int]:
    """Rows of RGB or RGBA, the width, and the bytes of a pixel."""
    head = _head(data)
    means, scales = [*head.means], [head.scales[0], *(MORE_COLOR * scale for scale in head.scales[1:])]
    waves = [(head.across, head.down), (3, 3), (3, 3)]
    if head.has_alpha:
        means.append((data[5] & 15) / 15)
        scales.append((data[5] >> 4) / 15)
        waves.append((5, 5))
    levels = _levels(data[6 if head.has_alpha else 5 :])
    lightness, yellow, red, *alpha = [
        _plane(mean, {at: 2 * scale * next(levels) for at in _triangle(*size)}, head.size)
        for mean, scale, size in zip(means, scales, waves, strict=True)
    ]
    return _interleaved([*_rgb(lightness, yellow, red), *alpha]), head.size[0], len(means)


def _levels(data: bytes) -> Iterator[float]:
    """Two a byte, the lower half first, from -1 to 1; raises ValueError where too few are left."""
    for byte in data:
        yield (byte & 15) / 7.5 - 1
        yield (byte >> 4) / 7.5 - 1
    raise ValueError("the ThumbHash ends too early")


def _triangle(across: int, down: int) -> Iterator[tuple[int, int]]:
    """The waves that are kept, in their order; the mean is none of them."""
    return (
        (wave, row)
        for row in range(down)
        for wave in range(0 if row else 1, across)
        if wave * down < across * (down - row)
    )


def _plane(mean: float, waves: dict[tuple[int, int], float], size: tuple[int, int]) -> Plane:
    """The inverse cosine transform: first down, then across."""
    width, height = size
    across = 1 + max(wave for wave, _ in waves)
    bases = list(zip(*(_cosines(wave, width) for wave in range(across)), strict=True))
    plane: Plane = []
    for y in range(height):
        sums = [mean] + [0.0] * (across - 1)
        for (wave, row), level in waves.items():
            sums[wave] += level * _cosines(row, height)[y]
        plane += [sum(map(mul, sums, basis)) for basis in bases]
    return plane


@cache
def _cosines(wave: int, length: int) -> tuple[float, ...]:
    return tuple(math.cos(math.pi / length * wave * (at + 0.5)) for at in range(length))


def _rgb(lightness: Plane, yellow: Plane, red: Plane) -> tuple[Plane, Plane, Plane]:
    blue = [light - 2 / 3 * shift for light, shift in zip(lightness, yellow, strict=True)]
    reds = [(3 * light - level + shift) / 2 for light, level, shift in zip(lightness, blue, red, strict=True)]
    return reds, [level - shift for level, shift in zip(reds, red, strict=True)], blue


def _interleaved(planes: Sequence[Plane]) -> bytes:
    pixels = bytearray(len(planes) * len(planes[0]))
    for at, plane in enumerate(planes):
        pixels[at :: len(planes)] = bytes(min(255, max(0, int(255 * level + 0.5))) for level in plane)
    return bytes(pixels)


def _png(pixels: bytes, width: int, depth: int) -> bytes:
    """As short as the PNG specification (W3C, third edition) allows: one IHDR, one IDAT, one IEND."""
    stride = width * depth
    rows = [_filtered(pixels[at : at + stride], depth) for at in range(0, len(pixels), stride)]
    header = struct.pack(">IIBBBBB", width, len(rows), 8, 6 if depth == 4 else 2, 0, 0, 0)
    chunks = {b"IHDR": header, b"IDAT": zlib.compress(b"".join(rows), 9), b"IEND": b""}
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*chunk) for chunk in chunks.items())


def _filtered(row: bytes, depth: int) -> bytes:
    """PNG's filter "Sub": each byte less the one to its left, which are alike here."""
    return b"\x01" + bytes((here - left) & 255 for here, left in zip(row, bytes(depth) + row, strict=False))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
