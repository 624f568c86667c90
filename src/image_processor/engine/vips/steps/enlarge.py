"""Enlarging with Lanczos: libvips' own resize silently takes bicubic when it enlarges."""

import math

import pyvips

from image_processor.engine.vips.geometry import Size

LOBES = 3


def enlarge(image: pyvips.Image, size: Size) -> pyvips.Image:
    """The image in a size that is nowhere smaller than its own; with Lanczos, in memory."""
    return _widen(_widen(image, size.width).rot90(), size.height).rot270()


def enlarge_lazily(image: pyvips.Image, size: Size) -> pyvips.Image:
    """The same with libvips' bicubic, of which only those pixels are worked out that are asked for."""
    return image.resize(size.width / image.width, vscale=size.height / image.height, kernel="cubic")


def _widen(image: pyvips.Image, width: int) -> pyvips.Image:
    """Interpolate a whole number of times, then shrink the rest of the way, as libvips can."""
    factor = math.ceil(width / image.width)
    if factor == 1:
        return image
    wide = _interleave([_shifted(image, phase, factor) for phase in range(factor)])
    return wide if wide.width == width else wide.reduceh(wide.width / width, kernel="lanczos3")


def _shifted(image: pyvips.Image, phase: int, factor: int) -> pyvips.Image:
    """Every pixel as it would be a part of a pixel further on, by `phase` of `factor`."""
    position = (phase + 0.5) / factor - 0.5
    # A tap more than twice the lobes: the window around a shifted centre reaches into one more pixel.
    taps = [_lanczos(tap - position) for tap in range(-LOBES, LOBES + 1)]
    mask = pyvips.Image.new_from_array([taps], scale=sum(taps))
    shifted = image.conv(mask, precision="float")
    # Premultiplied and linear pictures stay fractions: a whole level is coarse where there is little light.
    return shifted if image.format == "float" else shifted.rint().cast(image.format)


def _interleave(phases: list[pyvips.Image]) -> pyvips.Image:
    """The columns of all images in turn: joined bands, read again as a longer row of pixels."""
    joined = phases[0].bandjoin(phases[1:])
    first = phases[0]
    wide = pyvips.Image.new_from_memory(
        joined.write_to_memory(), first.width * len(phases), first.height, first.bands, first.format
    )
    return wide.copy(interpretation=first.interpretation)


def _lanczos(x: float) -> float:
    if x == 0:
        return 1.0
    if abs(x) >= LOBES:
        return 0.0
    angle = math.pi * x
    return LOBES * math.sin(angle) * math.sin(angle / LOBES) / angle**2
