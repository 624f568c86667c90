"""A job's original on this machine's disk, wherever it comes from. What is made of it is the runner's."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from image_processor.errors import StorageError, UnavailableError
from image_processor.intake.probe import probe
from image_processor.intake.stage import Stage, StagedOriginal
from image_processor.jobs.values import Claim
from image_processor.locations import Locations
from image_processor.pipeline import ImageFormat, Limits

CheckWanted = Callable[[], None]


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
        The original, staged under `claim.staging_path`; what an earlier attempt fetched stays fetched.

        `check_wanted` is called between chunks and ends the fetch by raising; nothing half-fetched stays.

        Raises what `Locations.fetch`, `StagingFile.write` and `StagingFile.finish` raise; StorageError where
        an upload cannot be read any more.
        """
        if claim.source_uri is None:
            return self._uploaded(claim)
        adopted = self._stage.adopt(claim.staging_path, self._accepts, self._limits)
        if adopted:
            return adopted
        with self._turns.turn(claim.user_id):
            return self._fetched(claim.source_uri, claim.staging_path, check_wanted)

    def path(self, original: StagedOriginal) -> Path:
        """Where the original lies."""
        return self._stage.path(original.name)

    def remove(self, claim: Claim) -> None:
        """Remove the original of a job that needs it no more; none there is fine."""
        self._stage.remove(claim.staging_path)

    def _uploaded(self, claim: Claim) -> StagedOriginal:
        if claim.source_format is None:
            raise StorageError("The job has neither an upload nor an address of its original.")
        try:
            with self._stage.path(claim.staging_path).open("rb") as file:
                header = probe(file, claim.source_format, claim.source_bytes)
        except OSError as error:
            raise StorageError(f"The staged original cannot be read: {error.strerror}.") from error
        return StagedOriginal(
            name=claim.staging_path,
            format=claim.source_format,
            size_bytes=claim.source_bytes,
            sha256=claim.sha256,
            header=header,
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
