"""Holds the leases of the attempts that run in this process. Never run by a process that decodes."""

import threading
import time
from collections.abc import Mapping

from image_processor.errors import ImageProcessorError
from image_processor.jobs.repository import JobRepository
from image_processor.jobs.values import Lease
from image_processor.runner import Attempt, Ending
from image_processor.telemetry import emit

MISSED_IN_A_ROW = 2
"""After that many heartbeats that could not be written, the work is stopped before its lease ends."""

ENDINGS: Mapping[Lease, Ending] = {Lease.LOST: Ending.LOST, Lease.CANCEL_REQUESTED: Ending.CANCELLED}
"""The answers of the database that end an attempt."""


class LeaseKeeper:
    """The attempts that run, and the beat that keeps them ours."""

    def __init__(self, jobs: JobRepository, *, lease_seconds: float) -> None:
        self._jobs = jobs
        self._lease_seconds = lease_seconds
        self._attempts: dict[Attempt, int] = {}
        self._lock = threading.Lock()

    def add(self, attempt: Attempt) -> None:
        """Hold this attempt's lease from now on."""
        with self._lock:
            self._attempts[attempt] = 0

    def remove(self, attempt: Attempt) -> None:
        """Hold it no longer."""
        with self._lock:
            self._attempts.pop(attempt, None)

    def end_all(self, ending: Ending) -> None:
        """Stop the work on every attempt whose lease is held."""
        with self._lock:
            for attempt in self._attempts:
                attempt.end(ending)

    def run(self, stop: threading.Event) -> None:
        """Beat three times a lease, however long a beat takes, until told to stop."""
        interval = self._lease_seconds / 3
        next_at = time.monotonic() + interval
        while not stop.wait(max(0.0, next_at - time.monotonic())):
            next_at = time.monotonic() + interval
            self.beat()

    def beat(self) -> None:
        """Extend every lease once; end the attempts that are no longer ours, or no longer wanted."""
        with self._lock:
            attempts = list(self._attempts)
        for attempt in attempts:
            try:
                answer = self._jobs.heartbeat(attempt.claim, lease_seconds=self._lease_seconds)
            except ImageProcessorError as error:
                self._missed(attempt, error)
            else:
                self._note(attempt, missed=0, ending=ENDINGS.get(answer))

    def _missed(self, attempt: Attempt, error: ImageProcessorError) -> None:
        with self._lock:
            missed = self._attempts.get(attempt, 0) + 1
        emit("heartbeat.failed", job_id=attempt.claim.job_id, missed=missed, error=str(error))
        self._note(attempt, missed=missed, ending=Ending.LOST if missed >= MISSED_IN_A_ROW else None)

    def _note(self, attempt: Attempt, *, missed: int, ending: Ending | None) -> None:
        with self._lock:
            # One that was removed meanwhile has finished, and its engine may be at the next job by now.
            if attempt in self._attempts:
                self._attempts[attempt] = missed
                if ending:
                    attempt.end(ending)
