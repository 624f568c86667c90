"""PNG: the row filter and the effort that suit the picture; a palette on request."""

from collections.abc import Mapping
from typing import Any

import oxipng
import pyvips

from image_processor.engine.vips.attachments import attach
from image_processor.engine.vips.picture import Picture
from image_processor.engine.vips.save.depth import eight_bit
from image_processor.engine.vips.save.target import Target
from image_processor.errors import EngineError
from image_processor.pipeline import Optimize, PngOutput

Options = Mapping[str, Any]

LARGE_PIXELS = 2_000_000
LARGE_LEVEL = 6
"""A third of the time of level 9 for 3 to 4 % more bytes, on filtered photos."""
FAST_LEVEL = 3
"""A tenth of the time of level 9 for 1 to 10 % more bytes, with FAST_FILTER."""
FAST_FILTER = "avg"
FILTERS = ("none", "avg", "all")
SAMPLE_SIDE = 384
OXIPNG_LEVELS = ((250_000, 4), (2_000_000, 2), (6_000_000, 1), (24_000_000, 0))
"""
The level up to so many pixels; above them libvips alone. Seconds a megapixel and bytes more than at the
highest level: 4 takes 2 to 8 s for 0.15 %, 2 takes 1 s for 0.6 %, 1 takes half of that for 1 %, 0 takes an
eighth for 5 %.
"""
PALETTE_BITS = (8, 4, 2, 1)
"""What a PNG's palette may have; libvips fills it."""


def save_png(picture: Picture, output: PngOutput, target: Target) -> None:
    """Write the first frame."""
    image, keep = attach(_pixels(picture.first, output), target)
    _METHODS[target.optimize](image, output, target, {"keep": keep, **_palette(image, output)})


def _pixels(image: pyvips.Image, output: PngOutput) -> pyvips.Image:
    if output.palette:
        return _with_colors(eight_bit(image), output.colors)
    return image if output.bit_depth == 16 else eight_bit(image)


def _with_colors(image: pyvips.Image, most: int) -> pyvips.Image:
    """GIF has palettes of every power of two; what has transparency is left to those that PNG has."""
    if image.hasalpha() or 1 << _palette_bits(most) == most:
        return image
    return pyvips.Image.gifload_buffer(image.gifsave_buffer(bitdepth=most.bit_length() - 1)).copy_memory()


def _save_fast(image: pyvips.Image, output: PngOutput, target: Target, options: Options) -> None:
    level = min(output.compression, FAST_LEVEL)
    row_filter = "none" if output.palette else FAST_FILTER
    image.pngsave(str(target.path), compression=level, filter=row_filter, **options)


def _save_balanced(image: pyvips.Image, output: PngOutput, target: Target, options: Options) -> None:
    is_large = image.width * image.height > LARGE_PIXELS
    level = min(output.compression, LARGE_LEVEL) if is_large else output.compression
    image.pngsave(str(target.path), compression=level, filter=_filter(image, options), **options)


def _save_small(image: pyvips.Image, output: PngOutput, target: Target, options: Options) -> None:
    """What libvips writes, packed anew; all that stands beside the pixels stays."""
    pixels = image.width * image.height
    level = next((level for most, level in OXIPNG_LEVELS if pixels <= most), None)
    if level is None:
        image.pngsave(
            str(target.path), compression=output.compression, filter=_filter(image, options), **options
        )
        return
    data = image.pngsave_buffer(compression=FAST_LEVEL, filter=_filter(image, options), **options)
    target.path.write_bytes(_packed(data, level))


def _packed(data: bytes, level: int) -> bytes:
    try:
        return bytes(oxipng.optimize_from_memory(data, level=level, strip=oxipng.StripChunks.none()))
    except oxipng.PngError as error:
        raise EngineError("The PNG could not be packed.") from error


_METHODS = {
    Optimize.SPEED: _save_fast,
    Optimize.BALANCED: _save_balanced,
    Optimize.SIZE: _save_small,
}


def _palette(image: pyvips.Image, output: PngOutput) -> Options:
    if not output.palette:
        return {}
    bits = _palette_bits(output.colors) if image.hasalpha() else _palette_bits_for(output.colors)
    return {"palette": True, "bitdepth": bits}


def _palette_bits(colors: int) -> int:
    """Of the largest palette that has at most so many colours."""
    return next(bits for bits in PALETTE_BITS if 1 << bits <= colors)


def _palette_bits_for(colors: int) -> int:
    """Of the smallest palette that holds so many colours, rounded down to a power of two."""
    return min(bits for bits in PALETTE_BITS if bits >= colors.bit_length() - 1)


def _filter(image: pyvips.Image, options: Options) -> str:
    """Photos need row filters, drawings are smaller without: tried on a piece from the middle."""
    if "palette" in options:
        return "none"
    width, height = min(image.width, SAMPLE_SIDE), min(image.height, SAMPLE_SIDE)
    sample = image.crop((image.width - width) // 2, (image.height - height) // 2, width, height).copy_memory()
    return min(FILTERS, key=lambda name: len(sample.pngsave_buffer(compression=6, filter=name, keep="none")))
