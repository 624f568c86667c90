"""Makes one folder with all that a service needs to go on elsewhere. Putting it back: `restoration`."""

import errno
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import islice
from pathlib import Path

from image_processor.errors import InvalidKeyError, InvalidRequestError
from image_processor.jobs import snapshot
from image_processor.jobs.database import Database
from image_processor.jobs.inventory import InventoryRepository, Standing
from image_processor.jobs.repository import JobRepository
from image_processor.maintenance.manifest import (
    DATABASE,
    FILES,
    OBJECTS,
    STAGED,
    STAGING,
    Entry,
    EntryWriter,
    List,
    Manifest,
    part_of,
    sync,
    translated,
)
from image_processor.maintenance.migration import Amount, CopyTerms, Fate, Migration, Moved, sha256_of
from image_processor.placement import is_elsewhere
from image_processor.storage.base import Storage
from image_processor.storage.keys import check_segment
from image_processor.storage.local import LocalStorage

STAGED_BATCH = 500
_NO_LINKS = frozenset({errno.EXDEV, errno.EPERM, errno.ENOTSUP, errno.EMLINK})


@dataclass(frozen=True, kw_only=True)
class BackupParts:
    """What is backed up."""

    database: Database
    storage: Storage
    storage_backend: str
    staging: Path | None
    """Where originals wait for their worker; None where that is in the storage."""
    scratch: Path | None = None


class Backup:
    """
    Backs up a service that may run meanwhile.

    The database, and the originals that its jobs wait for, are those of one moment. The objects are those
    that the database knows of at that moment and that are still there when their turn comes.
    """

    def __init__(self, parts: BackupParts) -> None:
        self._parts = parts

    def make(
        self, folder: Path, *, with_files: bool, told: Callable[[Moved], None] | None = None
    ) -> Manifest:
        """
        Make the backup under this name, which nothing may have yet; it appears there whole or not at all.

        `told` hears of every object that is copied. Raises InvalidRequestError where something has the name,
        StorageFullError, and what the database and the storage raise.
        """
        if folder.exists() or folder.is_symlink():
            raise InvalidRequestError(
                f"There is something under {folder} already; a backup replaces nothing."
            )
        folder = folder.absolute()
        making = folder.with_name(f".{folder.name}.making-{secrets.token_hex(4)}")
        with translated("write the backup"):
            making.mkdir(parents=True, mode=0o700)
            try:
                manifest = self._fill(making, with_files=with_files, told=told)
                _sync_all(making)
                making.rename(folder)
                sync(folder.parent)
            except BaseException:
                shutil.rmtree(making, ignore_errors=True)
                raise
        return manifest

    def total(self) -> Amount:
        """What there is to copy of the stored files, as of now."""
        total = Amount()
        for entry in _expected(self._parts.database):
            total = total.with_one(entry.size_bytes)
        return total

    def _fill(self, making: Path, *, with_files: bool, told: Callable[[Moved], None] | None) -> Manifest:
        created_at = datetime.now(UTC).isoformat(timespec="seconds")
        hold = _Hold(self._parts.staging, making / STAGING)
        with self._database_of_one_moment(making, hold) as database:
            manifest = Manifest(
                version=version("image-processor"),
                created_at=created_at,
                storage_backend=self._parts.storage_backend,
                rows=snapshot.row_counts(database),
                staged=hold.write_list(making / STAGED, JobRepository(database)),
                has_files=with_files,
                objects=_list_objects(database, making / OBJECTS),
            )
            if with_files:
                manifest = self._with_files(manifest, making, database, told)
        if self._is_file:
            snapshot.fold(making / DATABASE)
            manifest = manifest.model_copy(update={"database": part_of(making / DATABASE)})
        manifest.write(making)
        return manifest

    @property
    def _is_file(self) -> bool:
        return snapshot.can_be_taken(self._parts.database)

    @contextmanager
    def _database_of_one_moment(self, making: Path, hold: "_Hold") -> Iterator[Database]:
        """The copy of the database, checked; a server's own, which goes on meanwhile."""
        hold.take()
        if not self._is_file:
            yield self._parts.database
            return
        # What was held before need not be while others wait for the write lock.
        snapshot.take(self._parts.database, making / DATABASE, hold.take)
        snapshot.check(making / DATABASE)
        with closing(Database.open(making / DATABASE)) as database:
            yield database

    def _with_files(
        self, manifest: Manifest, making: Path, database: Database, told: Callable[[Moved], None] | None
    ) -> Manifest:
        """The list becomes one of what is in the backup, each with the bytes that its row tells of."""
        copies = LocalStorage(making / FILES)
        migration = Migration(self._parts.storage, copies, CopyTerms(scratch=self._parts.scratch))
        with EntryWriter(making / OBJECTS) as writer:

            def copied(moved: Moved) -> None:
                entry = moved.entry
                if isinstance(entry, Entry) and moved.fate in {Fate.COPIED, Fate.PRESENT}:
                    moved = _checked(copies, moved, entry)
                    if moved.fate is not Fate.FAILED:
                        writer.add(entry)
                if told is not None:
                    told(moved)

            migration.run(copied, entries=_expected(database))
        absent = manifest.objects.entries - writer.entries
        return manifest.model_copy(update={"objects": writer.written(), "absent_objects": absent})


def _checked(copies: Storage, moved: Moved, entry: Entry) -> Moved:
    if (copies.stat(entry.key).sha256 or sha256_of(copies, entry.key)) == entry.sha256:
        return moved
    copies.delete(entry.key)
    return replace(moved, fate=Fate.FAILED)


def _expected(database: Database) -> Iterator[Entry]:
    """Every file that a row names, elsewhere than in our storage ones left out."""
    for image in InventoryRepository(database).images():
        if image.standing is Standing.KEPT:
            for variant in image.variants.values():
                if not is_elsewhere(variant):
                    yield Entry(key=variant.key, size_bytes=variant.size_bytes, sha256=variant.sha256)


def _list_objects(database: Database, path: Path) -> List:
    with EntryWriter(path) as writer:
        for entry in _expected(database):
            writer.add(entry)
    return writer.written()


class _Hold:
    """The originals that wait, kept under a second name while nobody can take them away."""

    def __init__(self, staging: Path | None, folder: Path) -> None:
        self._staging = staging
        self._folder = folder
        folder.mkdir()

    def take(self) -> None:
        """Hold everything that is there now; what is held already costs nothing."""
        if self._staging is None or not self._staging.is_dir():
            return
        with os.scandir(self._staging) as entries:
            for entry in entries:
                if _is_name(entry.name) and entry.is_file(follow_symlinks=False):
                    with suppress(FileNotFoundError):  # a worker was done with it
                        _link_or_copy(Path(entry.path), self._folder / entry.name)

    def write_list(self, path: Path, jobs: JobRepository) -> List:
        """List what a job needs, and let go of everything else."""
        names = iter(sorted(path.name for path in self._folder.iterdir()))
        with EntryWriter(path) as writer:
            while batch := list(islice(names, STAGED_BATCH)):
                needed = jobs.staged(batch)
                for name in batch:
                    if name in needed:
                        writer.add(_entry(self._folder / name))
                    else:
                        (self._folder / name).unlink()
        return writer.written()


def _is_name(name: str) -> bool:
    try:
        check_segment(name)
    except InvalidKeyError:
        return False
    return True


def _link_or_copy(source: Path, held: Path) -> None:
    """Hold a file; anew where it was not finished the last time. What is finished never changes."""
    if held.exists() and _age(held) == _age(source):
        return
    held.unlink(missing_ok=True)
    try:
        os.link(source, held)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        shutil.copy2(source, held)


def _age(path: Path) -> tuple[int, int]:
    facts = path.stat()
    return facts.st_size, facts.st_mtime_ns


def _entry(path: Path) -> Entry:
    part = part_of(path)
    return Entry(key=path.name, size_bytes=part.size_bytes, sha256=part.sha256)


def _sync_all(making: Path) -> None:
    """What the storage has written is durable already."""
    files = [path for folder in (making, making / STAGING) for path in folder.iterdir()]
    for path in (*files, making):
        sync(path)
