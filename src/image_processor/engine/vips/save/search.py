"""The quality that is looked for: the lowest that still looks like the original, or the best that fits."""

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import pyvips

from image_processor.engine.vips.attachments import NOTHING
from image_processor.engine.vips.picture import Picture
from image_processor.engine.vips.save.jpeg import opaque
from image_processor.engine.vips.save.similarity import Likeness
from image_processor.engine.vips.save.target import Target
from image_processor.errors import InvalidOperationError
from image_processor.pipeline import AvifOutput, FixedOutput, JpegOutput, Metadata, WebpOutput

LIKE_THE_ORIGINAL = 80.0
"""SSIMULACRA2 of `quality="auto"`: side by side, at normal distance, most people see no difference."""
NEAR_ENOUGH = 0.4
"""So far above it the search stops: one step of quality is about as much."""
AUTO_QUALITIES = range(30, 96)
ALL_QUALITIES = range(1, 101)
SAMPLE_SPAN = 384
"""A side longer than two of these is seen through two of them: at most 0.6 megapixels are compared."""

Save = Callable[[Picture, FixedOutput, Target], None]
SearchedOutput = JpegOutput | WebpOutput | AvifOutput


class _Coder(Protocol):
    def __call__(self, quality: int) -> bytes: ...


def save_searched(picture: Picture, output: FixedOutput, target: Target, save: Save) -> None:
    """
    Write the file with the quality found; `save` writes one with a quality that is a number.

    Raises InvalidOperationError where even quality 1 has more bytes than `max_bytes`; then there is no file.
    """
    if not isinstance(output, SearchedOutput):
        raise InvalidOperationError(f"{output.format.upper()} has no quality that could be searched for.")
    try:
        if output.max_bytes is not None:
            target.path.write_bytes(_best_within(output.max_bytes, _coder(picture, output, target, save)))
        else:
            save(picture, at(output, auto_quality(picture, output, target, save)), target)
    except BaseException:
        target.path.unlink(missing_ok=True)
        raise


def at(output: SearchedOutput, quality: int) -> SearchedOutput:
    """The output with that quality and nothing to look for."""
    return output.model_copy(update={"quality": quality, "max_bytes": None})


def auto_quality(picture: Picture, output: SearchedOutput, target: Target, save: Save) -> int:
    """
    The lowest quality from 30 to 95 that scores LIKE_THE_ORIGINAL, or 95 where none does.

    Of a large picture, parts are coded and compared, of an animation the first frame; at most six times.
    """
    part = sample(picture)
    code = _coder(part, output, replace(target, metadata=Metadata.NONE, attachments=NOTHING), save)
    likeness = Likeness(_shown(part.first, output))

    def excess(quality: int) -> float:
        return likeness.score(_decoded(code(quality))) - LIKE_THE_ORIGINAL

    return lowest_enough(excess, AUTO_QUALITIES)


def lowest_enough(excess: Callable[[int], float], qualities: range) -> int:
    """The lowest of the qualities by which a score is reached or exceeded; the highest where none does."""
    low, high = qualities.start, qualities.stop - 1
    while low < high:
        middle = (low + high) // 2
        found = excess(middle)
        if 0 <= found <= NEAR_ENOUGH:
            return middle
        low, high = (low, middle) if found > 0 else (middle + 1, high)
    return high


def _best_within(most: int, code: _Coder) -> bytes:
    best, smallest = None, None
    low, high = ALL_QUALITIES.start, ALL_QUALITIES.stop - 1
    while low <= high:
        middle = (low + high) // 2
        data = code(middle)
        smallest = len(data) if smallest is None else min(smallest, len(data))
        if len(data) <= most:
            best, low = data, middle + 1
        else:
            high = middle - 1
    if best is None:
        raise InvalidOperationError(
            f"The image does not fit into {most} bytes: at the lowest quality it still has {smallest}."
        )
    return best


def _coder(picture: Picture, output: SearchedOutput, target: Target, save: Save) -> _Coder:
    """The file's own place serves for the tries."""

    def code(quality: int) -> bytes:
        save(picture, at(output, quality), target)
        return target.path.read_bytes()

    return code


def sample(picture: Picture) -> Picture:
    """The first frame, or where it is large, parts of it from a quarter and three quarters of its sides."""
    image = picture.first
    columns, rows = _spans(image.width), _spans(image.height)
    parts = [image.crop(left, top, width, height) for top, height in rows for left, width in columns]
    joined = parts[0] if len(parts) == 1 else pyvips.Image.arrayjoin(parts, across=len(columns))
    return Picture((joined.copy_memory(),))


def _spans(length: int) -> list[tuple[int, int]]:
    if length <= 2 * SAMPLE_SPAN:
        return [(0, length)]
    return [(length * quarters // 4 - SAMPLE_SPAN // 2, SAMPLE_SPAN) for quarters in (1, 3)]


def _shown(image: pyvips.Image, output: SearchedOutput) -> pyvips.Image:
    """What the file is to look like: a JPEG lies on its background."""
    if isinstance(output, JpegOutput):
        return opaque(image, output.background)
    return image


def _decoded(data: bytes) -> pyvips.Image:
    return pyvips.Image.new_from_buffer(data, "").copy_memory()
