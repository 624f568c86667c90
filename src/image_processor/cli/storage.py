"""`image-processor storage migrate` and `storage verify`: files taken along, and held against the rows."""

import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import typer

from image_processor.bootstrap import open_database, open_storage
from image_processor.cli.commands import Backend, Thoroughness
from image_processor.cli.shown import bytes_in_words, in_words, shown
from image_processor.errors import ConfigurationError, InvalidRequestError
from image_processor.jobs.database import Database
from image_processor.jobs.inventory import InventoryRepository
from image_processor.jobs.states import LIVE
from image_processor.jobs.statistics import StatisticsRepository
from image_processor.maintenance.migration import CopyTerms, Fate, Migration, Report
from image_processor.maintenance.verification import LOSSES, STRAYS, Flaw, Verdict, Verification, VerifyTerms
from image_processor.settings import Settings, load_settings
from image_processor.storage.base import Storage

INTERRUPTED = 130
"""The exit code of what Ctrl-C ended, as shells have it."""


def migrate(source: Backend, target: Backend, *, jobs: int, verify: Thoroughness, dry_run: bool) -> None:
    """Copy every file, `jobs` at a time; exits with 1 unless all have arrived and were checked."""
    if source is target:
        raise InvalidRequestError("There is nothing to migrate from a storage to itself.")
    settings = load_settings()
    terms = CopyTerms(threads=jobs, scratch=scratch_folder(settings), reads_back=verify is Thoroughness.FULL)
    migration = Migration(storage_of(settings, source), storage_of(settings, target, is_new=True), terms)
    tell(_waiting(settings))
    total = migration.total()
    tell(f"{in_words(total)} in {source}.")
    with _interruptible(migration), shown("looking" if dry_run else "copying", total) as advance:
        report = (migration.try_out if dry_run else migration.run)(
            lambda moved: advance(moved.entry.size_bytes)
        )
    tell(_would_copy(report, target) if dry_run else _copied(report, target))
    complain(report)
    if not report.is_complete:
        raise typer.Exit(1)


def verify(*, deep: bool, remove_strays: bool, jobs: int) -> None:
    """Hold files and rows against each other; exits with 1 where a file is missing or damaged."""
    settings = load_settings()
    terms = VerifyTerms(
        reads_all=deep, removes_strays=remove_strays, threads=jobs, scratch=scratch_folder(settings)
    )
    with existing_database(settings) as database:
        verdict = verified(settings, database, terms)
    if not verdict.is_whole:
        raise typer.Exit(1)


def verified(settings: Settings, database: Database, terms: VerifyTerms) -> Verdict:
    """The verdict, shown."""
    verification = Verification(InventoryRepository(database), open_storage(settings), terms)
    if terms.reads_all:
        with shown("reading", verification.total()) as advance:
            verdict = verification.run(advance)
    else:
        verdict = verification.run()
    for flaw in (*LOSSES, *STRAYS):
        _show_flaw(verdict, flaw)
    if verdict.removed:
        tell(f"{verdict.removed:,} strays of deleted images were removed.")
    found = "whole" if verdict.is_whole else "NOT whole"
    tell(f"The storage is {found}: {verdict.images:,} images with {verdict.files:,} files.")
    return verdict


def storage_of(settings: Settings, backend: Backend, *, is_new: bool = False) -> Storage:
    """The storage of this kind; a folder is made only where it is new. Raises ConfigurationError."""
    if backend is Backend.LOCAL and not is_new and not settings.storage.is_dir():
        raise ConfigurationError(f"There is no storage in {settings.storage}; is DATA_PATH right?")
    return open_storage(settings.model_copy(update={"storage_backend": backend.value}))


@contextmanager
def existing_database(settings: Settings) -> Iterator[Database]:
    """The database, if there is one. Raises ConfigurationError where there is none."""
    if not settings.database_url and not settings.database.is_file():
        raise ConfigurationError(f"There is no database {settings.database}; is DATA_PATH right?")
    with closing(open_database(settings)) as database:
        yield database


def scratch_folder(settings: Settings) -> Path:
    """The folder for what is in the making; killed or not, the service sweeps it."""
    try:
        settings.scratch.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"The folder {settings.scratch} cannot be made: {error.strerror}."
        ) from error
    return settings.scratch


def tell(line: str) -> None:
    """One line on standard output; none where there is nothing to say."""
    if line:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()


def complain(report: Report) -> None:
    """Name what failed, on standard error."""
    for moved in report.failures:
        sys.stderr.write(f"{moved.entry.key}: {' '.join(str(moved.error).split())}\n")
    unnamed = report.amounts[Fate.FAILED].objects - len(report.failures)
    if unnamed > 0:
        sys.stderr.write(f"and {unnamed:,} more.\n")


@contextmanager
def _interruptible(migration: Migration) -> Iterator[None]:
    """Ctrl-C ends in order: what is under way is finished, nothing more is begun."""
    try:
        yield
    except KeyboardInterrupt:
        done = migration.report.amounts[Fate.COPIED]
        sys.stderr.write(f"Interrupted after {in_words(done)} were copied; run it again to go on.\n")
        raise typer.Exit(INTERRUPTED) from None


def _waiting(settings: Settings) -> str:
    """What is said of jobs whose originals are not in the storage."""
    if not settings.database_url and not settings.database.is_file():
        return ""
    with existing_database(settings) as database:
        breakdown = StatisticsRepository(database).statistics().status_breakdown
    count = sum(breakdown[status] for status in LIVE)
    if not count:
        return ""
    jobs = "1 job is" if count == 1 else f"{count:,} jobs are"
    return (
        f"{jobs} not at rest: originals wait in the stage, not in the storage. Let the workers finish before "
        "you change STORAGE_BACKEND."
    )


def _copied(report: Report, target: Backend) -> str:
    copied, present = report.amounts[Fate.COPIED], report.amounts[Fate.PRESENT]
    failed = report.amounts[Fate.FAILED]
    if failed.objects:
        return f"{in_words(failed)} could not be copied; {in_words(copied)} were."
    if not copied.objects:
        return f"All is there: {in_words(present)} in {target}; nothing was copied."
    return f"{in_words(copied)} copied to {target}, {in_words(present)} were there; all are checked."


def _would_copy(report: Report, target: Backend) -> str:
    copied, present = report.amounts[Fate.COPIED], report.amounts[Fate.PRESENT]
    return f"{in_words(copied)} would be copied to {target}; {in_words(present)} are there."


IN_WORDS = {
    Flaw.MISSING: "missing",
    Flaw.WRONG_SIZE: "of the wrong size",
    Flaw.DAMAGED: "damaged",
    Flaw.STRAY_OF_DELETED: "left of deleted images; --remove-strays removes those older than a day",
    Flaw.STRAY_OF_FAILED: "left of failed jobs; a running service removes them",
    Flaw.STRAY_UNKNOWN: "unknown to the database; they are left alone",
}


def _show_flaw(verdict: Verdict, flaw: Flaw) -> None:
    found = verdict.flaws[flaw]
    if not found.count:
        return
    files = "1 file is" if found.count == 1 else f"{found.count:,} files are"
    tell(f"{files} {IN_WORDS[flaw]} ({bytes_in_words(found.size_bytes)}):")
    for key in found.examples:
        tell(f"  {key}")
    if found.count > len(found.examples):
        tell(f"  and {found.count - len(found.examples):,} more")
