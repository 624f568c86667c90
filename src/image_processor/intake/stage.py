"""Where accepted bytes wait: written under a random name while hashed, and checked before they are kept."""

import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from image_processor.errors import (
    CorruptImageError,
    FileTooLargeError,
    InvalidRequestError,
    StorageError,
    StorageFullError,
    UnsupportedFormatError,
    is_disk_full,
)
from image_processor.intake.probe import Header, check_limits, probe
from image_processor.intake.sniff import SNIFF_BYTES, describe, sniff
from image_processor.pipeline import ImageFormat, Limits

MIB = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class StagedOriginal:
    """An original that passed every check that needs no decode, durable on disk."""

    name: str
    """The file's name inside the stage."""
    format: ImageFormat
    size_bytes: int
    sha256: str
    """Hexadecimal."""
    header: Header


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if is_disk_full(error):
            raise StorageFullError("There is no room left to take in the file.") from error
        raise StorageError(f"The file could not be staged: {error.strerror}.") from error


class Stage:
    """A folder for originals on their way in."""

    def __init__(self, directory: Path, *, min_free_bytes: int = 0) -> None:
        self.directory = directory
        self._min_free_bytes = min_free_bytes
        with _translated():
            directory.mkdir(parents=True, exist_ok=True)

    def open(self, accepts: tuple[ImageFormat, ...], limits: Limits) -> "StagingFile":
        """A new file to write to. Raises StorageFullError while the disk is nearly full."""
        with _translated():
            if shutil.disk_usage(self.directory).free < self._min_free_bytes:
                raise StorageFullError("The disk is nearly full; no more files are taken in for now.")
            return StagingFile(self.directory, accepts, limits)

    def path(self, name: str) -> Path:
        """Where a staged original lies."""
        return self.directory / name

    def remove(self, name: str) -> None:
        """Remove a staged original; none there is fine."""
        with _translated():
            self.path(name).unlink(missing_ok=True)

    def names_older_than(self, seconds: float) -> list[str]:
        """The names of all staged files that were last written before that long."""
        newest = time.time() - seconds
        with _translated(), os.scandir(self.directory) as entries:
            return [entry.name for entry in entries if entry.is_file() and _modified_at(entry) < newest]


def _modified_at(entry: os.DirEntry[str]) -> float:
    try:
        return entry.stat(follow_symlinks=False).st_mtime
    except FileNotFoundError:
        return time.time()


class StagingFile:
    """One file being taken in. Ends in `finish`, or in `discard`, which leaves nothing behind."""

    def __init__(self, directory: Path, accepts: tuple[ImageFormat, ...], limits: Limits) -> None:
        self._path = directory / secrets.token_hex(16)
        self._accepts = accepts
        self._limits = limits
        self._head = b""
        self._size = 0
        self._format: ImageFormat | None = None
        self._hash = hashlib.sha256()
        self._file: BinaryIO = self._path.open("x+b", buffering=0)

    def write(self, chunk: bytes) -> None:
        """
        Take the next bytes.

        Raises:
            FileTooLargeError: over the limit, as soon as it is.
            UnsupportedFormatError: the first bytes are not those of an accepted type.
            StorageFullError: the disk is full.
        """
        self._size += len(chunk)
        if self._size > self._limits.max_bytes:
            raise FileTooLargeError(
                f"The file is larger than {self._limits.max_bytes / MIB:g} MB.",
                max_bytes=self._limits.max_bytes,
            )
        if self._format is None:
            self._head += chunk[: SNIFF_BYTES - len(self._head)]
            if len(self._head) >= SNIFF_BYTES:
                self._format = accepted_format(self._head, self._accepts)
        self._hash.update(chunk)
        with _translated():
            view = memoryview(chunk)
            while view:
                view = view[self._file.write(view) :]

    def finish(self) -> StagedOriginal:
        """
        Check the whole file by its header, and make it durable.

        Raises: UnsupportedFormatError, CorruptImageError, ImageTooLargeError, ImageTooSmallError.
        """
        if self._size == 0:
            raise InvalidRequestError("The file is empty.")
        image_format = self._format or accepted_format(self._head, self._accepts)
        header = self._checked_header(image_format)
        with _translated():
            os.fsync(self._file.fileno())
            self._file.close()
            _sync_directory(self._path.parent)
        return StagedOriginal(
            name=self._path.name,
            format=image_format,
            size_bytes=self._size,
            sha256=self._hash.hexdigest(),
            header=header,
        )

    def discard(self) -> None:
        """Remove what was written; may be called in any state, also twice."""
        self._file.close()
        self._path.unlink(missing_ok=True)

    def _checked_header(self, image_format: ImageFormat) -> Header:
        with _translated():
            self._file.seek(0)
            header = probe(self._file, image_format, self._size)
        check_limits(header, self._limits)
        return header


def accepted_format(head: bytes, accepts: tuple[ImageFormat, ...]) -> ImageFormat:
    """The format by its first bytes; UnsupportedFormatError says what they look like and what is accepted."""
    image_format = sniff(head)
    if image_format in accepts:
        return image_format
    accepted = ", ".join(accepted.label for accepted in accepts)
    raise UnsupportedFormatError(
        f"The file looks like {describe(head)}; accepted are {accepted}.",
        accepted=[accepted.media_type for accepted in accepts],
    )


def check_file(source: Path, accepts: tuple[ImageFormat, ...], limits: Limits) -> tuple[ImageFormat, Header]:
    """
    The format and header of a file that is already on this machine, checked as an upload would be.

    Raises what `StagingFile.write` and `StagingFile.finish` raise.
    """
    try:
        size = source.stat().st_size
        if size > limits.max_bytes:
            raise FileTooLargeError(f"{source.name} is larger than {limits.max_bytes / MIB:g} MB.")
        with source.open("rb") as file:
            head = file.read(SNIFF_BYTES)
            if not head:
                raise InvalidRequestError(f"{source.name} is empty.")
            image_format = accepted_format(head, accepts)
            file.seek(0)
            header = probe(file, image_format, size)
    except OSError as error:
        raise CorruptImageError(f"{source.name} cannot be read: {error.strerror}.") from error
    check_limits(header, limits)
    return image_format, header


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
