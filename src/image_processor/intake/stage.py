"""Where accepted bytes wait: written under a random name while hashed, and checked before they are kept."""

import errno
import hashlib
import math
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from image_processor import file_clock
from image_processor.errors import (
    CorruptImageError,
    FileTooLargeError,
    InvalidRequestError,
    StorageError,
    StorageFullError,
    UnsupportedFormatError,
    disk_errors,
)
from image_processor.intake.probe import Header, check_limits, probe
from image_processor.intake.sniff import SNIFF_BYTES, describe, sniff
from image_processor.pipeline import ImageFormat, Limits

MIB = 1024 * 1024
_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK})
"""What file systems without hard links answer."""

CheckWanted = Callable[[], None]
"""Asked between chunks; ends what goes on by raising."""


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


def translated() -> AbstractContextManager[None]:
    """Turn the operating system's errors into StorageFullError and StorageError."""
    return disk_errors(
        full="There is no room left to take in the file.",
        failed="The file could not be staged",
    )


class Stage:
    """A folder for originals on their way in. All who submit and all who work look into the same one."""

    def __init__(self, directory: Path, *, min_free_bytes: int = 0) -> None:
        self.directory = directory
        self._min_free_bytes = min_free_bytes
        with translated():
            directory.mkdir(parents=True, exist_ok=True)

    def new_name(self) -> str:
        """A name that no file here has or will have by chance; it says nothing."""
        return secrets.token_hex(16)

    def open(
        self, accepts: tuple[ImageFormat, ...], limits: Limits, *, name: str | None = None
    ) -> "StagingFile":
        """
        A new file to write to; with a name, that name stands for it once it is finished and not before.

        Raises StorageFullError while the disk is nearly full.
        """
        with translated():
            self.check_room()
            return StagingFile(self.directory, _Checks(accepts, limits), name)

    def check_room(self) -> None:
        """Raise StorageFullError while the disk is nearly full."""
        with translated():
            if shutil.disk_usage(self.directory).free < self._min_free_bytes:
                raise StorageFullError("The disk is nearly full; no more files are taken in for now.")

    def adopt(self, name: str, accepts: tuple[ImageFormat, ...], limits: Limits) -> StagedOriginal | None:
        """
        An original that was finished before, hashed and checked anew; None where there is none.

        Raises what `StagingFile.write` and `StagingFile.finish` raise.
        """
        return _adopted(self.path(name), _Checks(accepts, limits))

    def path(self, name: str) -> Path:
        """Where a staged original lies."""
        return self.directory / name

    def check_fetching(self) -> None:
        """Raise StorageFullError while there is no room to `fetch`; there is where nothing is copied."""

    def share(self, original: StagedOriginal) -> None:
        """
        Bring a finished original within reach of every worker; to be called before a job is made of it.

        Where that fails, nothing is left on this machine. Raises what `Storage.put` raises.
        """

    def fetch(
        self,
        name: str,
        *,
        size_bytes: int,  # noqa: ARG002 - here lies what was checked on its way in
        sha256: str,  # noqa: ARG002
        check_wanted: CheckWanted,  # noqa: ARG002
    ) -> Path:
        """
        Where on this machine a shared original can be read, whole and with these bytes.

        The file has its own name, or a name that is the caller's alone, who then discards it. Raises
        StorageError where there is none, StorageDamageError where its bytes are others, StorageFullError,
        and what `Storage.open` raises.
        """
        return self.path(name)

    def discard(self, name: str) -> None:
        """Remove a file from this machine alone; none there is fine."""
        with translated():
            self.path(name).unlink(missing_ok=True)

    def remove(self, name: str) -> None:
        """
        Remove a staged original wherever it lies; none there is fine.

        Raises what `Storage.delete` raises; it is gone from this machine then.
        """
        self.discard(name)

    def shared_names_older_than(self, seconds: float) -> Iterator[str]:  # noqa: ARG002 - none lies elsewhere
        """The names of originals that lie elsewhere than on this machine, and were put there before that."""
        return iter(())

    def names_older_than(self, seconds: float) -> list[str]:
        """The names of all staged files on this machine that were last written before that long."""
        with translated(), os.scandir(self.directory) as entries:
            newest = file_clock.now(self.directory) - seconds
            return [entry.name for entry in entries if entry.is_file() and _modified_at(entry) < newest]


def _modified_at(entry: os.DirEntry[str]) -> float:
    try:
        return entry.stat(follow_symlinks=False).st_mtime
    except FileNotFoundError:
        return math.inf


class _Checks:
    """What every byte of an original is put through, whether it is written or read again."""

    def __init__(self, accepts: tuple[ImageFormat, ...], limits: Limits) -> None:
        self._accepts = accepts
        self._limits = limits
        self._head = b""
        self._size = 0
        self._format: ImageFormat | None = None
        self._hash = hashlib.sha256()

    def anew(self) -> "_Checks":
        """The same for another file."""
        return _Checks(self._accepts, self._limits)

    def take(self, chunk: bytes) -> None:
        """The next bytes."""
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

    def passed(self, name: str, file: BinaryIO) -> StagedOriginal:
        """The original, now that all its bytes were taken; `file` has them."""
        if self._size == 0:
            raise InvalidRequestError("The file is empty.")
        image_format = self._format or accepted_format(self._head, self._accepts)
        with translated():
            file.seek(0)
            header = probe(file, image_format, self._size)
        check_limits(header, self._limits)
        return StagedOriginal(
            name=name,
            format=image_format,
            size_bytes=self._size,
            sha256=self._hash.hexdigest(),
            header=header,
        )


class StagingFile:
    """One file being taken in. Ends in `finish`, or in `discard`, which leaves nothing behind."""

    def __init__(self, directory: Path, checks: _Checks, name: str | None = None) -> None:
        self._path = directory / secrets.token_hex(16)
        self._name = name
        self._checks = checks
        self._file: BinaryIO = self._path.open("x+b", buffering=0)

    def write(self, chunk: bytes) -> None:
        """
        Take the next bytes.

        Raises:
            FileTooLargeError: over the limit, as soon as it is.
            UnsupportedFormatError: the first bytes are not those of an accepted type.
            StorageFullError: the disk is full.
        """
        self._checks.take(chunk)
        with translated():
            view = memoryview(chunk)
            while view:
                view = view[self._file.write(view) :]

    def finish(self) -> StagedOriginal:
        """
        Check the whole file by its header, and make it durable.

        What already stands under the name that was asked for is never replaced, for somebody may be reading
        it: it is then what this gives.

        Raises: UnsupportedFormatError, CorruptImageError, ImageTooLargeError, ImageTooSmallError.
        """
        original = self._checks.passed(self._name or self._path.name, self._file)
        with translated():
            os.fsync(self._file.fileno())
            self._file.close()
            is_ours = self._name is None or self._publish(self._path.parent / self._name)
            _sync_directory(self._path.parent)
        return original if is_ours else self._other(original.name)

    def discard(self) -> None:
        """Remove what was written; may be called in any state, also twice."""
        self._file.close()
        self._path.unlink(missing_ok=True)

    def _publish(self, final: Path) -> bool:
        """Give the file its name; False where another has it, and then this one is gone."""
        try:
            os.link(self._path, final)
        except FileExistsError:
            self._path.unlink()
            return False
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            self._path.rename(final)
        else:
            self._path.unlink()
        self._path = final
        return True

    def _other(self, name: str) -> StagedOriginal:
        other = _adopted(self._path.with_name(name), self._checks.anew())
        if other is None:
            raise StorageError("The file was taken away from the stage while it was taken in.")
        return other


def _adopted(path: Path, checks: _Checks) -> StagedOriginal | None:
    with translated():
        try:
            file = path.open("rb", buffering=0)
        except FileNotFoundError:
            return None
    with file:
        while chunk := _read(file):
            checks.take(chunk)
        return checks.passed(path.name, file)


def _read(file: BinaryIO) -> bytes:
    with translated():
        return file.read(MIB)


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
