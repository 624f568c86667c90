"""Copies the objects of one storage to another, each under its own key. Nothing is printed here."""

import hashlib
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from pathlib import Path

from image_processor.errors import (
    ImageProcessorError,
    NotFoundError,
    StorageDamageError,
    StorageDownError,
    StorageThrottledError,
    UnavailableError,
    disk_errors,
)
from image_processor.maintenance.parallel import in_parallel
from image_processor.storage.base import ListedObject, Storage, StoredObject
from image_processor.storage.keys import is_incoming

CHUNK_BYTES = 1024 * 1024
SIEVE_BYTES = 16 * 1024 * 1024
MAX_FAILURES_SHOWN = 20
MAX_OUTAGES_IN_ROW = 5
"""After so many objects in a row that found a storage down, it is."""
PAUSES_SECONDS = (0.5, 2.0)
"""Between the attempts at one object, where the next one may do better."""


class Fate(StrEnum):
    """What became of an object."""

    COPIED = "copied"
    """It was not there, or not as it should be, and is now; of a trial: it would be copied."""
    PRESENT = "present"
    """It was there already, with the same size and the same SHA-256."""
    VANISHED = "vanished"
    """It was listed, and deleted before its turn came."""
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class Amount:
    """Objects and their bytes."""

    objects: int = 0
    size_bytes: int = 0

    def with_one(self, size_bytes: int) -> "Amount":
        """One object more."""
        return Amount(objects=self.objects + 1, size_bytes=self.size_bytes + size_bytes)


@dataclass(frozen=True, kw_only=True)
class Moved:
    """One object, and what became of it."""

    entry: ListedObject
    fate: Fate
    error: ImageProcessorError | None = None
    """Of a FAILED one."""


@dataclass
class Report:
    """What became of the objects so far."""

    amounts: dict[Fate, Amount] = field(default_factory=lambda: dict.fromkeys(Fate, Amount()))
    failures: list[Moved] = field(default_factory=list)
    """The first of those that failed, at most 20."""

    @property
    def is_complete(self) -> bool:
        """Whether every object that there was is on the other side, and is the same."""
        return self.amounts[Fate.FAILED].objects == 0

    def add(self, moved: Moved) -> None:
        """Count one more."""
        self.amounts[moved.fate] = self.amounts[moved.fate].with_one(moved.entry.size_bytes)
        if moved.fate is Fate.FAILED and len(self.failures) < MAX_FAILURES_SHOWN:
            self.failures.append(moved)


@dataclass(frozen=True, kw_only=True)
class CopyTerms:
    """How objects are copied."""

    threads: int = 4
    scratch: Path | None = None
    """The folder in which objects lie on their way, at most one for each thread; the system's by default."""
    reads_back: bool = False
    """
    Whether every byte is read from the target and hashed, those of objects that were there before too.

    Without it the target's own word is taken: S3 and disk check the bytes as they take them in, and keep
    their hash with the object.
    """


class Sieve:
    """
    Which keys a listing did not hold, in 16 MiB however long it was.

    Of keys that it did not hold it may take one for held: with ten million in it, one in fourteen. That one
    is asked for in vain, and all others are spared a question each.
    """

    def __init__(self, keys: Iterable[str]) -> None:
        self._bits = bytearray(SIEVE_BYTES)
        for key in keys:
            place, bit = _place(key)
            self._bits[place] |= bit

    def may_hold(self, key: str) -> bool:
        """False for what was not in the listing for certain."""
        place, bit = _place(key)
        return bool(self._bits[place] & bit)


def _place(key: str) -> tuple[int, int]:
    number = zlib.crc32(key.encode()) % (8 * SIEVE_BYTES)
    return number >> 3, 1 << (number & 7)


Told = Callable[[Moved], None]


class Migration:
    """
    Copies what is in `source` to `target`. Killed at any point, it goes on where it was when it runs again.

    All it knows is in the two storages: an object is done where the target has one of the same size and the
    same SHA-256. What is not accepted yet, or waits for its worker, is left where it is.
    """

    def __init__(self, source: Storage, target: Storage, terms: CopyTerms | None = None) -> None:
        self._source = source
        self._target = target
        self._terms = terms or CopyTerms()
        self._stopping = threading.Event()
        self._sieve = Sieve(())
        self.report = Report()
        """What the last run did, or has done so far."""

    def listing(self) -> Iterator[ListedObject]:
        """The objects that there are to copy."""
        return (entry for entry in self._source.objects("") if not is_incoming(entry.key))

    def total(self) -> Amount:
        """How many those are, by a listing of their own."""
        total = Amount()
        for entry in self.listing():
            total = total.with_one(entry.size_bytes)
        return total

    def try_out(self, told: Told | None = None) -> Report:
        """What `run` would do; nothing is written."""
        self._check()
        return self._each(self._look, self.listing(), told)

    def run(self, told: Told | None = None, entries: Iterable[ListedObject] | None = None) -> Report:
        """
        Copy every object, or those of `entries`; `told` hears of each, on this thread.

        An object that fails is counted, and the others go on. Raises what a storage raises that is down for
        several objects in a row, or cannot be listed; `report` tells of what was done until then.
        """
        self._check()
        with tempfile.TemporaryDirectory(dir=self._terms.scratch, prefix="migration-") as scratch:
            return self._each(
                partial(self._move, Path(scratch)), self.listing() if entries is None else entries, told
            )

    def _check(self) -> None:
        self._source.check()
        self._target.check()
        self._sieve = Sieve(self._target.keys(""))
        self._stopping.clear()
        self.report = Report()

    def _each(
        self, work: Callable[[ListedObject], Fate], entries: Iterable[ListedObject], told: Told | None
    ) -> Report:
        outages = 0
        attempt = partial(self._attempted, work)
        with closing(in_parallel(attempt, entries, threads=self._terms.threads)) as outcomes:
            try:
                for moved in outcomes:
                    self.report.add(moved)
                    if told is not None:
                        told(moved)
                    outages = outages + 1 if isinstance(moved.error, UnavailableError) else 0
                    if moved.error is not None and outages >= MAX_OUTAGES_IN_ROW:
                        raise moved.error
            finally:
                self._stopping.set()
        return self.report

    def _attempted(self, work: Callable[[ListedObject], Fate], entry: ListedObject) -> Moved:
        for pause_seconds in (*PAUSES_SECONDS, None):
            try:
                return Moved(entry=entry, fate=work(entry))
            except ImageProcessorError as error:
                if pause_seconds is None or not _may_pass(error) or self._stopping.wait(pause_seconds):
                    return Moved(entry=entry, fate=Fate.FAILED, error=error)
        raise AssertionError  # the last attempt has no pause

    def _look(self, entry: ListedObject) -> Fate:
        with suppress(NotFoundError):
            return Fate.PRESENT if self._is_there(self._source.stat(entry.key)) else Fate.COPIED
        return Fate.VANISHED

    def _move(self, scratch: Path, entry: ListedObject) -> Fate:
        with suppress(NotFoundError):
            found = self._source.stat(entry.key)
            if self._is_there(found):
                return Fate.PRESENT
            with _fetched(self._source, found, scratch) as (path, sha256):
                self._put(found, path, sha256)
            return Fate.COPIED
        return Fate.VANISHED

    def _put(self, found: StoredObject, path: Path, sha256: str) -> None:
        try:
            arrived = self._target.put(found.key, path, content_type=found.content_type)
            if arrived.size_bytes != found.size_bytes or self._sha256_there(arrived) != sha256:
                raise StorageDamageError("Other bytes arrived at the target than were sent.")
        except NotFoundError as error:
            raise StorageDamageError("The target took the object, and does not have it.") from error

    def _is_there(self, found: StoredObject) -> bool:
        if not self._sieve.may_hold(found.key):
            return False
        try:
            there = self._target.stat(found.key)
            if there.size_bytes != found.size_bytes:
                return False
            return self._sha256_there(there) == (found.sha256 or sha256_of(self._source, found.key))
        except NotFoundError:
            return False

    def _sha256_there(self, there: StoredObject) -> str:
        known = None if self._terms.reads_back else there.sha256
        return known or sha256_of(self._target, there.key)


def sha256_of(storage: Storage, key: str) -> str:
    """Hexadecimal, of the bytes as they are read. Raises NotFoundError and what reading raises."""
    digest = hashlib.sha256()
    with storage.open(key) as file, _translated():
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


@contextmanager
def _fetched(storage: Storage, found: StoredObject, scratch: Path) -> Iterator[tuple[Path, str]]:
    """A file with the bytes, gone afterwards, and their hash; StorageDamageError where they are not right."""
    path = scratch / f"{threading.get_ident()}-{time.monotonic_ns()}"
    try:
        size_bytes, sha256 = _fetch(storage, found.key, path)
        if size_bytes != found.size_bytes or sha256 != (found.sha256 or sha256):
            raise StorageDamageError("The source's bytes are not those that were stored.")
        yield path, sha256
    finally:
        path.unlink(missing_ok=True)


def _fetch(storage: Storage, key: str, path: Path) -> tuple[int, str]:
    digest, size_bytes = hashlib.sha256(), 0
    with storage.open(key) as file, _translated(), path.open("xb") as copy:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            size_bytes += copy.write(chunk)
    return size_bytes, digest.hexdigest()


def _translated() -> AbstractContextManager[None]:
    return disk_errors(
        full="There is no room in the folder for objects on their way.",
        failed="An object could not be read, or kept on its way",
    )


def _may_pass(error: ImageProcessorError) -> bool:
    """Whether the next attempt may do better, and soon: not where somebody has to mend a setting first."""
    return type(error) is StorageDownError or isinstance(error, (StorageThrottledError, StorageDamageError))
