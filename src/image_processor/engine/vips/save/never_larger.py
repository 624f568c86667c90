"""`never_larger`: how a file is kept from having more bytes than its original."""

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence

from image_processor.engine.vips.attachments import NOTHING, jpeg_segments
from image_processor.engine.vips.load import Header
from image_processor.engine.vips.picture import Picture
from image_processor.engine.vips.plan import PlannedVariant
from image_processor.engine.vips.save import png_chunks, save, webp_chunks
from image_processor.engine.vips.save.jpegli import losslessly_shorter
from image_processor.engine.vips.save.search import SearchedOutput
from image_processor.engine.vips.save.target import Target
from image_processor.engine.vips.segments import segments_of, with_segments
from image_processor.errors import CorruptImageError, InvalidOperationError
from image_processor.pipeline import FixedOutput, JpegOutput, Metadata, PngOutput, WebpOutput

QUALITY_STEP = 10
LOWEST_QUALITY = 35
HIGHEST_QUALITY = 100
_FRAME_MARKERS = frozenset({0xC0, 0xC1, 0xC2})
_GREY, _COLOR = 1, 3
_PRECISION_AT, _COMPONENTS_AT = 0, 5

Copy = Callable[[bytes, Header, Target], bytes | None]


def save_within(picture: Picture, variant: PlannedVariant, header: Header, target: Target) -> None:
    """
    Write the variant with no more bytes than the original, if that can be.

    An untouched, upright original without a colour profile is kept pixel for pixel where its own coding is
    the shorter one: a JPEG with its coefficients packed anew and the metadata that the policy keeps, a PNG
    or a still WebP that has none to keep with its own pixel data. Else JPEG, WebP and AVIF get the highest
    quality that fits of those 10, 20, ... lower, down to 35. What remains larger when nothing of this helps
    is written as it is: a file in another format than its original, such as the PNG of a GIF, a lossless
    WebP, or a picture of a few hundred bytes.
    """
    most = header.path.stat().st_size
    _save_first(picture, variant.output, target, most)
    if target.path.stat().st_size <= most or _is_copied(variant, header, target, most):
        return
    lower = _lower(variant.output)

    def code(at: int) -> bytes:
        save(picture, lower[at], target)
        return target.path.read_bytes()

    if lower:
        target.path.write_bytes(first_within(most, code, len(lower)))


def first_within(most: int, code: Callable[[int], bytes], count: int) -> bytes:
    """
    The first of `count` codings that has at most so many bytes, or the last.

    Each is shorter than the one before: of five, two or three are made.
    """
    found = b""

    def fits(at: int) -> bool:
        nonlocal found
        data = code(at)
        if is_short := len(data) <= most:
            found = data
        return is_short

    bisect_left(range(count - 1), True, key=fits)
    return found or code(count - 1)


def _save_first(picture: Picture, output: FixedOutput, target: Target, most: int) -> None:
    """As it is asked for; a bound on the length is the lower of the two, if a file can be that short."""
    if isinstance(output, SearchedOutput) and output.max_bytes is not None and output.max_bytes > most:
        try:
            save(picture, output.model_copy(update={"max_bytes": most}), target)
        except InvalidOperationError:
            save(picture, output, target)
    else:
        save(picture, output, target)


def _is_copied(variant: PlannedVariant, header: Header, target: Target, most: int) -> bool:
    """Whether the file is now the original's own pixels."""
    if variant.steps or not header.is_plain or header.format is not variant.format:
        return False
    copy = None if getattr(variant.output, "gain_map", False) else _COPIES.get(type(variant.output))
    data = copy(header.path.read_bytes(), header, target) if copy else None
    if data is None or len(data) > min(most, getattr(variant.output, "max_bytes", None) or most):
        return False
    target.path.write_bytes(data)
    return True


def _jpeg_copy(data: bytes, header: Header, target: Target) -> bytes | None:
    try:
        if not _is_srgb(data):
            return None
        return with_segments(losslessly_shorter(data), jpeg_segments(target, header.upright))
    except CorruptImageError:
        return None


def _is_srgb(data: bytes) -> bool:
    """Not CMYK, and of 8 bits."""
    frame = next((found.body for found in segments_of(data) if found.marker in _FRAME_MARKERS), b"")
    return frame[_COMPONENTS_AT : _COMPONENTS_AT + 1] in (bytes([_GREY]), bytes([_COLOR])) and (
        frame[_PRECISION_AT] == 8
    )


def _png_copy(data: bytes, _header: Header, target: Target) -> bytes | None:
    """Nothing but the pixels: not where there is metadata to keep."""
    return png_chunks.essential_chunks(data) if _keeps_nothing(target) else None


def _webp_copy(data: bytes, _header: Header, target: Target) -> bytes | None:
    """As of a PNG, and of no animation."""
    return webp_chunks.essential_chunks(data) if _keeps_nothing(target) else None


def _keeps_nothing(target: Target) -> bool:
    return target.metadata is Metadata.NONE or target.attachments == NOTHING


_COPIES: Mapping[type[FixedOutput], Copy] = {
    JpegOutput: _jpeg_copy,
    PngOutput: _png_copy,
    WebpOutput: _webp_copy,
}


def _lower(output: FixedOutput) -> Sequence[FixedOutput]:
    """The same output at lower and lower quality; nothing where it has none, or has a bound of its own."""
    if not isinstance(output, SearchedOutput) or output.max_bytes is not None or _is_lossless(output):
        return ()
    first = output.quality if isinstance(output.quality, int) else HIGHEST_QUALITY
    qualities = range(first - QUALITY_STEP, LOWEST_QUALITY - 1, -QUALITY_STEP)
    return [output.model_copy(update={"quality": quality}) for quality in qualities]


def _is_lossless(output: SearchedOutput) -> bool:
    return bool(getattr(output, "lossless", False) or getattr(output, "near_lossless", False))
