"""
Files of this machine inside the folders that were set free for jobs, and nothing outside of them.

Every path is walked folder by folder from the root's own descriptor, never through a symbolic link: what is
swapped meanwhile leads nowhere. Others may write in these folders at any time.
"""

import errno
import os
import secrets
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from image_processor.errors import (
    FileTooLargeError,
    ImageProcessorError,
    InvalidRequestError,
    SourceNotFoundError,
    SourceUnavailableError,
    StorageError,
    StorageFullError,
    UnavailableError,
    is_disk_full,
)
from image_processor.locations.uris import FileUri

CHUNK_BYTES = 256 * 1024
MIB = 1024 * 1024
PART = ".part-"
"""What the names of half-written files begin with."""

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_BELOW = _FOLDER | os.O_NOFOLLOW
_SOURCE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC  # a FIFO must not block
_NAMELESS = os.O_WRONLY | os.O_CLOEXEC | getattr(os, "O_TMPFILE", os.O_DIRECTORY)  # opens where it exists
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

_NOT_THERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES, errno.EPERM, errno.ENXIO})
_IN_THE_WAY = frozenset({errno.ENOTDIR, errno.ELOOP, errno.EISDIR, errno.EACCES, errno.EPERM, errno.EROFS})


class Folders:
    """The roots below which files may be read and written."""

    def __init__(self, roots: Sequence[Path]) -> None:
        by_depth = sorted((root.absolute() for root in roots), key=lambda root: -len(root.parts))
        self._roots = [(root, _lexical(root)) for root in by_depth]

    def check(self, uri: FileUri) -> None:
        """Nothing, if the file would lie inside a root; raises InvalidRequestError."""
        self._within(uri)

    @contextmanager
    def fetch(self, uri: FileUri, max_bytes: int) -> Iterator[Iterator[bytes]]:
        """
        The file's bytes in chunks.

        Raises SourceNotFoundError where there is no such regular file for us, FileTooLargeError,
        SourceUnavailableError where the disk fails, UnavailableError where the root is gone.
        """
        with self._opened(uri) as file:
            yield _chunks(file, max_bytes)

    def put(self, uri: FileUri, source: Path) -> None:
        """
        Copy a local file there, durable and whole when this returns, or not at all; missing folders are made.

        Raises InvalidRequestError where something is in the way, StorageFullError, StorageError,
        UnavailableError where the root is gone.
        """
        root, names = self._within(uri)
        with _writing(), self._folder(root, names[:-1], make=True) as chain:
            _check_replaceable(names[-1], chain[-1])
            _place(source, names[-1], chain[-1])
            for folder in reversed(chain):
                os.fsync(folder)

    def remove(self, uri: FileUri) -> None:
        """Remove the file; none there is fine. Raises InvalidRequestError, StorageError."""
        root, names = self._within(uri)
        with _writing(), suppress(FileNotFoundError), self._folder(root, names[:-1]) as chain:
            _check_replaceable(names[-1], chain[-1])
            os.unlink(names[-1], dir_fd=chain[-1])
            os.fsync(chain[-1])

    def _within(self, uri: FileUri) -> tuple[Path, tuple[str, ...]]:
        """The deepest root that holds the file, and the way from there."""
        if not self._roots:
            raise InvalidRequestError(
                "file:// is not open here: no folders are set free for it (FILE_ROOTS)."
            )
        for root, parts in self._roots:
            if uri.names[: len(parts)] == parts and len(uri.names) > len(parts):
                return root, uri.names[len(parts) :]
        raise InvalidRequestError(
            "This file:// URI leads outside the folders that are set free (FILE_ROOTS)."
        )

    def _opened(self, uri: FileUri) -> BinaryIO:
        root, names = self._within(uri)
        with _reading(), self._folder(root, names[:-1]) as chain:
            descriptor = os.open(names[-1], _SOURCE, dir_fd=chain[-1])
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise SourceNotFoundError("The file:// input is not a regular file.")
        return os.fdopen(descriptor, "rb", buffering=0)

    @contextmanager
    def _folder(self, root: Path, names: Sequence[str], *, make: bool = False) -> Iterator[list[int]]:
        """The root and the folders below it, each opened from the one above."""
        with ExitStack() as opened:
            chain = [_kept(opened, _open_root(root))]
            for name in names:
                if make:
                    with suppress(FileExistsError):
                        os.mkdir(name, dir_fd=chain[-1])
                chain.append(_kept(opened, os.open(name, _BELOW, dir_fd=chain[-1])))
            yield chain


def _lexical(root: Path) -> tuple[str, ...]:
    return Path(os.path.normpath(root)).parts[1:]


def _kept(stack: ExitStack, descriptor: int) -> int:
    stack.callback(os.close, descriptor)
    return descriptor


def _open_root(root: Path) -> int:
    """The root may be a link itself: who runs the service chose it."""
    try:
        return os.open(root, _FOLDER)
    except OSError as error:
        raise UnavailableError(
            f"A folder of FILE_ROOTS cannot be opened ({error.strerror}); is its volume mounted?"
        ) from error


def _chunks(file: BinaryIO, max_bytes: int) -> Iterator[bytes]:
    received = 0
    with _reading():
        if os.fstat(file.fileno()).st_size > max_bytes:
            raise _too_large(max_bytes)
        while chunk := file.read(CHUNK_BYTES):
            received += len(chunk)
            if received > max_bytes:  # it grows while it is read
                raise _too_large(max_bytes)
            yield chunk


def _too_large(max_bytes: int) -> FileTooLargeError:
    return FileTooLargeError(f"The file is larger than {max_bytes / MIB:g} MB.", max_bytes=max_bytes)


def _check_replaceable(name: str, folder: int) -> None:
    """Only files are replaced or removed: a link, a folder or a device under that name is somebody's."""
    with suppress(FileNotFoundError):
        if not stat.S_ISREG(os.lstat(name, dir_fd=folder).st_mode):
            raise InvalidRequestError("Something other than a file is at the place of the output.")


def _place(source: Path, name: str, folder: int) -> None:
    """Write a new file beside the place, and give it the name once it is whole and durable."""
    part = PART + secrets.token_hex(8)
    try:
        with (
            os.fdopen(_open_part(part, folder), "wb", buffering=0) as copy,
            source.open("rb", buffering=0) as original,
        ):
            while chunk := original.read(CHUNK_BYTES):
                _write_all(copy, chunk)
            os.fsync(copy.fileno())
            with suppress(FileExistsError):  # it has its name already where it could not be without
                os.link(f"/proc/self/fd/{copy.fileno()}", part, dst_dir_fd=folder)
        os.rename(part, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(part, dir_fd=folder)
        raise


def _open_part(name: str, folder: int) -> int:
    """A new file; without a name where the file system can, so that not even a kill leaves it behind."""
    with suppress(OSError):
        return os.open(".", _NAMELESS, 0o666, dir_fd=folder)
    return os.open(name, _NEW, 0o666, dir_fd=folder)


def _write_all(file: BinaryIO, chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        view = view[file.write(view) :]


@contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _source_error(error) from error


def _source_error(error: OSError) -> ImageProcessorError:
    if error.errno in _NOT_THERE:
        return SourceNotFoundError("There is no file at the file:// input that can be read and is no link.")
    return SourceUnavailableError(f"The file:// input cannot be read: {error.strerror}.")


@contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _output_error(error) from error


def _output_error(error: OSError) -> ImageProcessorError:
    if is_disk_full(error):
        return StorageFullError("There is no room left for the file:// output.")
    if error.errno in _IN_THE_WAY:
        return InvalidRequestError(f"The file:// output cannot be written: {error.strerror}.")
    return StorageError(f"The file:// output cannot be written: {error.strerror}.")
