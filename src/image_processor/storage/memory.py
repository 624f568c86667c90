"""A storage in this process's memory, which ends with it: the twin of the others for tests and trials."""

import hashlib
import io
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from image_processor.errors import InvalidKeyError, NotFoundError, StorageError, StorageFullError
from image_processor.storage.base import ListedObject, StoredObject
from image_processor.storage.keys import check_key, check_prefix


@dataclass(frozen=True)
class _Kept:
    content: bytes
    facts: StoredObject


class MemoryStorage:
    """
    Bytes in a dict, safe for threads. `capacity_bytes` makes it run full as a disk does.

    Like a disk, and unlike S3, it refuses (InvalidKeyError) a key that runs through another object's key.
    """

    def __init__(self, *, base_url: str = "/storage/", capacity_bytes: int | None = None) -> None:
        self._base_url = base_url.rstrip("/")
        self._capacity_bytes = capacity_bytes
        self._objects: dict[str, _Kept] = {}
        self._lock = threading.Lock()

    def put(self, key: str, source: Path, *, content_type: str) -> StoredObject:
        """Store the bytes of a local file; see `Storage.put`."""
        check_key(key)
        content = _read(source)
        facts = StoredObject(
            key=key,
            size_bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
            content_type=content_type,
            modified_at=time.time(),
        )
        with self._lock:
            self._check_room(key, len(content))
            self._check_folders(key)
            self._objects[key] = _Kept(content, facts)
        return facts

    def open(self, key: str) -> AbstractContextManager[BinaryIO]:
        """The bytes, as a seekable binary file. Raises NotFoundError."""
        return io.BytesIO(self._find(key).content)

    def stat(self, key: str) -> StoredObject:
        """What is known of the object. Raises NotFoundError."""
        return self._find(key).facts

    def delete(self, key: str) -> bool:
        """Remove the object; False where there was none."""
        check_key(key)
        with self._lock:
            return self._objects.pop(key, None) is not None

    def keys(self, prefix: str) -> Iterator[str]:
        """The keys below a prefix, as they are at the call."""
        return (entry.key for entry in self.objects(prefix))

    def objects(self, prefix: str) -> Iterator[ListedObject]:
        """The same with sizes and times."""
        check_prefix(prefix)
        with self._lock:
            return iter(
                [_listed(kept.facts) for key, kept in self._objects.items() if key.startswith(prefix)]
            )

    def check(self) -> None:
        """Nothing: it is always there."""

    def url(self, key: str) -> str:
        """The address under which a client would get the bytes."""
        return f"{self._base_url}/{check_key(key)}"

    def free_bytes(self) -> int | None:
        """The room that is left, in bytes; None without a capacity."""
        if self._capacity_bytes is None:
            return None
        with self._lock:
            return self._capacity_bytes - self._used_bytes()

    def _find(self, key: str) -> _Kept:
        kept = self._objects.get(check_key(key))
        if kept is None:
            raise NotFoundError(f"There is no object {key!r}.")
        return kept

    def _used_bytes(self) -> int:
        return sum(len(kept.content) for kept in self._objects.values())

    def _check_room(self, key: str, size_bytes: int) -> None:
        if self._capacity_bytes is None:
            return
        replaced = len(self._objects[key].content) if key in self._objects else 0
        if self._used_bytes() - replaced + size_bytes > self._capacity_bytes:
            raise StorageFullError("The storage is full.")

    def _check_folders(self, key: str) -> None:
        below = f"{key}/"
        if any(parent in self._objects for parent in _parents(key)) or any(
            other.startswith(below) for other in self._objects
        ):
            raise InvalidKeyError(f"The key {key!r} and another object's run through each other.")


def _listed(facts: StoredObject) -> ListedObject:
    return ListedObject(key=facts.key, size_bytes=facts.size_bytes, modified_at=facts.modified_at)


def _parents(key: str) -> Iterator[str]:
    """The keys that a disk would need as folders: `a` and `a/b` for `a/b/c`."""
    segments = key.split("/")
    return ("/".join(segments[:count]) for count in range(1, len(segments)))


def _read(source: Path) -> bytes:
    try:
        return source.read_bytes()
    except OSError as error:
        raise StorageError(f"The file to store cannot be read: {error.strerror}") from error
