"""A stage whose finished originals wait in a storage, for workers on any machine."""

import hashlib
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from image_processor.errors import NotFoundError, StorageDamageError, StorageError
from image_processor.intake.stage import MIB, CheckWanted, Stage, StagedOriginal, translated
from image_processor.storage.base import Storage
from image_processor.storage.keys import INCOMING

PREFIX = f"{INCOMING}/staged/"
CONTENT_TYPE = "application/octet-stream"
"""Of all of them: no browser is to make anything of what was not looked at yet."""
MIN_AGE_SECONDS = 24 * 3600.0
"""What is younger may belong to a submit on a machine whose clock, or whose network, is late."""


class SharedStage(Stage):
    """
    Checks originals on this machine's disk, keeps them in a storage, and lends each attempt a copy.

    No two attempts share a copy: one that lost its job can end, or be killed, at any time and harms no other.
    """

    def __init__(self, directory: Path, incoming: Storage, *, min_free_bytes: int = 0) -> None:
        super().__init__(directory, min_free_bytes=min_free_bytes)
        self._incoming = incoming

    def share(self, original: StagedOriginal) -> None:
        """Move a finished original to the storage; see `Stage.share`."""
        try:
            stored = self._incoming.put(
                _key(original.name), self.path(original.name), content_type=CONTENT_TYPE
            )
        finally:
            self.discard(original.name)
        if (stored.size_bytes, stored.sha256 or original.sha256) != (original.size_bytes, original.sha256):
            self._incoming.delete(_key(original.name))
            raise StorageDamageError("The storage took other bytes of the file than it was given.")

    def check_fetching(self) -> None:
        """Raise StorageFullError while there is no room for a copy; see `Stage.check_fetching`."""
        self.check_room()

    def fetch(self, name: str, *, size_bytes: int, sha256: str, check_wanted: CheckWanted) -> Path:
        """A new copy, or what lies here since before there was this storage; see `Stage.fetch`."""
        if (here := self.path(name)).exists():
            return here
        self.check_room()
        copy = self.path(f"{name}.{secrets.token_hex(8)}")
        try:
            _check(self._copy(name, copy, size_bytes, check_wanted), (size_bytes, sha256))
        except BaseException:
            self.discard(copy.name)
            raise
        return copy

    def _copy(self, name: str, copy: Path, most: int, check_wanted: CheckWanted) -> tuple[int, str]:
        """Size and SHA-256 of what was copied; it ends soon after `most` bytes."""
        try:
            with (
                self._incoming.open(_key(name)) as source,
                translated(),
                copy.open("xb", buffering=0) as file,
            ):
                return _copied(source, file, most, check_wanted)
        except NotFoundError as error:
            raise StorageError("The staged original cannot be read: it is not there.") from error

    def remove(self, name: str) -> None:
        """Remove the original from the storage, and every copy from this machine; see `Stage.remove`."""
        with translated():
            copies = [path.name for path in self.directory.glob(f"{name}.*")]
        for copy in (name, *copies):
            self.discard(copy)
        self._incoming.delete(_key(name))

    def shared_names_older_than(self, seconds: float) -> Iterator[str]:
        """The names of originals that were put into the storage before that long, and a day ago at least."""
        newest = time.time() - max(seconds, MIN_AGE_SECONDS)
        for entry in self._incoming.objects(PREFIX):
            name = entry.key.removeprefix(PREFIX)
            if entry.modified_at < newest and "/" not in name:
                yield name


def _key(name: str) -> str:
    return PREFIX + name


def _check(found: tuple[int, str], expected: tuple[int, str]) -> None:
    if found != expected:
        raise StorageDamageError("The storage holds other bytes of the original than were taken in.")


def _copied(source: BinaryIO, copy: BinaryIO, most: int, check_wanted: CheckWanted) -> tuple[int, str]:
    size, digest = 0, hashlib.sha256()
    check_wanted()
    while size <= most and (chunk := source.read(MIB)):
        check_wanted()
        digest.update(chunk)
        size += len(chunk)
        view = memoryview(chunk)
        while view:
            view = view[copy.write(view) :]
    return size, digest.hexdigest()
