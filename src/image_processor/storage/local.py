"""
Objects as files below one folder of a POSIX file system. Nothing else writes below that folder.

Every path is walked folder by folder from the root, never through a symbolic link, so that even a link
planted inside the tree leads nowhere. What is not a regular file does not exist for this storage.
"""

import errno
import hashlib
import os
import stat
import sys
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from image_processor import file_clock
from image_processor.errors import (
    ImageProcessorError,
    InvalidKeyError,
    NotFoundError,
    StorageError,
    StorageFullError,
    StorageReadOnlyError,
    UnavailableError,
    is_disk_full,
)
from image_processor.pipeline import ImageFormat
from image_processor.storage.base import ListedObject, StoredObject
from image_processor.storage.keys import check_key, check_prefix

INCOMING = ".incoming"
"""The folder of half-written files; its leading dot is outside the key grammar."""
CHUNK_BYTES = 1024 * 1024
PUBLISH_ATTEMPTS = 100
"""How often a put makes its folders anew when a delete of the last neighbour removes them under its hands."""
SHA256_ATTRIBUTE = "user.image_processor.sha256"

CONTENT_TYPES = {
    # An SVG is a document that can hold scripts: it is not served as one.
    **{f".{known.extension}": known.media_type for known in ImageFormat if known is not ImageFormat.SVG},
    ".jpeg": ImageFormat.JPEG.media_type,
    ".tiff": ImageFormat.TIFF.media_type,
}
UNKNOWN_TYPE = "application/octet-stream"

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_OBJECT = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK  # a planted FIFO must not block the open
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW

_ABSENT = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}
_OUT_OF_REACH = {
    errno.ESTALE,
    errno.ENODEV,
    errno.ENXIO,
    errno.ENOTCONN,
    errno.ETIMEDOUT,
    errno.EHOSTDOWN,
    errno.EMFILE,
    errno.ENFILE,
}


@dataclass(frozen=True)
class _Copy:
    """A whole, durable file in the incoming folder."""

    name: str
    size_bytes: int
    sha256: str
    modified_at: float


class LocalStorage:
    """
    Objects as files below `root`, addressed below `base_url`.

    The content type is that of the key's extension: `put` ignores any other. The SHA-256 is kept in an
    extended attribute where the file system has those; elsewhere, and for files from other hands, it is None
    in `stat`. A key cannot run through another object's key (InvalidKeyError): a file is no folder.

    Makes the root and its folder for half-written files, and never again: a volume that is not mounted any
    more is an UnavailableError, not an empty storage. Raises StorageError where they cannot be made.
    """

    def __init__(self, root: Path, *, base_url: str = "/storage/") -> None:
        self._root = root.resolve()
        self._base_url = base_url.rstrip("/")
        with _translated("make its folders"):
            (self._root / INCOMING).mkdir(parents=True, exist_ok=True)
            with self._folders([]) as (folder,):
                os.fsync(folder)

    def put(self, key: str, source: Path, *, content_type: str) -> StoredObject:  # noqa: ARG002 (see the class)
        """Store the bytes of a local file; see `Storage.put`."""
        check_key(key)
        with _translated("write"), self._incoming() as incoming:
            copy = _copy_in(source, incoming)
            try:
                self._publish(copy.name, incoming, key)
            except BaseException:
                _remove(copy.name, incoming)
                raise
        return StoredObject(
            key=key,
            size_bytes=copy.size_bytes,
            sha256=copy.sha256,
            content_type=_content_type(key),
            modified_at=copy.modified_at,
        )

    def open(self, key: str) -> AbstractContextManager[BinaryIO]:
        """The bytes, as a seekable binary file. Raises NotFoundError."""
        return os.fdopen(self._open_object(key), "rb")

    def stat(self, key: str) -> StoredObject:
        """What is known of the object. Raises NotFoundError."""
        descriptor = self._open_object(key)
        try:
            facts = os.fstat(descriptor)
            sha256 = _remembered_sha256(descriptor)
        finally:
            os.close(descriptor)
        return StoredObject(
            key=key,
            size_bytes=facts.st_size,
            sha256=sha256,
            content_type=_content_type(key),
            modified_at=facts.st_mtime,
        )

    def delete(self, key: str) -> bool:
        """Remove the object and the folders that it leaves empty; False where there was none."""
        *folders, name = check_key(key).split("/")
        try:
            with _translated("delete", key), self._folders(folders) as chain:
                if not stat.S_ISREG(os.lstat(name, dir_fd=chain[-1]).st_mode):
                    return False
                os.unlink(name, dir_fd=chain[-1])
                os.fsync(chain[-1])
                _remove_empty(folders, chain)
        except NotFoundError:
            return False
        return True

    def keys(self, prefix: str) -> Iterator[str]:
        """The keys below a prefix, in no order; other files than ours are passed over."""
        return (entry.key for entry in self.objects(prefix))

    def objects(self, prefix: str) -> Iterator[ListedObject]:
        """The same with sizes and times."""
        return self._walk(check_prefix(prefix))

    def check(self) -> None:
        """Nothing, if the folder is there. Raises UnavailableError."""
        self.free_bytes()

    def url(self, key: str) -> str:
        """The address under which a client gets the bytes."""
        return f"{self._base_url}/{check_key(key)}"

    def free_bytes(self) -> int | None:
        """The room that is left on the file system for a process without privileges, in bytes."""
        with _translated("tell its room"), self._folders([]) as (folder,):
            room = os.fstatvfs(folder)
        return room.f_bavail * room.f_frsize

    def sweep_incoming(self, older_than_seconds: float) -> int:
        """Remove half-written files that nobody has written to for so long; the number of them."""
        with _translated("sweep"), self._incoming() as incoming, os.scandir(incoming) as entries:
            newest = file_clock.now(incoming) - older_than_seconds
            return sum(_remove(entry.name, incoming) for entry in entries if _is_older(entry, newest))

    def _publish(self, name: str, incoming: int, key: str) -> None:
        """Give the finished file its key, and make that durable."""
        for _ in range(PUBLISH_ATTEMPTS):
            with suppress(FileNotFoundError):
                return self._move(name, incoming, key)
        raise StorageError(f"The folder of {key!r} vanishes as often as it is made.")

    def _move(self, name: str, incoming: int, key: str) -> None:
        *folders, final = key.split("/")
        try:
            with self._folders(folders, make=True) as chain:
                os.replace(name, final, src_dir_fd=incoming, dst_dir_fd=chain[-1])
                # All of them: a neighbour's put may have made a folder above and not have come to its fsync.
                for folder in reversed(chain):
                    os.fsync(folder)
        except (NotADirectoryError, IsADirectoryError) as error:
            raise InvalidKeyError(
                f"The key {key!r} and that of another object run through each other."
            ) from error

    def _open_object(self, key: str) -> int:
        *folders, name = check_key(key).split("/")
        with _translated("read", key), self._folders(folders) as chain:
            descriptor = os.open(name, _OBJECT, dir_fd=chain[-1])
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise NotFoundError(f"There is no object {key!r}.")
        return descriptor

    def _walk(self, prefix: str) -> Iterator[ListedObject]:
        pending = [prefix]
        while pending:
            folder = pending.pop()
            for entry in self._listing(folder):
                path = folder + entry.name
                if not _is_key(path):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    pending.append(f"{path}/")
                elif entry.is_file(follow_symlinks=False):
                    yield from _listed(path, entry)

    def _listing(self, folder: str) -> Iterator[os.DirEntry[str]]:
        with (
            suppress(NotFoundError),
            _translated("list", folder),
            self._folders(folder.split("/")[:-1]) as chain,
            os.scandir(chain[-1]) as entries,
        ):
            yield from entries

    @contextmanager
    def _incoming(self) -> Iterator[int]:
        """The folder of half-written files, open."""
        with self._folders([]) as (root,):
            try:
                descriptor = os.open(INCOMING, _FOLDER, dir_fd=root)
            except FileNotFoundError as error:
                raise UnavailableError(
                    f"The storage's folder {INCOMING} is gone; is its volume mounted?"
                ) from error
            try:
                yield descriptor
            finally:
                os.close(descriptor)

    @contextmanager
    def _folders(self, names: list[str], *, make: bool = False) -> Iterator[list[int]]:
        """The root and the folders below it, each opened from the one above it."""
        with ExitStack() as opened:
            chain = [_opened(opened, self._open_root())]
            for name in names:
                if make:
                    with suppress(FileExistsError):
                        os.mkdir(name, dir_fd=chain[-1])
                chain.append(_opened(opened, os.open(name, _FOLDER, dir_fd=chain[-1])))
            yield chain

    def _open_root(self) -> int:
        try:
            return os.open(self._root, _FOLDER)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise UnavailableError("The storage's folder is gone; is the volume mounted?") from error


def _listed(key: str, entry: os.DirEntry[str]) -> Iterator[ListedObject]:
    with suppress(FileNotFoundError):  # deleted since
        facts = entry.stat(follow_symlinks=False)
        yield ListedObject(key=key, size_bytes=facts.st_size, modified_at=facts.st_mtime)


def _opened(stack: ExitStack, descriptor: int) -> int:
    stack.callback(os.close, descriptor)
    return descriptor


def _copy_in(source: Path, incoming: int) -> _Copy:
    """Copy a file into the incoming folder, durable and with its hash; leaves nothing where that fails."""
    name = f"{uuid.uuid4().hex}.part"
    with _opened_source(source) as original:
        descriptor = os.open(name, _NEW, 0o666, dir_fd=incoming)
        try:
            with os.fdopen(descriptor, "wb", buffering=0) as copy:
                sha256 = _copy_hashing(original, copy.fileno())
                _remember_sha256(copy.fileno(), sha256)
                os.fsync(copy.fileno())
                facts = os.fstat(copy.fileno())
        except BaseException:
            _remove(name, incoming)
            raise
    return _Copy(name=name, size_bytes=facts.st_size, sha256=sha256, modified_at=facts.st_mtime)


def _opened_source(source: Path) -> BinaryIO:
    try:
        return source.open("rb", buffering=0)
    except OSError as error:
        raise StorageError(f"The file to store cannot be read: {error.strerror}") from error


def _copy_hashing(original: BinaryIO, copy: int) -> str:
    digest = hashlib.sha256()
    while chunk := original.read(CHUNK_BYTES):
        digest.update(chunk)
        written = 0
        while written < len(chunk):
            written += os.write(copy, chunk[written:])
    return digest.hexdigest()


def _remember_sha256(descriptor: int, sha256: str) -> None:
    if sys.platform == "linux":
        with suppress(OSError):  # not every file system has attributes; the hash is then None on stat
            os.setxattr(descriptor, SHA256_ATTRIBUTE, sha256.encode())


def _remembered_sha256(descriptor: int) -> str | None:
    if sys.platform == "linux":
        with suppress(OSError):
            return os.getxattr(descriptor, SHA256_ATTRIBUTE).decode("ascii", "replace")
    return None


def _remove(name: str, folder: int) -> bool:
    try:
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        return False
    return True


def _remove_empty(folders: list[str], chain: list[int]) -> None:
    for name, parent in reversed(list(zip(folders, chain, strict=False))):
        try:
            os.rmdir(name, dir_fd=parent)
        except OSError:  # others live there, or somebody was faster: the object is gone all the same
            return


def _is_older(entry: os.DirEntry[str], newest: float) -> bool:
    try:
        return entry.stat(follow_symlinks=False).st_mtime <= newest
    except FileNotFoundError:
        return False


def _is_key(path: str) -> bool:
    try:
        check_key(path)
    except InvalidKeyError:
        return False
    return True


def _content_type(key: str) -> str:
    return CONTENT_TYPES.get(PurePosixPath(key).suffix.lower(), UNKNOWN_TYPE)


@contextmanager
def _translated(action: str, key: str | None = None) -> Iterator[None]:
    """Turn the operating system's errors into ours; with a key, a path that is not there is NotFoundError."""
    try:
        yield
    except OSError as error:
        raise _translate(error, action, key) from error


def _translate(error: OSError, action: str, key: str | None) -> ImageProcessorError:
    if is_disk_full(error):
        return StorageFullError("The storage is full.")
    if error.errno in _OUT_OF_REACH:
        return UnavailableError(f"The storage cannot be reached to {action}: {error.strerror}.")
    if error.errno == errno.EROFS:
        return StorageReadOnlyError(f"The storage is read-only: it failed to {action}.")
    if key is not None and error.errno in _ABSENT:
        return NotFoundError(f"There is no object {key!r}.")
    return StorageError(f"The storage failed to {action}: {error.strerror}.")
