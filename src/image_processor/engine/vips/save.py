"""From a finished picture to a file without metadata: one saver per output format."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyvips

from image_processor.engine.vips.color import channels, expanded
from image_processor.engine.vips.picture import Picture
from image_processor.pipeline import JpegOutput, PngOutput, WebpOutput
from image_processor.pipeline.outputs import FixedOutput

PROGRESSIVE_FROM_BYTES = 10_000
PROBABLY_PROGRESSIVE_PIXELS = 256 * 256
"""Of so many pixels a JPEG is nearly always long enough to be progressive: that is then tried first."""
WEBP_LARGE_PIXELS = 2_000_000
WEBP_EFFORT = 4
WEBP_LARGE_EFFORT = 2
"""Half the time of effort 4 for 3 % more bytes; see bench/."""
MAX_LOOP = 65_535
"""WebP counts an animation's runs in 16 bits."""
PNG_LARGE_PIXELS = 2_000_000
PNG_LARGE_LEVEL = 6
"""A third of the time of level 9 for 3 to 4 % more bytes, on filtered photos."""
PNG_FILTERS = ("none", "avg", "all")
PNG_SAMPLE_SIDE = 384


def save(picture: Picture, output: FixedOutput, path: Path) -> None:
    """Write the file: its pixels and nothing else."""
    _SAVERS[type(output)](picture, output, path)


def _save_jpeg(picture: Picture, output: JpegOutput, path: Path) -> None:
    image = _opaque(picture.first, output.background)
    guess = image.width * image.height >= PROBABLY_PROGRESSIVE_PIXELS
    _write_jpeg(image, output, path, progressive=guess)
    needed = path.stat().st_size > PROGRESSIVE_FROM_BYTES
    if needed != guess:
        _write_jpeg(image, output, path, progressive=needed)


def _write_jpeg(image: pyvips.Image, output: JpegOutput, path: Path, *, progressive: bool) -> None:
    image.jpegsave(
        str(path),
        Q=output.quality,
        optimize_coding=True,
        interlace=progressive,
        subsample_mode="on",
        keep="none",
    )


def _opaque(image: pyvips.Image, background: str) -> pyvips.Image:
    if not image.hasalpha():
        return image
    color = channels(background)
    if image.bands == 2 and len(set(color)) > 1:
        image = expanded(image)
    return image.flatten(background=color[: image.bands - 1])


def _save_png(picture: Picture, output: PngOutput, path: Path) -> None:
    image = picture.first
    is_large = image.width * image.height > PNG_LARGE_PIXELS
    level = min(output.compression, PNG_LARGE_LEVEL) if is_large else output.compression
    image.pngsave(str(path), compression=level, filter=_png_filter(image), keep="none")


def _png_filter(image: pyvips.Image) -> str:
    """Photos need row filters, drawings are smaller without: tried on a piece from the middle."""
    width, height = min(image.width, PNG_SAMPLE_SIDE), min(image.height, PNG_SAMPLE_SIDE)
    sample = image.crop((image.width - width) // 2, (image.height - height) // 2, width, height).copy_memory()
    return min(PNG_FILTERS, key=lambda name: len(sample.pngsave_buffer(compression=6, filter=name)))


def _save_webp(picture: Picture, output: WebpOutput, path: Path) -> None:
    pixels = picture.size.pixels * len(picture.frames)
    options: dict[str, Any] = {
        "Q": output.quality,
        "lossless": output.lossless,
        "effort": WEBP_LARGE_EFFORT if pixels > WEBP_LARGE_PIXELS else WEBP_EFFORT,
        "smart_subsample": False,
        "keep": "none",
    }
    if len(picture.frames) > 1:
        _strip_of_frames(picture).webpsave(str(path), page_height=picture.size.height, **options)
    else:
        picture.first.webpsave(str(path), **options)


def _strip_of_frames(picture: Picture) -> pyvips.Image:
    strip = pyvips.Image.arrayjoin(list(picture.frames), across=1).copy()
    strip.set_type(pyvips.GValue.gint_type, "page-height", picture.size.height)
    strip.set_type(pyvips.GValue.gint_type, "loop", min(picture.loop, MAX_LOOP))
    if picture.delays:
        strip.set_type(pyvips.GValue.array_int_type, "delay", list(picture.delays))
    return strip


_SAVERS: Mapping[type[FixedOutput], Callable[[Picture, Any, Path], None]] = {
    JpegOutput: _save_jpeg,
    PngOutput: _save_png,
    WebpOutput: _save_webp,
}
