"""Compares what the rows say is stored with what is: every row its file, every file its row."""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from image_processor.errors import NotFoundError
from image_processor.jobs.inventory import InventoryImage, InventoryRepository, Standing
from image_processor.jobs.values import DAY_SECONDS, StoredVariant
from image_processor.maintenance.migration import Amount, sha256_of
from image_processor.maintenance.parallel import in_parallel
from image_processor.maintenance.partitions import PARTITIONS, Partitions
from image_processor.pipeline import Pipeline
from image_processor.placement import is_elsewhere, variant_keys
from image_processor.storage.base import Storage
from image_processor.storage.keys import is_incoming

MAX_EXAMPLES = 20
STRAY_SECONDS = DAY_SECONDS
"""Strays that are younger stay: whoever wrote them may not be done."""


class Flaw(StrEnum):
    """What can be wrong."""

    MISSING = "missing"
    """A row has no file."""
    WRONG_SIZE = "wrong_size"
    """Its file has fewer or more bytes than the row says."""
    DAMAGED = "damaged"
    """It has as many, and others."""
    STRAY_OF_DELETED = "stray_of_deleted"
    """A file of an image that was deleted: it may go."""
    STRAY_OF_FAILED = "stray_of_failed"
    """A file of an image whose job failed: a running service removes it, unless the job is replayed."""
    STRAY_UNKNOWN = "stray_unknown"
    """No row knows of the file: it is another's, or of an image that was forgotten."""


LOSSES = (Flaw.MISSING, Flaw.WRONG_SIZE, Flaw.DAMAGED)
STRAYS = (Flaw.STRAY_OF_DELETED, Flaw.STRAY_OF_FAILED, Flaw.STRAY_UNKNOWN)


@dataclass
class Findings:
    """All of one kind."""

    count: int = 0
    size_bytes: int = 0
    examples: list[str] = field(default_factory=list)
    """The keys of the first of them, at most 20."""

    def add(self, key: str, size_bytes: int) -> None:
        """Count one more."""
        self.count += 1
        self.size_bytes += size_bytes
        if len(self.examples) < MAX_EXAMPLES:
            self.examples.append(key)


@dataclass
class Verdict:
    """What the comparison found."""

    images: int = 0
    """That can be served."""
    files: int = 0
    """That their rows name, elsewhere than in the storage ones left out."""
    removed: int = 0
    """Strays."""
    flaws: dict[Flaw, Findings] = field(default_factory=lambda: {flaw: Findings() for flaw in Flaw})

    @property
    def is_whole(self) -> bool:
        """Whether every row has its file; strays do no harm."""
        return not any(self.flaws[flaw].count for flaw in LOSSES)


@dataclass(frozen=True, kw_only=True)
class VerifyTerms:
    """How thoroughly it is looked."""

    reads_all: bool = False
    """Whether every file is read, and its SHA-256 compared with the row's."""
    removes_strays: bool = False
    """Whether files of deleted images that are older than a day are removed."""
    threads: int = 4
    """That read."""
    scratch: Path | None = None
    """The folder for lists in the making; the system's by default."""


@dataclass(frozen=True)
class _Row:
    """What the rows say of one key."""

    key: str
    image_id: str
    standing: Standing
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class _File:
    key: str
    size_bytes: int
    modified_at: float


# Where two images share a key, one that is kept keeps it for both.
_RANK = {standing: rank for rank, standing in enumerate(reversed(Standing))}
_STRAY_OF = {Standing.DELETED: Flaw.STRAY_OF_DELETED, Standing.FAILED: Flaw.STRAY_OF_FAILED}


class Verification:
    """
    One comparison of the rows with the storage; both may change meanwhile.

    The storage is listed before the rows are read: a file in the list has its row by then. Whatever is
    missing from the list is looked for by itself before it is called so.
    """

    def __init__(
        self, inventory: InventoryRepository, storage: Storage, terms: VerifyTerms | None = None
    ) -> None:
        self._inventory = inventory
        self._storage = storage
        self._terms = terms or VerifyTerms()
        self._verdict = Verdict()

    def total(self) -> Amount:
        """The files that the rows name, and their bytes."""
        total = Amount()
        for _key, (_image_id, standing, size_bytes, _sha256) in self._rows():
            total = total.with_one(size_bytes) if standing is Standing.KEPT else total
        return total

    def run(self, told: Callable[[int], None] = lambda _size_bytes: None) -> Verdict:
        """
        The verdict; `told` hears the size of every file that was looked at by itself.

        Memory does not grow with the storage; the scratch folder takes about 300 bytes a file meanwhile.
        Raises what the storage and the database raise.
        """
        self._storage.check()
        self._verdict = Verdict()
        with tempfile.TemporaryDirectory(dir=self._terms.scratch, prefix="verification-") as scratch:
            listed = Partitions(Path(scratch), "listed")
            listed.write(self._files())
            known = Partitions(Path(scratch), "known")
            known.write(self._rows())
            for number in range(PARTITIONS):
                self._compare(_files_of(listed, number), _rows_of(known, number), told)
        return self._verdict

    def _files(self) -> Iterator[tuple[str, list[float]]]:
        for entry in self._storage.objects(""):
            if not is_incoming(entry.key):
                yield entry.key, [entry.size_bytes, entry.modified_at]

    def _rows(self) -> Iterator[tuple[str, tuple[str, Standing, int, str]]]:
        self._verdict.images = 0
        for image in self._inventory.images():
            self._verdict.images += image.standing is Standing.KEPT
            for key, variant in keys_of(image).items():
                size_bytes, sha256 = (variant.size_bytes, variant.sha256) if variant else (0, "")
                yield key, (image.image_id, image.standing, size_bytes, sha256)

    def _compare(self, files: dict[str, _File], rows: dict[str, _Row], told: Callable[[int], None]) -> None:
        kept = [row for row in rows.values() if row.standing is Standing.KEPT]
        self._verdict.files += len(kept)
        suspects = (row for row in kept if self._is_suspect(row, files.get(row.key)))
        with closing(in_parallel(self._looked_at, suspects, threads=self._terms.threads)) as looked_at:
            for row, flaw in looked_at:
                if flaw is not None:
                    self._verdict.flaws[flaw].add(row.key, row.size_bytes)
                told(row.size_bytes)
        for file in files.values():
            owner = rows.get(file.key)
            if owner is None or owner.standing in _STRAY_OF:
                self._stray(file, owner)

    def _is_suspect(self, row: _Row, file: _File | None) -> bool:
        return self._terms.reads_all or file is None or file.size_bytes != row.size_bytes

    def _looked_at(self, row: _Row) -> tuple[_Row, Flaw | None]:
        flaw = self._flaw_now(row)
        return row, flaw if flaw and self._is_kept(row) else None

    def _flaw_now(self, row: _Row) -> Flaw | None:
        try:
            if self._storage.stat(row.key).size_bytes != row.size_bytes:
                return Flaw.WRONG_SIZE
            if self._terms.reads_all and sha256_of(self._storage, row.key) != row.sha256:
                return Flaw.DAMAGED
        except NotFoundError:
            return Flaw.MISSING
        return None

    def _is_kept(self, row: _Row) -> bool:
        """Whether the image was not deleted in the meantime."""
        image = self._inventory.image(row.image_id)
        return image is not None and image.standing is Standing.KEPT

    def _stray(self, file: _File, row: _Row | None) -> None:
        flaw = Flaw.STRAY_UNKNOWN if row is None else _STRAY_OF[row.standing]
        if flaw is Flaw.STRAY_OF_DELETED and self._terms.removes_strays and self._remove(file):
            self._verdict.removed += 1
        else:
            self._verdict.flaws[flaw].add(file.key, file.size_bytes)

    def _remove(self, file: _File) -> bool:
        """Whether it is gone: only if nobody wrote it anew, and not within the last day."""
        if time.time() - file.modified_at < STRAY_SECONDS:
            return False
        try:
            found = self._storage.stat(file.key)
        except NotFoundError:
            return True
        # A listing and a single answer may tell the time with another precision.
        is_same = found.size_bytes == file.size_bytes and abs(found.modified_at - file.modified_at) < 2
        return is_same and self._storage.delete(file.key)


def keys_of(image: InventoryImage) -> dict[str, StoredVariant | None]:
    """The keys that may be there of an image; None stands with those of which nothing is said."""
    stored: dict[str, StoredVariant | None] = {
        variant.key: variant for variant in image.variants.values() if not is_elsewhere(variant)
    }
    if image.standing is Standing.KEPT or image.pipeline is None:
        return stored
    return dict.fromkeys(variant_keys(_Placed(image, image.pipeline)).values()) | stored


class _Placed:
    """An image whose pipeline can be read, as the makers of keys see it."""

    def __init__(self, image: InventoryImage, pipeline: Pipeline) -> None:
        self.image_id = image.image_id
        self.user_id = image.user_id
        self.bucket = image.bucket
        self.sha256 = image.sha256
        self.created_at = image.created_at
        self.source_format = image.source_format
        self.pipeline = pipeline
        self.key_template = image.key_template


def _files_of(listed: Partitions, number: int) -> dict[str, _File]:
    return {key: _File(key, int(size), modified_at) for key, (size, modified_at) in listed.read(number)}


def _rows_of(known: Partitions, number: int) -> dict[str, _Row]:
    rows: dict[str, _Row] = {}
    for key, (image_id, standing, size_bytes, sha256) in known.read(number):
        row = _Row(key, image_id, Standing(standing), size_bytes, sha256)
        if key not in rows or _RANK[row.standing] > _RANK[rows[key].standing]:
            rows[key] = row
    return rows
