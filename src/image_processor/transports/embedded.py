"""The default transport: an in-process queue; between processes the worker's poll of the database does it."""

import queue
import uuid

MAX_HINTS = 1000
"""More than that waits in the database anyway."""


class EmbeddedTransport:
    """Hints within one process; another process finds the row at its next poll."""

    def __init__(self) -> None:
        self._hints: queue.Queue[str] = queue.Queue(MAX_HINTS)
        self._epoch = uuid.uuid4().hex

    def publish(self, job_id: str, priority: int) -> None:
        """Hint that a job is due; a full queue drops the hint. The priority is the database's affair."""
        del priority
        try:
            self._hints.put_nowait(job_id)
        except queue.Full:
            return

    def receive(self, timeout_seconds: float) -> str | None:
        """The next job id; None when there was none within the time."""
        try:
            return self._hints.get(timeout=timeout_seconds)
        except queue.Empty:
            return None

    def depth(self) -> int:
        """How many hints wait."""
        return self._hints.qsize()

    def epoch(self) -> str:
        """One value for the life of this process."""
        return self._epoch
