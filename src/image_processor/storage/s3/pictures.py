"""What callers upload: bytes, a path, an open file or a result, as one file with its hash and format."""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol, TypeAlias

from image_processor.errors import (
    InvalidRequestError,
    NotFoundError,
    StorageError,
    StorageFullError,
    is_disk_full,
)
from image_processor.pipeline import ImageFormat

CHUNK_BYTES = 1024 * 1024


class Produced(Protocol):
    """One produced file in memory: a `Result`."""

    @property
    def data(self) -> bytes:
        """The file's bytes."""

    @property
    def image_format(self) -> ImageFormat:
        """What they are."""


class Readable(Protocol):
    """A file opened in binary mode, or anything that reads like one."""

    def read(self, size: int, /) -> bytes:
        """At most so many bytes; none at the end."""
        ...


Picture: TypeAlias = "bytes | bytearray | memoryview | str | os.PathLike[str] | Readable | Produced"
"""Bytes, the path of a file, an open file (from where it stands to its end), or a result."""


@dataclass(frozen=True, kw_only=True)
class PictureFile:
    """A picture that is ready to be stored."""

    path: Path
    sha256: str
    """Hexadecimal."""


@contextmanager
def picture_file(picture: Picture) -> Iterator[PictureFile]:
    """
    The picture as a file, which is gone afterwards unless it was the caller's own.

    Raises NotFoundError, InvalidRequestError for what is no picture, StorageFullError, StorageError.
    """
    if isinstance(picture, str | os.PathLike):
        path = Path(picture)
        with _reading(path.name), path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        yield PictureFile(path=path, sha256=digest)
        return
    with tempfile.TemporaryDirectory(prefix="image-processor-") as folder:
        path = Path(folder, "picture")
        with _reading("the picture"), path.open("wb") as file:
            digest = _written(picture, file)
        yield PictureFile(path=path, sha256=digest)


def format_named(name: str) -> ImageFormat:
    """
    The format that `webp`, `WEBP`, `jpg`, `.jpg` or `image/jpeg` names.

    Raises InvalidRequestError, which lists those that there are.
    """
    found = _NAMES.get(name.strip().lower().removeprefix("image/").removeprefix("."))
    if found is None:
        known = ", ".join(image_format.value for image_format in ImageFormat)
        raise InvalidRequestError(f"{name[:80]!r} is no image format; known are {known}.", parameter="format")
    return found


def format_of(picture: Picture, original_name: str | None) -> ImageFormat | None:
    """By what a result says of itself, or else by the extension of a name; None where neither tells."""
    produced = getattr(picture, "image_format", None)
    if isinstance(produced, ImageFormat):
        return produced
    names = (original_name, picture if isinstance(picture, str | os.PathLike) else None)
    extensions = (Path(name).suffix[1:].lower() for name in names if name)
    return next((_NAMES[extension] for extension in extensions if extension in _NAMES), None)


_NAMES = {
    **{image_format.value: image_format for image_format in ImageFormat},
    **{image_format.extension: image_format for image_format in ImageFormat},
    "svg+xml": ImageFormat.SVG,
    "heif": ImageFormat.HEIC,
}


def _written(picture: object, file: IO[bytes]) -> str:
    digest = hashlib.sha256()
    for chunk in _chunks(picture):
        digest.update(chunk)
        file.write(chunk)
    return digest.hexdigest()


def _chunks(picture: object) -> Iterator[bytes]:
    data = getattr(picture, "data", picture)
    if isinstance(data, bytes | bytearray | memoryview):
        yield data if isinstance(data, bytes) else bytes(data)
        return
    read = getattr(picture, "read", None)
    if read is None:
        raise InvalidRequestError("A picture is bytes, a path, an open file or a result.", parameter="image")
    while chunk := read(CHUNK_BYTES):
        if not isinstance(chunk, bytes):
            raise InvalidRequestError("The file is not opened in binary mode.", parameter="image")
        yield chunk


@contextmanager
def _reading(name: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise NotFoundError(f"There is no file {name!r}.") from error
    except OSError as error:
        if is_disk_full(error):
            raise StorageFullError("There is no room for the picture on its way to the storage.") from error
        raise StorageError(f"{name!r} cannot be read: {error.strerror}.") from error
