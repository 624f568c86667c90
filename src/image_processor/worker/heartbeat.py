"""Holds the leases of the attempts that run in this process. Never run by a process that decodes."""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from image_processor.errors import ImageProcessorError
from image_processor.jobs.repository import JobRepository
from image_processor.jobs.values import Lease
from image_processor.runner import Attempt, Ending
from image_processor.telemetry import emit

MISSED_IN_A_ROW = 2
"""After that many heartbeats that could not be written, the work is stopped before its lease ends."""
TRUSTED_SHARE = 5 / 6
"""Of a lease: so long after the last heartbeat that was written it is believed in, whatever else happens."""

ENDINGS: Mapping[Lease, Ending] = {Lease.LOST: Ending.LOST, Lease.CANCEL_REQUESTED: Ending.CANCELLED}
"""The answers of the database that end an attempt."""


@dataclass
class _Hold:
    """On one lease, as far as is known here."""

    until: float
    """Until when it is believed in, on the monotonic clock."""
    missed: int = 0


class LeaseKeeper:
    """The attempts that run, the beat that keeps them ours, and the watch over a beat that hangs."""

    def __init__(self, jobs: JobRepository, *, lease_seconds: float) -> None:
        self._jobs = jobs
        self._lease_seconds = lease_seconds
        self._attempts: dict[Attempt, _Hold] = {}
        self._lock = threading.Lock()

    def add(self, attempt: Attempt) -> None:
        """Hold this attempt's lease from now on; it was claimed a moment ago."""
        with self._lock:
            self._attempts[attempt] = _Hold(self._trusted_from_now())

    def remove(self, attempt: Attempt) -> None:
        """Hold it no longer."""
        with self._lock:
            self._attempts.pop(attempt, None)

    def end_all(self, ending: Ending) -> None:
        """Stop the work on every attempt whose lease is held."""
        with self._lock:
            for attempt in self._attempts:
                attempt.end(ending)

    def release_all(self) -> None:
        """Hand back what has not ended though it was told to: its thread ends with the process."""
        with self._lock:
            attempts = list(self._attempts)
        for attempt in attempts:
            try:
                self._jobs.release(attempt.claim)
            except ImageProcessorError as error:  # its lease will end
                emit("job.release.failed", job_id=attempt.claim.job_id, error=str(error))

    def run(self, stop: threading.Event) -> None:
        """Beat three times a lease, however long a beat takes, until told to stop."""
        interval = self._lease_seconds / 3
        next_at = time.monotonic() + interval
        while not stop.wait(max(0.0, next_at - time.monotonic())):
            next_at = time.monotonic() + interval
            self.beat()

    def watch(self, stop: threading.Event) -> None:
        """
        End what no beat has reached for five sixths of a lease, until told to stop.

        A database that takes a question and never answers holds up the beat, and would for ever.
        """
        while not stop.wait(self._lease_seconds / 30):
            self.end_overdue()

    def end_overdue(self) -> None:
        """End the attempts whose lease is not to be believed in any more."""
        now = time.monotonic()
        with self._lock:
            overdue = [attempt for attempt, hold in self._attempts.items() if hold.until <= now]
            for attempt in overdue:
                attempt.end(Ending.LOST)

    def _trusted_from_now(self) -> float:
        return time.monotonic() + TRUSTED_SHARE * self._lease_seconds

    def beat(self) -> None:
        """Extend every lease once; end the attempts that are no longer ours, or no longer wanted."""
        with self._lock:
            attempts = list(self._attempts)
        for attempt in attempts:
            until = self._trusted_from_now()
            try:
                answer = self._jobs.heartbeat(attempt.claim, lease_seconds=self._lease_seconds)
            except ImageProcessorError as error:
                self._missed(attempt, error)
            else:
                self._note(attempt, _Hold(until), ENDINGS.get(answer))

    def _missed(self, attempt: Attempt, error: ImageProcessorError) -> None:
        with self._lock:
            hold = self._attempts.get(attempt, _Hold(0.0))
        missed = hold.missed + 1
        emit("heartbeat.failed", job_id=attempt.claim.job_id, missed=missed, error=str(error))
        ending = Ending.LOST if missed >= MISSED_IN_A_ROW else None
        self._note(attempt, replace(hold, missed=missed), ending)

    def _note(self, attempt: Attempt, hold: _Hold, ending: Ending | None) -> None:
        with self._lock:
            # One that was removed meanwhile has finished, and its engine may be at the next job by now.
            if attempt in self._attempts:
                self._attempts[attempt] = hold
                if ending:
                    attempt.end(ending)
