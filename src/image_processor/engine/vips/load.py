"""From a file to a header within the limits, then to the frames as they are stored. One loader per format."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyvips

from image_processor.engine.base import Original
from image_processor.engine.vips.attachments import Attachments, read_attachments
from image_processor.engine.vips.color import has_own_space
from image_processor.engine.vips.failures import decoding
from image_processor.engine.vips.foreign import (
    has_old_style_jpeg,
    peek_bmp,
    peek_heic,
    read_bmp,
    read_heic,
    read_old_style_tiff,
    stretched,
)
from image_processor.engine.vips.geometry import Size
from image_processor.engine.vips.svg import is_svg, open_svg
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
LEFT_TO_LANCZOS = (4, 3)
"""
The decoder's own shrink is a coarse filter: the last 4/3 are left to the better one. At 2 a photo takes a
tenth longer for 0 to 2 points of SSIMULACRA2; at 1 it loses up to 3 more. bench/, job `fit`.
"""

_AVIF_BRANDS = (b"avif", b"avis")
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs")
_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


@dataclass(frozen=True)
class Loader:
    """How one format is recognised and decoded; no other decoder sees the bytes."""

    matches: Callable[[bytes], bool]
    """Whether the first bytes of a file are of this format."""
    peek: Callable[[Path], pyvips.Image]
    """The image with its size and its fields, nothing but its header read."""
    read: Callable[..., pyvips.Image]
    """The image itself."""
    is_animated: bool = False
    """Whether its pages are frames of one size."""


def _load(operation: str, path: Path, *, streams: bool = True, **options: Any) -> pyvips.Image:
    """By this loader of libvips; one that decodes as a whole, and not line by line, does not stream."""
    load = getattr(pyvips.Image, operation)
    # What cannot be streamed is else spooled to a temporary file when it is large.
    return load(str(path), access="sequential", fail_on="error", memory=not streams, **options)


def _load_avif(path: Path) -> pyvips.Image:
    image = _load("heifload", path, streams=False)
    return stretched(image, int(_field(image, "bits-per-sample", 8)))


def _load_tiff(path: Path) -> pyvips.Image:
    return read_old_style_tiff(path) if has_old_style_jpeg(path) else _load("tiffload", path)


def _by_vips(
    operation: str, matches: Callable[[bytes], bool], *, is_animated: bool = False, streams: bool = True
) -> Loader:
    load = partial(_load, operation, streams=streams)
    return Loader(matches, load, load, is_animated)


def _starts_with(*magics: bytes) -> Callable[[bytes], bool]:
    return lambda start: start.startswith(magics)


def _has_brand(brands: tuple[bytes, ...]) -> Callable[[bytes], bool]:
    return lambda start: start[4:8] == b"ftyp" and any(brand in start[8:] for brand in brands)


def _is_webp(start: bytes) -> bool:
    return start[:4] == b"RIFF" and start[8:12] == b"WEBP"


LOADERS: Mapping[ImageFormat, Loader] = {
    ImageFormat.JPEG: _by_vips("jpegload", _starts_with(b"\xff\xd8\xff")),
    ImageFormat.PNG: _by_vips("pngload", _starts_with(b"\x89PNG\r\n\x1a\n")),
    ImageFormat.WEBP: _by_vips("webpload", _is_webp, is_animated=True, streams=False),
    ImageFormat.GIF: _by_vips("gifload", _starts_with(b"GIF87a", b"GIF89a"), is_animated=True),
    ImageFormat.TIFF: Loader(_starts_with(*_TIFF_STARTS), partial(_load, "tiffload"), _load_tiff),
    ImageFormat.AVIF: Loader(_has_brand(_AVIF_BRANDS), _load_avif, _load_avif),
    ImageFormat.HEIC: Loader(_has_brand(_HEIC_BRANDS), peek_heic, read_heic),
    ImageFormat.BMP: Loader(_starts_with(b"BM"), peek_bmp, read_bmp),
    ImageFormat.SVG: Loader(is_svg, open_svg, open_svg),
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
    attachments: Attachments
    is_plain: bool
    """Whether its pixels are sRGB of at most 8 bits the right way up, as they lie in the file."""
    is_deep: bool = False
    """Whether a channel has more than 8 bits."""
    has_own_space: bool = False
    """Whether its pixels are RGB or grey in the space of a profile of its own."""

    @property
    def is_on_its_side(self) -> bool:
        """Whether width and height are swapped when it is upright."""
        return self.orientation in ORIENTATIONS_ON_THEIR_SIDE

    @property
    def upright(self) -> Size:
        """Of one frame, as people see it."""
        return self.stored.turned() if self.is_on_its_side else self.stored


def read_header(request: Original) -> Header:
    """
    Open the original with the loader of its format and hold its header against the limits.

    Raises UnsupportedFormatError, CorruptImageError, FileTooLargeError, ImageTooLargeError,
    ImageTooSmallError.
    """
    loader = _loader(request)
    with decoding(request.source):
        image = loader.peek(request.source)
    header = _describe(image, request, loader)
    for check in _CHECKS:
        check(header, request.limits)
    return header


def _describe(image: pyvips.Image, request: Original, loader: Loader) -> Header:
    orientation = int(_field(image, "orientation", 1))
    has_profile = bool(image.get_typeof("icc-profile-data"))
    return Header(
        path=request.source,
        loader=loader,
        stored=Size(image.width, int(_field(image, "page-height", image.height))),
        orientation=orientation,
        frames=int(_field(image, "n-pages", 1)) if loader.is_animated else 1,
        format=request.source_format,
        attachments=read_attachments(image),
        is_plain=orientation == 1 and image.format == "uchar" and not has_profile,
        is_deep=image.format != "uchar",
        has_own_space=has_own_space(image),
    )


def decode(header: Header, needed: Size, *, all_frames: bool) -> pyvips.Image:
    """The frames one below the other, as stored; shrunk by the decoder where `needed` leaves room."""
    options: dict[str, Any] = {}
    if header.format is ImageFormat.JPEG:
        options["shrink"] = _jpeg_shrink(header.stored, needed)
    if header.loader.is_animated and all_frames:
        options["n"] = -1
    return header.loader.read(header.path, **options)


def _jpeg_shrink(stored: Size, needed: Size) -> int:
    wanted = needed.scaled(*LEFT_TO_LANCZOS)
    return next((shrink for shrink in JPEG_SHRINKS if wanted.times(shrink).fits(stored)), 1)


def _loader(request: Original) -> Loader:
    loader = LOADERS[request.source_format]
    label = request.source_format.label
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
