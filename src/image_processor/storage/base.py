"""The storage protocol and the values that cross it."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class ListedObject:
    """What a listing tells of one object."""

    key: str
    size_bytes: int
    modified_at: float
    """Seconds since the epoch, by the storage's clock."""


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

    def objects(self, prefix: str) -> Iterator[ListedObject]:
        """The same with what a listing tells; what vanishes meanwhile may be left out."""
        ...

    def url(self, key: str) -> str:
        """The address under which a client gets the bytes; made here, without asking the place."""
        ...

    def check(self) -> None:
        """Nothing, if the place answers; else raises what any method would raise now."""
        ...

    def free_bytes(self) -> int | None:
        """The room that is left, in bytes; None where there is no bound."""
        ...


@dataclass(frozen=True, kw_only=True)
class UploadAddress:
    """How a client puts bytes under one key by itself, without a token of ours."""

    method: str
    """`PUT`: the bytes are the body. `POST`: a form of `fields` with the bytes last, as `file`."""
    url: str
    fields: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    """To be sent as they are."""


class UploadAddresses(Protocol):
    """Gives addresses that a stranger can upload to, without asking the place."""

    def upload_address(
        self, key: str, *, content_type: str, max_bytes: int, expires_in_seconds: int
    ) -> UploadAddress:
        """
        Good for one key, one content type, at most so many bytes, and until it expires.

        A place that cannot bound the size fixes it: then it has to be exactly so many.
        """
        ...


class Guard(Protocol):
    """Stands before each call to a place, and may refuse it: a breaker."""

    def call(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """What the work gives or raises; raises StorageDownError instead while the place is left alone."""
        ...


class NoGuard:
    """Lets every call through."""

    def call(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """What the work gives or raises."""
        return work(*args, **kwargs)


@dataclass(frozen=True, kw_only=True)
class Guards:
    """Reading and writing fail apart: a full or read-only place can still be read."""

    reading: Guard = field(default_factory=NoGuard)
    writing: Guard = field(default_factory=NoGuard)
