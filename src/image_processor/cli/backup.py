"""`image-processor backup` and `restore`: all that a service needs to go on elsewhere, in one folder."""

import sys
from contextlib import closing
from pathlib import Path

import typer

from image_processor.bootstrap import open_database, open_storage
from image_processor.cli.shown import in_words, shown
from image_processor.cli.storage import complain, existing_database, scratch_folder, tell, verified
from image_processor.errors import ConflictError
from image_processor.jobs.workers import WorkerRepository
from image_processor.maintenance.backup import Backup, BackupParts
from image_processor.maintenance.manifest import Manifest
from image_processor.maintenance.migration import Amount
from image_processor.maintenance.restoration import Destination, Restoration
from image_processor.maintenance.verification import VerifyTerms
from image_processor.settings import Settings, load_settings


def backup(folder: Path, *, files: bool) -> None:
    """Make one in a new folder and tell what is in it; exits with 1 where stored files are not."""
    settings = load_settings()
    with existing_database(settings) as database:
        parts = BackupParts(
            database=database,
            storage=open_storage(settings),
            storage_backend=settings.storage_backend,
            staging=staging_of(settings),
            scratch=scratch_folder(settings),
        )
        manifest = _made(Backup(parts), folder, with_files=files)
    tell(_summary(manifest, folder))
    if manifest.database is None:
        sys.stderr.write("The database is not in it: dump it with pg_dump --format=custom.\n")
    if manifest.absent_objects:
        sys.stderr.write(
            f"{manifest.absent_objects:,} files are not in it, because they were deleted meanwhile, are "
            "missing or damaged: see `image-processor storage verify --deep`.\n"
        )
        raise typer.Exit(1)


def restore(folder: Path, *, into: Path | None, force: bool) -> None:
    """Check every hash, put all back and verify; exits with 1 where files are missing afterwards."""
    settings = _settings(into)
    restoration = Restoration(folder)
    destination = Destination(
        storage=open_storage(settings),
        database=None if settings.database_url else settings.database,
        staging=staging_of(settings),
        scratch=scratch_folder(settings),
    )
    restoration.check_destination(destination, replaces=force)
    _check_workers(settings)
    _check(restoration)
    manifest = restoration.manifest
    total = Amount(objects=manifest.objects.entries, size_bytes=manifest.objects.entries_bytes)
    with shown("restoring", total, has_lines=False) as advance:
        restored = restoration.put_back(
            destination, replaces=force, told=lambda moved: advance(moved.entry.size_bytes)
        )
    if restored.kept_database is not None:
        tell(f"The database that was there is {restored.kept_database} now.")
    tell(f"Restored the backup of {manifest.created_at}: {_content(manifest)}.")
    complain(restored.files)
    with closing(open_database(settings)) as database:
        verdict = verified(settings, database, VerifyTerms(scratch=settings.scratch))
    if not verdict.is_whole or not restored.files.is_complete:
        raise typer.Exit(1)


def staging_of(settings: Settings) -> Path | None:
    """The folder in which originals wait; None where they wait in the storage."""
    return settings.staging if settings.storage_backend == "local" else None


def _made(made: Backup, folder: Path, *, with_files: bool) -> Manifest:
    if not with_files:
        return made.make(folder, with_files=False)
    with shown("copying", made.total(), has_lines=False) as advance:
        return made.make(folder, with_files=True, told=lambda moved: advance(moved.entry.size_bytes))


def _settings(into: Path | None) -> Settings:
    """With a folder of its own, nothing of the environment leads elsewhere."""
    settings = load_settings(data_path=into)
    if into is None:
        return settings
    own = {"database_path": None, "storage_path": None, "staging_path": None}
    return settings.model_copy(update=own)


def _check_workers(settings: Settings) -> None:
    """On a server nobody can tell who has the database open; workers say themselves that they live."""
    if not settings.database_url:
        return
    with closing(open_database(settings)) as database:
        if WorkerRepository(database).living():
            raise ConflictError(
                "Workers said within the last minute that they are alive: stop the service first."
            )


def _check(restoration: Restoration) -> None:
    manifest = restoration.manifest
    files = manifest.objects.entries if manifest.has_files else 0
    total = Amount(objects=files + manifest.staged.entries)
    with shown("checking", total, has_lines=False) as advance:
        restoration.check(lambda: advance(0))


def _summary(manifest: Manifest, folder: Path) -> str:
    return f"Backed up into {folder}: {_content(manifest)}."


def _content(manifest: Manifest) -> str:
    rows = f"{manifest.rows.get('images', 0):,} images"
    staged = f"{manifest.staged.entries:,} originals that wait"
    listed = in_words(Amount(objects=manifest.objects.entries, size_bytes=manifest.objects.entries_bytes))
    return (
        f"{rows}, {staged}, {listed} {'with their files' if manifest.has_files else 'listed, without files'}"
    )
