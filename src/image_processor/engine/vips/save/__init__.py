"""From a finished picture to a file: one saver per output format."""

from collections.abc import Callable, Mapping
from typing import Any

from image_processor.engine.vips.picture import Picture
from image_processor.engine.vips.save.avif import save_avif
from image_processor.engine.vips.save.gif import save_gif
from image_processor.engine.vips.save.jpeg import save_jpeg
from image_processor.engine.vips.save.png import save_png
from image_processor.engine.vips.save.search import save_searched
from image_processor.engine.vips.save.target import Target
from image_processor.engine.vips.save.tiff import save_tiff
from image_processor.engine.vips.save.webp import save_webp
from image_processor.pipeline import (
    AvifOutput,
    FixedOutput,
    GifOutput,
    JpegOutput,
    PngOutput,
    TiffOutput,
    WebpOutput,
)


def save(picture: Picture, output: FixedOutput, target: Target) -> None:
    """Write the file; a quality that is to be found is searched for, with one file per step."""
    if output.is_searched:
        save_searched(picture, output, target, save_once)
    else:
        save_once(picture, output, target)


def save_once(picture: Picture, output: FixedOutput, target: Target) -> None:
    """Write the file with the settings as they are; its quality is a number."""
    _SAVERS[type(output)](picture, output, target)


_SAVERS: Mapping[type[FixedOutput], Callable[[Picture, Any, Target], None]] = {
    JpegOutput: save_jpeg,
    PngOutput: save_png,
    WebpOutput: save_webp,
    AvifOutput: save_avif,
    GifOutput: save_gif,
    TiffOutput: save_tiff,
}
