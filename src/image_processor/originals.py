"""A job's original on this machine's disk, wherever it comes from. What is made of it is the runner's."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from image_processor.errors import ImageProcessorError, StorageError, UnavailableError
from image_processor.intake.probe import Header, probe
from image_processor.intake.stage import CheckWanted, Stage, StagedOriginal
from image_processor.jobs.values import Claim
from image_processor.locations import Locations
from image_processor.pipeline import ImageFormat, Limits
from image_processor.telemetry import emit


class FetchTurns:
    """
    Sees to it that slow sources of one user leave slots to the others.

    Who has half of this process's `slots` fetching waits with the next fetch while `others_wait`: whether a
    job of another user than the given one is due.
    """

    def __init__(self, slots: int, others_wait: Callable[[str], bool]) -> None:
        self._most = max(1, slots // 2)
        self._others_wait = others_wait
        self._under_way: Counter[str] = Counter()
        self._lock = threading.Lock()

    @contextmanager
    def turn(self, user_id: str) -> Iterator[None]:
        """Raises UnavailableError where others go first; the job is tried again soon, at no cost to it."""
        if self._under_way[user_id] >= self._most and self._others_wait(user_id):
            raise UnavailableError("Other users' jobs go first while so many of yours wait for their inputs.")
        with self._lock:
            self._under_way[user_id] += 1
        try:
            yield
        finally:
            with self._lock:
                self._under_way[user_id] -= 1
                self._under_way += Counter()  # forgets those who have none


class Originals:
    """Finds the original of a claim, or fetches it; `accepts` and `limits` are for what is fetched."""

    def __init__(
        self,
        *,
        stage: Stage,
        locations: Locations,
        accepts: tuple[ImageFormat, ...],
        limits: Limits,
        turns: FetchTurns,
    ) -> None:
        self._turns = turns
        self._stage = stage
        self._locations = locations
        self._accepts = accepts
        self._limits = limits

    def take(self, claim: Claim, check_wanted: CheckWanted) -> StagedOriginal:
        """
        The original, on this machine; what an earlier attempt fetched from its address stays fetched.

        It stands under `claim.staging_path`, or is a copy for this attempt alone, which ends with `release`.
        `check_wanted` is called between chunks and ends the fetch by raising; nothing half-fetched stays.

        Raises what `Locations.fetch`, `StagingFile.write` and `StagingFile.finish` raise; for an upload what
        `Stage.fetch` raises, StorageError where it cannot be read any more.
        """
        if claim.source_uri is None:
            return self._uploaded(claim, check_wanted)
        adopted = self._stage.adopt(claim.staging_path, self._accepts, self._limits)
        if adopted:
            return adopted
        with self._turns.turn(claim.user_id):
            return self._fetched(claim.source_uri, claim.staging_path, check_wanted)

    def path(self, original: StagedOriginal) -> Path:
        """Where the original lies."""
        return self._stage.path(original.name)

    def release(self, claim: Claim, original: StagedOriginal) -> None:
        """End the copy that was made for this attempt, if one was; what cannot be removed is swept later."""
        if original.name == claim.staging_path:
            return
        try:
            self._stage.discard(original.name)
        except ImageProcessorError as error:
            emit("stage.remove.failed", job_id=claim.job_id, error=str(error))

    def remove(self, claim: Claim) -> None:
        """Remove the original of a job that needs it no more; none there is fine."""
        self._stage.remove(claim.staging_path)

    def _uploaded(self, claim: Claim, check_wanted: CheckWanted) -> StagedOriginal:
        if claim.source_format is None:
            raise StorageError("The job has neither an upload nor an address of its original.")
        path = self._stage.fetch(
            claim.staging_path,
            size_bytes=claim.source_bytes,
            sha256=claim.sha256,
            check_wanted=check_wanted,
        )
        return StagedOriginal(
            name=path.name,
            format=claim.source_format,
            size_bytes=claim.source_bytes,
            sha256=claim.sha256,
            header=_header(path, claim.source_format, claim.source_bytes),
        )

    def _fetched(self, uri: str, name: str, check_wanted: CheckWanted) -> StagedOriginal:
        check_wanted()
        with self._locations.fetch(uri, max_bytes=self._limits.max_bytes) as chunks:
            file = self._stage.open(self._accepts, self._limits, name=name)
            try:
                for chunk in chunks:
                    check_wanted()
                    file.write(chunk)
                check_wanted()
                return file.finish()
            except BaseException:
                file.discard()
                raise


def _header(path: Path, image_format: ImageFormat, size_bytes: int) -> Header:
    try:
        with path.open("rb") as file:
            return probe(file, image_format, size_bytes)
    except OSError as error:
        raise StorageError(f"The staged original cannot be read: {error.strerror}.") from error
