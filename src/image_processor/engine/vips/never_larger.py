"""`never_larger`: how a file is kept from having more bytes than its original."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from image_processor.engine.vips.load import Header
from image_processor.engine.vips.picture import Picture
from image_processor.engine.vips.plan import PlannedVariant
from image_processor.engine.vips.png_chunks import essential_chunks
from image_processor.engine.vips.save import save
from image_processor.pipeline import ImageFormat, JpegOutput, PngOutput, WebpOutput
from image_processor.pipeline.outputs import FixedOutput

QUALITY_STEP = 10
LOWEST_QUALITY = 35


def save_within(picture: Picture, variant: PlannedVariant, header: Header, path: Path) -> None:
    """
    Write the variant with no more bytes than the original, if that can be.

    JPEG and WebP are tried at lower and lower quality, down to 35. A PNG of an untouched, upright PNG without
    a colour profile falls back to that file's own pixel data without its metadata. What remains larger when
    nothing of this helps is written as it is: a file in another format than its original, such as the PNG of
    a GIF, a lossless WebP, or a picture of a few hundred bytes.
    """
    most = header.path.stat().st_size
    for output in _attempts(variant.output):
        save(picture, output, path)
        if path.stat().st_size <= most:
            return
    untouched = header.format is ImageFormat.PNG and header.is_plain and not variant.steps
    if variant.format is ImageFormat.PNG and untouched:
        path.write_bytes(essential_chunks(header.path.read_bytes()))


def _attempts(output: FixedOutput) -> Iterator[FixedOutput]:
    return _LADDERS[type(output)](output)


def _once(output: FixedOutput) -> Iterator[FixedOutput]:
    yield output


def _by_quality(output: JpegOutput | WebpOutput) -> Iterator[FixedOutput]:
    yield output
    if isinstance(output, JpegOutput) or not output.lossless:
        for quality in range(output.quality - QUALITY_STEP, LOWEST_QUALITY - 1, -QUALITY_STEP):
            yield output.model_copy(update={"quality": quality})


_LADDERS: Mapping[type[FixedOutput], Callable[[Any], Iterator[FixedOutput]]] = {
    JpegOutput: _by_quality,
    WebpOutput: _by_quality,
    PngOutput: _once,
}
