"""JPEG: progressive where it is long enough, without transparency, by the encoder that suits the time."""

from collections.abc import Mapping
from typing import Any, cast

import pyvips

from image_processor.engine.vips.attachments import attach, jpeg_segments
from image_processor.engine.vips.color import channels, expanded
from image_processor.engine.vips.geometry import Size
from image_processor.engine.vips.picture import Picture
from image_processor.engine.vips.save import jpegli
from image_processor.engine.vips.save.depth import eight_bit
from image_processor.engine.vips.save.quality_scale import MOZJPEG_TABLES, on_scale
from image_processor.engine.vips.save.target import Target
from image_processor.engine.vips.segments import with_segments
from image_processor.pipeline import JpegOutput, Optimize

PROGRESSIVE_FROM_BYTES = 10_000
PROBABLY_PROGRESSIVE_PIXELS = 256 * 256
"""Of so many pixels a JPEG is nearly always long enough to be progressive: that is then tried first."""
FULL_COLOR_FROM_QUALITY = 90
"""Where `auto` stops halving the resolution of colour."""
JPEGLI_UP_TO_PIXELS: Mapping[Optimize, int] = {
    Optimize.SPEED: 0,
    Optimize.BALANCED: 200_000,
    Optimize.SIZE: jpegli.LONGEST_SIDE**2,
}
"""
jpegli with mozjpeg's lossless pass is 5 to 10 % shorter than libvips at the same SSIMULACRA2, at three times
the time: 32 instead of 12 ms for half a megapixel, 0.5 instead of 0.2 s for ten.
"""
QUANT_TABLE = 3
"""mozjpeg's; libjpeg's own make files 7 % longer at the same SSIMULACRA2."""
THOROUGH: Mapping[str, Any] = {"trellis_quant": True, "overshoot_deringing": True, "optimize_scans": True}
"""mozjpeg's search, where jpegli cannot serve."""


def save_jpeg(picture: Picture, output: JpegOutput, target: Target) -> None:
    """Write the first frame; its quality is a number."""
    image = opaque(eight_bit(picture.first), output.background)
    if _suits_jpegli(image, output, target.optimize):
        _write_jpegli(image, output, target)
    else:
        _write_libvips(image, output, target)


def opaque(image: pyvips.Image, background: str) -> pyvips.Image:
    """The image laid on the background; grey becomes colour where the background has one."""
    if not image.hasalpha():
        return image
    color = channels(background)
    if image.bands == 2 and len(set(color)) > 1:
        image = expanded(image)
    return image.flatten(background=color[: image.bands - 1])


def _suits_jpegli(image: pyvips.Image, output: JpegOutput, optimize: Optimize) -> bool:
    return (
        image.bands == 3
        and image.width * image.height <= JPEGLI_UP_TO_PIXELS[optimize]
        and _has_halved_color(output)
        and _quality(output) <= jpegli.HIGHEST_QUALITY
        and not output.gain_map
    )


def _quality(output: JpegOutput) -> int:
    """Here it is a number: what was to be found is found."""
    return cast("int", output.quality)


def _has_halved_color(output: JpegOutput) -> bool:
    if output.subsampling == "auto":
        return _quality(output) < FULL_COLOR_FROM_QUALITY
    return output.subsampling == "4:2:0"


def _write_jpegli(image: pyvips.Image, output: JpegOutput, target: Target) -> None:
    segments = jpeg_segments(target, Size(image.width, image.height))
    data = jpegli.encode(image, _quality(output))
    length = len(data) + sum(map(len, segments))
    if target.optimize is Optimize.SIZE or length > PROGRESSIVE_FROM_BYTES:
        data = jpegli.losslessly_shorter(data)
    target.path.write_bytes(with_segments(data, segments))


def _write_libvips(image: pyvips.Image, output: JpegOutput, target: Target) -> None:
    """With the form that is probably right; then again if its length says that it was not."""
    guess = target.optimize is Optimize.SIZE or image.width * image.height >= PROBABLY_PROGRESSIVE_PIXELS
    _write(image, output, target, progressive=guess)
    needed = target.optimize is Optimize.SIZE or target.path.stat().st_size > PROGRESSIVE_FROM_BYTES
    if needed != guess:
        _write(image, output, target, progressive=needed)


def _write(image: pyvips.Image, output: JpegOutput, target: Target, *, progressive: bool) -> None:
    image, keep = attach(image, target)
    image.jpegsave(
        str(target.path),
        Q=on_scale(_quality(output), MOZJPEG_TABLES),
        optimize_coding=True,
        interlace=progressive,
        subsample_mode="on" if _has_halved_color(output) else "off",
        quant_table=QUANT_TABLE,
        keep=keep,
        **(THOROUGH if target.optimize is Optimize.SIZE else {}),
    )
