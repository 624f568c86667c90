"""Where a caller's pictures come from: a path, bytes, an open file, a Pillow image or a NumPy array."""

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, TypeAlias

from image_processor.errors import (
    CorruptImageError,
    FileTooLargeError,
    ImageProcessorError,
    ImageTooLargeError,
    InvalidRequestError,
    NotFoundError,
    StorageError,
    StorageFullError,
    is_disk_full,
)
from image_processor.intake.sniff import SNIFF_BYTES
from image_processor.intake.stage import accepted_format
from image_processor.pipeline import ImageFormat, Limits
from image_processor.pipeline.limits import MEGAPIXEL

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

MIB = 1024 * 1024
CHUNK_BYTES = MIB
SUPPORTED = (
    ImageFormat.JPEG,
    ImageFormat.PNG,
    ImageFormat.WEBP,
    ImageFormat.AVIF,
    ImageFormat.GIF,
    ImageFormat.TIFF,
    ImageFormat.HEIC,
    ImageFormat.BMP,
)
"""What can be read."""
WITH_SVG = (*SUPPORTED, ImageFormat.SVG)
"""The same with drawings, which are documents rather than pictures: only where they are switched on."""
ARRAYS = "an array of shape (height, width, 3), (height, width, 4) or (height, width), of type uint8"
NAME = "source"
ORIENTATION_TAG = 0x0112

_KEPT_MODES = frozenset({"L", "LA", "RGB", "RGBA", "CMYK", "I;16"})
"""What a TIFF holds as it is, of Pillow's modes."""
_NEAREST_MODES = {"1": "L", "La": "LA", "I": "I;16", "I;16B": "I;16", "I;16L": "I;16", "I;16N": "I;16"}


class Readable(Protocol):
    """A file opened in binary mode, or anything that reads like one."""

    def read(self, size: int, /) -> bytes:
        """At most so many bytes; none at the end."""
        ...


Source: TypeAlias = (
    "str | os.PathLike[str] | bytes | bytearray | memoryview | Readable | Image | NDArray[Any]"
)
"""
Where a picture comes from.

A path is read in place. An open file is read from where it stands to its end, and left there.
A Pillow image gives its current frame with its profile and EXIF; an array holds sRGB.
"""


@dataclass(frozen=True)
class StagedSource:
    """A source as a file for an engine."""

    path: Path
    format: ImageFormat
    """By its first bytes."""
    own_format: ImageFormat
    """What counts as the source's own: PNG where there was no file, but pixels in memory."""


@dataclass(frozen=True)
class _Bounds:
    limits: Limits
    accepts: tuple[ImageFormat, ...]


def stage(  # noqa: PLR0913 - each is decided elsewhere
    source: Source,
    folder: Path,
    limits: Limits,
    *,
    accepts: tuple[ImageFormat, ...] = SUPPORTED,
    in_place: bool = True,
    with_metadata: bool = False,
) -> StagedSource:
    """
    The source as a file: where it lies if it is one, or written into `folder`.

    Args:
        source: what the caller gave.
        folder: empty; removed by the caller.
        limits: held against what can be seen without a decode.
        accepts: the formats that are taken.
        in_place: whether a file may stay where it lies.
        with_metadata: whether a Pillow image's EXIF matters, and not only its orientation: that is slower.

    Raises:
        NotFoundError: there is no such file.
        UnsupportedFormatError: the bytes are not those of a format that can be read; lists these.
        InvalidRequestError: a folder, a file that cannot be read, an object that is no source.
        FileTooLargeError, ImageTooLargeError: over the limits.
        CorruptImageError: Pillow cannot read the pixels of its image.
        StorageFullError: there is no room for the file.
    """
    target, bounds = folder / NAME, _Bounds(limits, accepts)
    if isinstance(source, (str, os.PathLike)):
        path = Path(os.fsdecode(source))
        image_format = _format_of_file(path, bounds)
        return StagedSource(path if in_place else _copy(path, target), image_format, image_format)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _write_bytes(_flat(memoryview(source)), target, bounds)
    if _is_of("PIL.Image", "Image", source):
        return _write_pillow(source, target, limits, with_metadata=with_metadata)
    if _is_of("numpy", "ndarray", source):
        return _write_array(source, target, limits)
    if hasattr(source, "read"):
        return _write_stream(source, target, bounds)
    raise InvalidRequestError(
        f"A source is a path, bytes, a file opened in binary mode, a Pillow image or a NumPy array, "
        f"and not of type {type(source).__name__}."
    )


def _is_of(module: str, name: str, value: object) -> bool:
    """Whether a value is of a class of a library, which is not loaded to find out."""
    return any(
        kind.__name__ == name and kind.__module__.partition(".")[0] == module.partition(".")[0]
        for kind in type(value).__mro__
    )


def _format_of_file(path: Path, bounds: _Bounds) -> ImageFormat:
    with _reading(path):
        found = path.stat()
        if stat.S_ISDIR(found.st_mode):
            raise InvalidRequestError(f"{path} is a folder; a picture's file is needed.")
        if not stat.S_ISREG(found.st_mode):
            raise InvalidRequestError(f"{path} is no regular file.")
        _check_bytes(found.st_size, bounds.limits)
        with path.open("rb") as file:
            return accepted_format(file.read(SNIFF_BYTES), bounds.accepts)


def _copy(path: Path, target: Path) -> Path:
    with _reading(path), path.open("rb") as file, _writing(target) as copy:
        shutil.copyfileobj(file, copy, CHUNK_BYTES)
    return target


def _flat(data: memoryview) -> memoryview:
    return data.cast("B") if data.c_contiguous else memoryview(data.tobytes())


def _write_bytes(data: memoryview, target: Path, bounds: _Bounds) -> StagedSource:
    _check_bytes(len(data), bounds.limits)
    image_format = accepted_format(bytes(data[:SNIFF_BYTES]), bounds.accepts)
    with _writing(target) as file:
        file.write(data)
    return StagedSource(target, image_format, image_format)


def _write_stream(stream: Any, target: Path, bounds: _Bounds) -> StagedSource:
    """What is no picture is refused at its first bytes, however many follow."""
    head, size = b"", 0
    with _writing(target) as file:
        while chunk := _read_chunk(stream):
            size += len(chunk)
            _check_bytes(size, bounds.limits)
            if len(head) < SNIFF_BYTES:
                head += chunk[: SNIFF_BYTES - len(head)]
                if len(head) == SNIFF_BYTES:
                    accepted_format(head, bounds.accepts)
            file.write(chunk)
    image_format = accepted_format(head, bounds.accepts)
    return StagedSource(target, image_format, image_format)


def _read_chunk(stream: Any) -> bytes:
    try:
        chunk = stream.read(CHUNK_BYTES)
    except (OSError, ValueError) as error:  # a file that is closed raises ValueError
        raise InvalidRequestError(f"The file that was given cannot be read: {error}.") from error
    if not isinstance(chunk, bytes):
        raise InvalidRequestError("The file that was given must be opened in binary mode, and not block.")
    return chunk


def _write_array(array: Any, target: Path, limits: Limits) -> StagedSource:
    from PIL import Image  # noqa: PLC0415 - only those who give arrays load it

    channels = array.shape[2] if array.ndim == 3 else 1
    if array.ndim not in {2, 3} or channels not in {1, 3, 4} or array.dtype != "uint8" or not array.size:
        raise InvalidRequestError(f"A source is {ARRAYS}; this one is {array.shape} of {array.dtype}.")
    if array.ndim == 3 and channels == 1:
        array = array[:, :, 0]
    _check_pixels(array.shape[1], array.shape[0], limits)
    return _write_pillow(Image.fromarray(array), target, limits)


def _write_pillow(image: Any, target: Path, limits: Limits, *, with_metadata: bool = False) -> StagedSource:
    """As a TIFF without compression, the quickest there is; EXIF needs a PNG."""
    _check_pixels(image.width, image.height, limits)
    try:
        image.load()
        image = _in_known_mode(image)
        exif = image.getexif()
        written = ImageFormat.PNG if exif and with_metadata and image.mode != "CMYK" else ImageFormat.TIFF
        options = _png_options(image) if written is ImageFormat.PNG else _tiff_options(image)
        with _writing(target) as file:
            image.save(file, format=written.value, icc_profile=image.info.get("icc_profile"), **options)
    except ImageProcessorError:
        raise
    except Exception as error:  # Pillow's decoders raise what they like
        raise CorruptImageError(
            f"The Pillow image cannot be read: {type(error).__name__}: {error}."
        ) from error
    return StagedSource(target, written, ImageFormat.PNG)


def _png_options(image: Any) -> dict[str, Any]:
    return {"exif": image.getexif().tobytes(), "compress_level": 0}


def _tiff_options(image: Any) -> dict[str, Any]:
    """Nothing of what the image's own file was, such as the compression of a TIFF, is taken over."""
    orientation = image.getexif().get(ORIENTATION_TAG, 1)
    return {"compression": None, "tiffinfo": {ORIENTATION_TAG: orientation}, "exif": b""}


def _in_known_mode(image: Any) -> Any:
    if image.mode == "F":
        raise InvalidRequestError("A Pillow image of floating-point numbers has no range: convert it first.")
    if image.mode == "LAB":
        return _from_lab(image)
    if image.mode not in {"LA", "RGBA", "La"} and image.has_transparency_data:
        return image.convert("RGBA")
    return image if image.mode in _KEPT_MODES else image.convert(_NEAREST_MODES.get(image.mode, "RGB"))


def _from_lab(image: Any) -> Any:
    from PIL import ImageCms  # noqa: PLC0415 - only those who give such an image load it

    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
    if converted is None:
        raise InvalidRequestError("The Pillow image in Lab cannot be converted.")
    converted.info.pop("icc_profile", None)
    return converted


def _check_bytes(size: int, limits: Limits) -> None:
    if size > limits.max_bytes:
        raise FileTooLargeError(
            f"The file is larger than {limits.max_bytes / MIB:g} MB.", max_bytes=limits.max_bytes
        )


def _check_pixels(width: int, height: int, limits: Limits) -> None:
    """Before they are written; the engine checks the rest."""
    if not width or not height:
        raise InvalidRequestError("The image has no pixels.")
    if width * height > limits.max_pixels:
        raise ImageTooLargeError(
            f"The image is {width} x {height} pixels; at most {limits.max_pixels / MEGAPIXEL:g} megapixels "
            "are accepted.",
            width=width,
            height=height,
            max_pixels=limits.max_pixels,
        )


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise NotFoundError(f"There is no file {path}.") from error
    except (OSError, ValueError) as error:  # a NUL in a path is a ValueError
        reason = error.strerror if isinstance(error, OSError) else error
        raise InvalidRequestError(f"{path} cannot be read: {reason}.") from error


@contextmanager
def _writing(target: Path) -> Iterator[BinaryIO]:
    try:
        with target.open("xb") as file:
            yield file
    except OSError as error:
        if is_disk_full(error):
            raise StorageFullError("There is no room left for a copy of the source.") from error
        raise StorageError(f"The source cannot be copied: {error.strerror}.") from error
