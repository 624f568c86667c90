"""TIFF: one page, 8 or 16 bits a channel."""

from collections.abc import Mapping
from typing import Any

import pyvips

from image_processor.engine.vips.attachments import IPTC, attach, kept_exif
from image_processor.engine.vips.picture import Picture
from image_processor.engine.vips.save.depth import at_depth, eight_bit
from image_processor.engine.vips.save.target import Target
from image_processor.engine.vips.save.tiff_tags import add_exif
from image_processor.pipeline import Optimize, TiffOutput

LEVELS: Mapping[Optimize, int] = {Optimize.SPEED: 1, Optimize.BALANCED: 6, Optimize.SIZE: 9}
"""Of deflate, 1 to 9."""
WHITE = 255


def save_tiff(picture: Picture, output: TiffOutput, target: Target) -> None:
    """Write the first frame; with JPEG inside in 8 bits, transparency laid on white."""
    is_jpeg = output.compression == "jpeg"
    pixels = _opaque(picture.first) if is_jpeg else _deep(picture.first, output.bit_depth)
    image, keep = attach(pixels, target)
    # libvips would write the block that JPEG has, where TIFF has bare records.
    image.remove(IPTC)
    image.tiffsave(str(target.path), compression=output.compression, keep=keep, **_options(output, target))
    exif = kept_exif(target, picture.size)
    if exif:
        # libvips writes TIFF's own tags, and of EXIF's none.
        add_exif(target.path, exif)


def _options(output: TiffOutput, target: Target) -> Mapping[str, Any]:
    options: Mapping[str, Mapping[str, Any]] = {
        "lzw": {"predictor": "horizontal"},
        "deflate": {"predictor": "horizontal", "level": LEVELS[target.optimize]},
        "jpeg": {"Q": output.quality},
    }
    return options.get(output.compression, {})


def _opaque(image: pyvips.Image) -> pyvips.Image:
    image = eight_bit(image)
    return image.flatten(background=WHITE) if image.hasalpha() else image


def _deep(image: pyvips.Image, bit_depth: int) -> pyvips.Image:
    """A picture of 8 bits gains nothing by 16."""
    return at_depth(image, bit_depth) if image.format == "ushort" else image
