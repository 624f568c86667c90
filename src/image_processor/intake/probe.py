"""What a file's header says, and whether that is within the limits. Bounded reads, and no decode."""

from collections.abc import Callable, Mapping
from typing import BinaryIO

from image_processor.errors import ImageTooLargeError, ImageTooSmallError, UnsupportedFormatError
from image_processor.intake.containers import bmp, gif, isobmff, jpeg, png, svg, tiff, webp
from image_processor.intake.containers.base import Cursor, Header
from image_processor.pipeline import ImageFormat, Limits
from image_processor.pipeline.limits import MEGAPIXEL

__all__ = ["PROBED", "Header", "check_limits", "probe"]

_READERS: Mapping[ImageFormat, Callable[[Cursor], Header]] = {
    ImageFormat.JPEG: jpeg.read_header,
    ImageFormat.PNG: png.read_header,
    ImageFormat.WEBP: webp.read_header,
    ImageFormat.GIF: gif.read_header,
    ImageFormat.TIFF: tiff.read_header,
    ImageFormat.AVIF: isobmff.read_header,
    ImageFormat.HEIC: isobmff.read_header,
    ImageFormat.BMP: bmp.read_header,
    ImageFormat.SVG: svg.read_header,
}
PROBED = frozenset(_READERS)
"""The formats whose headers can be read."""


def probe(file: BinaryIO, image_format: ImageFormat, size_bytes: int) -> Header:
    """
    What the header of a seekable file of `size_bytes` says; the file is left at any position.

    Raises:
        UnsupportedFormatError: a format outside `PROBED`, or a rare kind of it that is not decoded here.
        CorruptImageError: truncated or damaged, as far as headers show it.
        OSError: the file cannot be read.
    """
    read_header = _READERS.get(image_format)
    if read_header is None:
        raise UnsupportedFormatError(
            f"{image_format.label} images are not supported.",
            accepted=sorted(known.media_type for known in PROBED),
        )
    return read_header(Cursor(file, image_format, size_bytes))


def check_limits(header: Header, limits: Limits) -> None:
    """
    Nothing, if the image is within the limits.

    Raises:
        ImageTooLargeError: too many pixels or frames, or too long a side.
        ImageTooSmallError: too short a side.
    """
    size = f"{header.width} x {header.height} pixels"
    pixels = header.width * header.height * header.frames
    if pixels > limits.max_pixels:
        raise ImageTooLargeError(
            f"The image is {_in_frames(size, header)} ({_megapixels(pixels)} megapixels); "
            f"at most {_megapixels(limits.max_pixels)} megapixels are accepted.",
            **_facts(header),
            max_pixels=limits.max_pixels,
        )
    if max(header.width, header.height) > limits.max_side:
        raise ImageTooLargeError(
            f"The image is {size}; at most {limits.max_side} pixels a side are accepted.",
            **_facts(header),
            max_side=limits.max_side,
        )
    if header.frames > limits.max_frames:
        raise ImageTooLargeError(
            f"The image has {header.frames} frames; at most {limits.max_frames} are accepted.",
            **_facts(header),
            max_frames=limits.max_frames,
        )
    if min(header.width, header.height) < limits.min_side:
        raise ImageTooSmallError(
            f"The image is {size}; at least {limits.min_side} pixels a side are needed.",
            **_facts(header),
            min_side=limits.min_side,
        )


def _facts(header: Header) -> dict[str, int]:
    return {"width": header.width, "height": header.height, "frames": header.frames}


def _in_frames(size: str, header: Header) -> str:
    return size if header.frames == 1 else f"{header.frames} frames of {size}"


def _megapixels(pixels: int) -> str:
    """Exact, so that a pixel too many never reads as the bound itself."""
    return f"{pixels / MEGAPIXEL:.6f}".rstrip("0").rstrip(".")
