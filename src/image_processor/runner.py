"""One claimed job, from the claim to where it comes to rest. Claims and heartbeats are the worker's."""

import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TypeVar

from image_processor.engine.base import Engine, RenderedVariant, Rendering, RenderRequest
from image_processor.errors import (
    EngineError,
    ImageProcessorError,
    StorageError,
    StorageFullError,
    UnavailableError,
    is_disk_full,
)
from image_processor.intake.probe import Header
from image_processor.intake.stage import StagedOriginal
from image_processor.jobs.progress import ProgressRepository
from image_processor.jobs.repository import JobRepository
from image_processor.jobs.states import Reason, Status
from image_processor.jobs.values import Claim, Facts, Original, Settlement, StoredVariant
from image_processor.locations import Locations
from image_processor.originals import Originals
from image_processor.pipeline import Limits
from image_processor.placement import variant_keys
from image_processor.progress import Progress
from image_processor.storage.base import Storage
from image_processor.telemetry import emit

SLOWEST_MEGAPIXELS_PER_SECOND = 0.5
"""Far below what any machine does: the deadline is there for decoders that hang, not for slow ones."""
MIN_DEADLINE_SECONDS = 60.0
MAX_DEADLINE_SECONDS = 600.0
COMMIT_DELAYS_SECONDS = (0.5, 1.0, 2.0, 4.0, 8.0)
"""A finished result is worth waiting for a busy database; the heartbeat says when the lease is gone."""
Outcome = TypeVar("Outcome")


class Ending(StrEnum):
    """Why an attempt was ended from outside."""

    LOST = "lost"
    """The lease is somebody else's: say nothing more about the job."""
    CANCELLED = "cancelled"
    """Nobody wants the result."""
    STOPPED = "stopped"
    """This worker shuts down: the job goes back, and the attempt is refunded."""


class Attempt:
    """One try at one job, which other threads can end."""

    def __init__(self, claim: Claim, engine: Engine) -> None:
        self.claim = claim
        self.engine = engine
        self._ending: Ending | None = None
        self._ended = threading.Event()

    @property
    def ending(self) -> Ending | None:
        """Why it was ended; None while it was not."""
        return self._ending

    def end(self, ending: Ending) -> None:
        """Stop the work at once; the first reason given stands."""
        self._ending = self._ending or ending
        self._ended.set()
        self.engine.interrupt()

    def check_wanted(self) -> None:
        """Raise EngineError where the attempt was ended while no engine was at work that could be stopped."""
        if self._ending:
            raise EngineError(f"The attempt was ended: {self._ending}.")

    def wait(self, seconds: float) -> bool:
        """Wait that long, or until it is ended; whether it was."""
        return self._ended.wait(seconds)


def deadline_seconds(header: Header) -> float:
    """How long the engine may take for an original, in seconds: 60 to 600, by its pixels."""
    megapixels = header.width * header.height * header.frames / 1e6
    return min(MAX_DEADLINE_SECONDS, max(MIN_DEADLINE_SECONDS, megapixels / SLOWEST_MEGAPIXELS_PER_SECOND))


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where variants go: the storage, or a place that the job names."""

    storage: Storage
    locations: Locations
    puts_at_once: int = 1
    """A storage across a network takes its time for each file, and little of ours."""

    def put(self, claim: Claim, variant: RenderedVariant) -> StoredVariant:
        """Put one variant where it belongs, whole, and checked as far as the place tells."""
        if claim.output_uri is None:
            key = variant_keys(claim)[variant.name]
            self._store(key, variant)
        else:
            key = claim.output_uri
            self.locations.put(key, variant.path, content_type=variant.format.media_type)
        return _stored_variant(key, variant)

    def _store(self, key: str, variant: RenderedVariant) -> None:
        stored = self.storage.put(key, variant.path, content_type=variant.format.media_type)
        if (stored.size_bytes, stored.sha256) != (variant.size_bytes, variant.sha256):
            raise StorageError(f"The storage holds other bytes under {key} than were written.")


def _stored_variant(key: str, variant: RenderedVariant) -> StoredVariant:
    return StoredVariant(
        key=key,
        width=variant.width,
        height=variant.height,
        format=variant.format,
        size_bytes=variant.size_bytes,
        sha256=variant.sha256,
        content_type=variant.format.media_type,
    )


@dataclass(frozen=True, kw_only=True)
class Runner:
    """Renders, stores and commits; whatever happens, the job comes to rest or stays with whoever owns it."""

    jobs: JobRepository
    progress: ProgressRepository
    originals: Originals
    places: Places
    scratch: Path
    limits: Limits

    def run(self, attempt: Attempt) -> None:
        """Bring the job to rest: completed, failed, retrying, handed back, or left to its new owner."""
        started = time.monotonic()
        try:
            facts = self._render_and_store(attempt)
            is_ours = _while_ours(attempt, lambda: self.jobs.complete(attempt.claim, facts))
        except ImageProcessorError as error:
            self._settle(attempt, error)
        except Exception as error:  # noqa: BLE001 - a bug of ours must cost an attempt, not the worker
            emit("attempt.failed", job_id=attempt.claim.job_id, error=f"{type(error).__name__}: {error}")
            self._settle(attempt, EngineError("Something went wrong on our side; it has been logged."))
        else:
            self._finished(attempt.claim, time.monotonic() - started) if is_ours else self._refused(
                attempt.claim
            )

    def _render_and_store(self, attempt: Attempt) -> Facts:
        note = partial(self.progress.note, attempt.claim)
        progress = Progress(note, has_fetch=attempt.claim.source_uri is not None)
        original, claim = self._take(attempt)
        try:
            with _scratch_folder(self.scratch) as folder:
                progress.step("render")
                rendering = self._render(attempt, original, folder, progress)
                progress.step("store")
                stored = self._store_all(attempt, claim, rendering.variants, progress)
                progress.step("commit")
                return _facts(rendering, stored)
        finally:
            self.originals.release(claim, original)

    def _take(self, attempt: Attempt) -> tuple[StagedOriginal, Claim]:
        """The original, and the claim with what is known of it now."""
        claim = attempt.claim
        original = self.originals.take(claim, attempt.check_wanted)
        if claim.source_uri is None:
            return original, claim
        found = Original(sha256=original.sha256, format=original.format, size_bytes=original.size_bytes)
        if not _while_ours(attempt, lambda: self.jobs.note_original(claim, found)):
            attempt.end(Ending.LOST)
        attempt.check_wanted()
        return original, replace(
            claim, sha256=found.sha256, source_format=found.format, source_bytes=found.size_bytes
        )

    def _render(
        self, attempt: Attempt, original: StagedOriginal, folder: Path, progress: Progress
    ) -> Rendering:
        request = RenderRequest(
            source=self.originals.path(original),
            source_format=original.format,
            pipeline=attempt.claim.pipeline,
            output_directory=folder,
            limits=self.limits,
        )
        attempt.check_wanted()
        return attempt.engine.render(
            request, deadline_seconds=deadline_seconds(original.header), on_progress=progress.advance
        )

    def _store_all(
        self, attempt: Attempt, claim: Claim, variants: Sequence[RenderedVariant], progress: Progress
    ) -> dict[str, StoredVariant]:
        if self.places.puts_at_once > 1:
            return self._store_several_at_once(attempt, claim, variants, progress)
        stored = {}
        for number, variant in enumerate(variants, start=1):
            attempt.check_wanted()
            stored[variant.name] = self.places.put(claim, variant)
            progress.advance(number / len(variants))
        return stored

    def _store_several_at_once(
        self, attempt: Attempt, claim: Claim, variants: Sequence[RenderedVariant], progress: Progress
    ) -> dict[str, StoredVariant]:
        failures: list[BaseException] = []

        def put(variant: RenderedVariant) -> StoredVariant:
            attempt.check_wanted()
            if failures:
                raise failures[0]
            try:
                return self.places.put(claim, variant)
            except BaseException as error:
                failures.append(error)
                raise

        with ThreadPoolExecutor(self.places.puts_at_once, thread_name_prefix="put") as pool:
            puts = {variant.name: pool.submit(put, variant) for variant in variants}
            try:
                for number, done in enumerate(as_completed(puts.values()), start=1):
                    if failures:  # which one is seen first is chance, and it decides what the attempt costs
                        raise failures[0]
                    done.result()
                    progress.advance(number / len(variants))
            finally:
                pool.shutdown(cancel_futures=True)
        return {name: done.result() for name, done in puts.items()}

    def _refused(self, claim: Claim) -> None:
        """
        The job was cancelled, or is somebody else's; what was stored is left to the sweeper.

        What was written to a place of the user's stays: by now it may be another job's.
        """
        emit("job.lost", job_id=claim.job_id, claim_seq=claim.claim_seq)

    def _finished(self, claim: Claim, seconds: float) -> None:
        emit("job.completed", job_id=claim.job_id, image_id=claim.image_id, seconds=round(seconds, 3))
        self._unstage(claim)

    def _settle(self, attempt: Attempt, error: ImageProcessorError) -> None:
        settle = self._settling(attempt, error)
        self._report(attempt.claim, settle and _while_ours(attempt, settle), str(error))

    def _settling(
        self, attempt: Attempt, error: ImageProcessorError
    ) -> Callable[[], Settlement | None] | None:
        """How this attempt is to end; None where that is no longer ours to say."""
        claim, jobs = attempt.claim, self.jobs
        by_ending: dict[Ending | None, Callable[[], Settlement | None] | None] = {
            None: lambda: jobs.fail(claim, error),
            Ending.STOPPED: lambda: jobs.release(claim),
            Ending.CANCELLED: lambda: jobs.end_cancelled(claim),
            Ending.LOST: None,
        }
        return by_ending[attempt.ending]

    def _report(self, claim: Claim, settlement: Settlement | None, error: str) -> None:
        if settlement is None:
            emit("job.lost", job_id=claim.job_id, claim_seq=claim.claim_seq)
            return
        event = {Status.RETRYING: "job.retried", Status.PENDING: "job.released"}.get(
            settlement.status, "job.failed"
        )
        emit(
            event,
            job_id=claim.job_id,
            reason=settlement.reason,
            attempt=settlement.attempt_count,
            error=error,
        )
        if settlement.reason in (Reason.REJECTED, Reason.CANCELLED):
            self._unstage(claim)

    def _unstage(self, claim: Claim) -> None:
        try:
            self.originals.remove(claim)
        except ImageProcessorError as error:  # the job has come to rest; the sweeper tries again
            emit("stage.remove.failed", job_id=claim.job_id, error=str(error))


def _while_ours(attempt: Attempt, write: Callable[[], Outcome]) -> Outcome:
    """What a guarded statement gives; a busy database is waited for until the attempt is ended."""
    for delay in COMMIT_DELAYS_SECONDS:
        try:
            return write()
        except UnavailableError as error:
            emit("job.commit.failed", job_id=attempt.claim.job_id, error=str(error))
            if attempt.wait(delay):
                break
    return write()


def _facts(rendering: Rendering, variants: dict[str, StoredVariant]) -> Facts:
    return Facts(
        width=rendering.width,
        height=rendering.height,
        frames=rendering.frames,
        dominant_color=rendering.dominant_color,
        variants=variants,
    )


@contextmanager
def _scratch_folder(parent: Path) -> Iterator[Path]:
    try:
        folder = Path(tempfile.mkdtemp(dir=parent))
    except OSError as error:
        if is_disk_full(error):
            raise StorageFullError("There is no room left to work in.") from error
        raise UnavailableError(f"No scratch folder can be made: {error.strerror}.") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
