"""The storage protocol and the values that cross it."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol


@dataclass(frozen=True, kw_only=True)
class StoredObject:
    """What a storage knows of one object."""

    key: str
    size_bytes: int
    sha256: str | None
    """Hexadecimal, of the bytes as they were written; None where the storage was filled by other hands."""
    content_type: str
    modified_at: float
    """Seconds since the epoch."""


class Storage(Protocol):
    """
    A place for bytes by key. Keys are checked by `keys.check_key` in every method.

    Raises, from every method: InvalidKeyError for a key outside the grammar; StorageFullError where there is
    no room; UnavailableError where the place cannot be reached; StorageError for what else goes wrong.
    """

    def put(self, key: str, source: Path, *, content_type: str) -> StoredObject:
        """Store the bytes of a local file, durable and whole when this returns, or not at all. Replaces."""
        ...

    def open(self, key: str) -> AbstractContextManager[BinaryIO]:
        """The bytes, as a seekable binary file. Raises NotFoundError."""
        ...

    def stat(self, key: str) -> StoredObject:
        """What is known of the object. Raises NotFoundError."""
        ...

    def delete(self, key: str) -> bool:
        """Remove the object; False where there was none."""
        ...

    def keys(self, prefix: str) -> Iterator[str]:
        """The keys below a prefix (`a/b/` or `""` for all), in no order; half-written ones never show."""
        ...

    def url(self, key: str) -> str:
        """The address under which a client gets the bytes."""
        ...

    def free_bytes(self) -> int | None:
        """The room that is left, in bytes; None where there is no bound."""
        ...
