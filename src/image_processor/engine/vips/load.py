"""From a file to a header within the limits, then to the frames as they are stored. One loader per format."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyvips

from image_processor.engine.base import RenderRequest
from image_processor.engine.vips.failures import decoding
from image_processor.engine.vips.geometry import Size
from image_processor.errors import (
    CorruptImageError,
    EngineError,
    FileTooLargeError,
    ImageTooLargeError,
    ImageTooSmallError,
    UnsupportedFormatError,
)
from image_processor.pipeline import ImageFormat, Limits
from image_processor.pipeline.limits import MEGAPIXEL

MAGIC_BYTES = 64
ORIENTATIONS_ON_THEIR_SIDE = range(5, 9)
JPEG_SHRINKS = (8, 4, 2)
SHRINK_LEFT_TO_LANCZOS = 2
"""The decoder's own shrink is a plain block mean: the last factor of two is left to the better filter."""

_AVIF_BRANDS = (b"avif", b"avis")


def _is_avif(start: bytes) -> bool:
    return start[4:8] == b"ftyp" and any(brand in start[8:] for brand in _AVIF_BRANDS)


def _is_webp(start: bytes) -> bool:
    return start[:4] == b"RIFF" and start[8:12] == b"WEBP"


@dataclass(frozen=True)
class Loader:
    """How one format is recognised and decoded."""

    operation: str
    """The name of libvips' loader; no other one sees the bytes."""
    matches: Callable[[bytes], bool]
    """Whether the first bytes of a file are of this format."""
    is_animated: bool = False
    """Whether its pages are frames of one size."""
    streams: bool = True
    """Whether it is decoded line by line, and not as a whole."""

    def open(self, path: Path, **options: Any) -> pyvips.Image:
        """The image, nothing but its header read."""
        load = getattr(pyvips.Image, self.operation)
        # What cannot be streamed is else spooled to a temporary file when it is large.
        return load(str(path), access="sequential", fail_on="error", memory=not self.streams, **options)


LOADERS: Mapping[ImageFormat, Loader] = {
    ImageFormat.JPEG: Loader("jpegload", lambda start: start.startswith(b"\xff\xd8\xff")),
    ImageFormat.PNG: Loader("pngload", lambda start: start.startswith(b"\x89PNG\r\n\x1a\n")),
    ImageFormat.WEBP: Loader("webpload", _is_webp, is_animated=True, streams=False),
    ImageFormat.GIF: Loader("gifload", lambda start: start[:6] in (b"GIF87a", b"GIF89a"), is_animated=True),
    ImageFormat.TIFF: Loader("tiffload", lambda start: start[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
    ImageFormat.AVIF: Loader("heifload", _is_avif, streams=False),
}


@dataclass(frozen=True)
class Header:
    """What is known of an original before it is decoded."""

    path: Path
    loader: Loader
    stored: Size
    """Of one frame, as it lies in the file."""
    orientation: int
    """EXIF's, 1 to 8."""
    frames: int
    format: ImageFormat
    is_plain: bool
    """Whether its pixels are sRGB of at most 8 bits the right way up, as they lie in the file."""

    @property
    def is_on_its_side(self) -> bool:
        """Whether width and height are swapped when it is upright."""
        return self.orientation in ORIENTATIONS_ON_THEIR_SIDE

    @property
    def upright(self) -> Size:
        """Of one frame, as people see it."""
        return self.stored.turned() if self.is_on_its_side else self.stored


def read_header(request: RenderRequest) -> Header:
    """
    Open the original with the loader of its format and hold its header against the limits.

    Raises UnsupportedFormatError, CorruptImageError, FileTooLargeError, ImageTooLargeError,
    ImageTooSmallError.
    """
    loader = _loader(request)
    with decoding(request.source):
        image = loader.open(request.source)
    header = _describe(image, request, loader)
    for check in _CHECKS:
        check(header, request.limits)
    return header


def _describe(image: pyvips.Image, request: RenderRequest, loader: Loader) -> Header:
    orientation = int(_field(image, "orientation", 1))
    has_profile = bool(image.get_typeof("icc-profile-data"))
    return Header(
        path=request.source,
        loader=loader,
        stored=Size(image.width, int(_field(image, "page-height", image.height))),
        orientation=orientation,
        frames=int(_field(image, "n-pages", 1)) if loader.is_animated else 1,
        format=request.source_format,
        is_plain=orientation == 1 and image.format == "uchar" and not has_profile,
    )


def decode(header: Header, needed: Size, *, all_frames: bool) -> pyvips.Image:
    """The frames one below the other, as stored; shrunk by the decoder where `needed` leaves room."""
    options: dict[str, Any] = {}
    if header.format is ImageFormat.JPEG:
        options["shrink"] = _jpeg_shrink(header.stored, needed)
    if header.loader.is_animated and all_frames:
        options["n"] = -1
    return header.loader.open(header.path, **options)


def _jpeg_shrink(stored: Size, needed: Size) -> int:
    wanted = needed.times(SHRINK_LEFT_TO_LANCZOS)
    return next((shrink for shrink in JPEG_SHRINKS if wanted.times(shrink).fits(stored)), 1)


def _loader(request: RenderRequest) -> Loader:
    loader = LOADERS.get(request.source_format)
    label = request.source_format.label
    if loader is None:
        raise UnsupportedFormatError(
            f"{label} cannot be decoded here; supported are {', '.join(known.label for known in LOADERS)}.",
            supported=[known.media_type for known in LOADERS],
        )
    if not loader.matches(_first_bytes(request.source)):
        raise UnsupportedFormatError(f"The file is not {label}: its first bytes are of another kind.")
    return loader


def _first_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAGIC_BYTES)
    except OSError as error:
        raise EngineError(f"The original cannot be opened: {error.strerror}.") from error


def _field(image: pyvips.Image, name: str, otherwise: int) -> Any:
    return image.get(name) if image.get_typeof(name) else otherwise


def _check_bytes(header: Header, limits: Limits) -> None:
    size = header.path.stat().st_size
    if size > limits.max_bytes:
        raise FileTooLargeError(f"The file has {size} bytes; at most {limits.max_bytes} are allowed.")


def _check_frames(header: Header, limits: Limits) -> None:
    if header.frames < 1:
        raise CorruptImageError("The image has no frames.")
    if header.frames > limits.max_frames:
        raise ImageTooLargeError(
            f"The image has {header.frames} frames; at most {limits.max_frames} are allowed."
        )


def _check_sides(header: Header, limits: Limits) -> None:
    size = header.upright
    said = f"The image has {size.width} x {size.height} pixels"
    if max(size.width, size.height) > limits.max_side:
        raise ImageTooLargeError(f"{said}; a side may have at most {limits.max_side}.")
    if min(size.width, size.height) < limits.min_side:
        raise ImageTooSmallError(f"{said}; a side needs at least {limits.min_side}.")


def _check_pixels(header: Header, limits: Limits) -> None:
    pixels = header.stored.pixels * header.frames
    if pixels > limits.max_pixels:
        raise ImageTooLargeError(
            f"The image has {pixels / MEGAPIXEL:.1f} megapixels over all its frames; "
            f"at most {limits.max_pixels / MEGAPIXEL:.1f} are allowed."
        )


_CHECKS = (_check_bytes, _check_frames, _check_sides, _check_pixels)
