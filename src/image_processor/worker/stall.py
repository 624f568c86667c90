"""Notices that a transport has gone deaf: jobs are due, slots are free, and no hint comes."""

import threading
import time

from image_processor.jobs.dispatch import DispatchRepository
from image_processor.telemetry import emit

DUE_SECONDS = 5.0
"""A job that has been due for less may have its hint on the way."""
LOOK_SECONDS = 1.0
"""How often a worker process that hears nothing asks the database whether it should have."""


class StallDetector:
    """
    What one worker process knows of its transport; its slots, on whatever threads, share it.

    Who has a free slot and hears nothing asks `may_claim_directly`, claims the best due job of the database
    where it says so, and tells `claimed_directly` where there was one. From the first such job on the
    transport counts as stalled and every free slot may look for itself, until a hint is `heard`.
    """

    def __init__(self, dispatch: DispatchRepository, *, transport: str, stall_seconds: float) -> None:
        self._dispatch = dispatch
        self._transport = transport
        self._stall_seconds = stall_seconds
        self._due_seconds = min(DUE_SECONDS, stall_seconds)
        self._look_seconds = min(LOOK_SECONDS, stall_seconds)
        self._lock = threading.Lock()
        """Guards the next three."""
        self._heard_at = self._looked_at = time.monotonic()
        """When the last hint came; when the database was last asked."""
        self._stalled_since: float | None = None

    @property
    def stalled_since(self) -> float | None:
        """Since when, in epoch seconds, jobs are claimed that it tells nothing of; None where it works."""
        return self._stalled_since

    @property
    def is_stalled(self) -> bool:
        """Whether a job had to be claimed that the transport told nothing of, and no hint has come since."""
        return self._stalled_since is not None

    def heard(self) -> None:
        """A hint came."""
        with self._lock:
            self._heard_at = time.monotonic()
            since, self._stalled_since = self._stalled_since, None
        if since is not None:
            emit("transport.recovered", transport=self._transport, seconds=round(time.time() - since, 3))

    def may_claim_directly(self) -> bool:
        """
        Whether a free slot that hears nothing should claim from the database.

        Raises UnavailableError where the database does not answer.
        """
        return self.is_stalled or (self._is_suspicious() and self._dispatch.any_due(self._due_seconds))

    def claimed_directly(self) -> None:
        """A job was claimed that the transport had told nothing of."""
        with self._lock:
            silent_seconds = time.monotonic() - self._heard_at
            is_news = self._stalled_since is None and silent_seconds >= self._stall_seconds
            if is_news:
                self._stalled_since = time.time()
        if is_news:
            emit("transport.stalled", transport=self._transport, silent_seconds=round(silent_seconds, 3))

    def _is_suspicious(self) -> bool:
        """Whether it is time to ask the database; of several slots, one is told so."""
        with self._lock:
            now = time.monotonic()
            silent_seconds, idle_seconds = now - self._heard_at, now - self._looked_at
            if silent_seconds < self._stall_seconds or idle_seconds < self._look_seconds:
                return False
            self._looked_at = now
            return True
