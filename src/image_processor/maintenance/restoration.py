"""Puts a backup back: checks all of it first, and replaces a database last. Making one: `backup`."""

import secrets
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from image_processor.errors import ConflictError, InvalidRequestError, StorageDamageError
from image_processor.jobs import snapshot
from image_processor.maintenance.manifest import (
    DATABASE,
    FILES,
    OBJECTS,
    STAGED,
    STAGING,
    Entry,
    Manifest,
    Part,
    part_of,
    read_entries,
    sync,
    translated,
)
from image_processor.maintenance.migration import CopyTerms, Migration, Moved, Report
from image_processor.maintenance.parallel import in_parallel
from image_processor.storage.base import Storage
from image_processor.storage.keys import check_key, check_segment
from image_processor.storage.local import LocalStorage

THREADS = 4


@dataclass(frozen=True, kw_only=True)
class Destination:
    """Where a backup is put back."""

    storage: Storage
    database: Path | None
    """The SQLite file; None for a server, which gets its dump back by its own tools."""
    staging: Path | None
    """Where originals wait for their worker; None where that is in the storage."""
    scratch: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Restored:
    """What was put back."""

    staged: int
    files: Report
    kept_database: Path | None
    """Where the database that was there before lies now; None where there was none."""


class Restoration:
    """A backup in a folder, on its way back. Raises InvalidRequestError where there is none."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.manifest = Manifest.read(folder)

    def check_destination(self, destination: Destination, *, replaces: bool) -> None:
        """
        Make sure that the backup fits and is in nobody's way.

        Raises InvalidRequestError where it does not fit, ConflictError where there is a database that may not
        be replaced, UnavailableError where a process has it open.
        """
        if (destination.database is None) != (self.manifest.database is None):
            here, there = ("PostgreSQL", "SQLite")[:: 1 if destination.database is None else -1]
            raise InvalidRequestError(
                f"The backup is of a service with {there}, and DATABASE_URL says {here}."
            )
        if destination.staging is None and self.manifest.staged.entries:
            raise InvalidRequestError(
                f"{self.manifest.staged.entries} originals of the backup wait in a local stage: restore with "
                "STORAGE_BACKEND=local, let them be processed, and then migrate the storage."
            )
        if destination.database is not None and destination.database.exists():
            if not replaces:
                raise ConflictError(
                    f"There is a database already: {destination.database}. With --force the backup takes its "
                    "place, and it is kept beside."
                )
            snapshot.fold(destination.database)

    def check(self, told: Callable[[], None] = lambda: None) -> None:
        """
        Read every file of the backup and compare its hash; `told` is called for each.

        Raises StorageDamageError that names the first one that is not as it was.
        """
        self._check_part(DATABASE, self.manifest.database)
        for name, part in ((OBJECTS, self.manifest.objects), (STAGED, self.manifest.staged)):
            self._check_part(name, Part(size_bytes=part.size_bytes, sha256=part.sha256))
        for found in in_parallel(self._damaged, self._listed(), threads=THREADS):
            told()
            if found is not None:
                raise _damage(found)

    def _listed(self) -> Iterator[tuple[str, Entry]]:
        for entry in read_entries(self._folder / STAGED):
            yield f"{STAGING}/{check_segment(entry.key)}", entry
        if self.manifest.has_files:
            for entry in read_entries(self._folder / OBJECTS):
                yield f"{FILES}/{check_key(entry.key)}", entry

    def _damaged(self, listed: tuple[str, Entry]) -> str | None:
        """The name of the file, if it is not as it was."""
        name, entry = listed
        path = self._folder / name
        is_right = path.is_file() and part_of(path) == Part(size_bytes=entry.size_bytes, sha256=entry.sha256)
        return None if is_right else name

    def _check_part(self, name: str, part: Part | None) -> None:
        path = self._folder / name
        if part is not None and (not path.is_file() or part_of(path) != part):
            raise _damage(name)

    def put_back(
        self, destination: Destination, *, replaces: bool, told: Callable[[Moved], None] | None = None
    ) -> Restored:
        """
        Put everything in its place, the database last: until then nothing knows of the rest.

        Killed on the way, it can be run again. Raises what `check_destination`, the storage and the database
        raise; StorageError where a file cannot be written.
        """
        staged = self._put_staged(destination)
        files = self._put_files(destination, told)
        kept = self._put_database(destination, replaces=replaces)
        return Restored(staged=staged, files=files, kept_database=kept)

    def _put_staged(self, destination: Destination) -> int:
        count = 0
        if destination.staging is None:
            return count
        with translated("write the originals that wait"):
            destination.staging.mkdir(parents=True, exist_ok=True)
            for entry in read_entries(self._folder / STAGED):
                name = check_segment(entry.key)
                _copy_whole(self._folder / STAGING / name, destination.staging / name)
                count += 1
        return count

    def _put_files(self, destination: Destination, told: Callable[[Moved], None] | None) -> Report:
        if not self.manifest.has_files:
            return Report()
        migration = Migration(
            LocalStorage(self._folder / FILES), destination.storage, CopyTerms(scratch=destination.scratch)
        )
        return migration.run(told, entries=read_entries(self._folder / OBJECTS))

    def _put_database(self, destination: Destination, *, replaces: bool) -> Path | None:
        if destination.database is None:
            return None
        final = destination.database
        coming = final.with_name(f".{final.name}.restoring-{secrets.token_hex(4)}")
        with translated("write the database"):
            final.parent.mkdir(parents=True, exist_ok=True)
            try:
                shutil.copyfile(self._folder / DATABASE, coming)
                snapshot.check(coming)
                snapshot.fold(coming)
                sync(coming)
                self.check_destination(destination, replaces=replaces)
                kept = _moved_aside(final)
                coming.replace(final)
                sync(final.parent)
            finally:
                coming.unlink(missing_ok=True)
        return kept


def _copy_whole(source: Path, final: Path) -> None:
    """The copy has its name when it is whole and not before; what has that name already is the same."""
    if final.exists():
        return
    coming = final.with_name(secrets.token_hex(16))
    try:
        shutil.copyfile(source, coming)
        sync(coming)
        coming.rename(final)
        sync(final.parent)
    finally:
        coming.unlink(missing_ok=True)


def _moved_aside(database: Path) -> Path | None:
    if not database.exists():
        return None
    when = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    aside = database.with_name(f"{database.name}.before-restore-{when}")
    database.rename(aside)
    return aside


def _damage(name: str) -> StorageDamageError:
    return StorageDamageError(f"{name} of the backup is missing or damaged; nothing was restored.")
