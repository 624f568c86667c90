"""The default transport: an in-process queue; between processes the worker's poll of the database does it."""

import threading
import uuid
from collections import deque
from collections.abc import Collection

from image_processor.transports.base import Hint

MAX_HINTS = 1000
"""More than that waits in the database anyway."""


class EmbeddedTransport:
    """Hints within one process; another process finds the row at its next poll."""

    name = "embedded"
    is_polling = True

    def __init__(self) -> None:
        self._hints: deque[str] = deque()
        self._news = threading.Condition()
        self._is_closed = False
        self._epoch = uuid.uuid4().hex

    def publish(self, job_id: str, priority: int) -> bool:
        """Hint that a job is due; a full queue refuses it. The priority is the database's affair."""
        del priority
        with self._news:
            if self._is_closed or len(self._hints) >= MAX_HINTS:
                return False
            self._hints.append(job_id)
            self._news.notify()
        return True

    def receive(self, timeout_seconds: float) -> Hint | None:
        """The next hint; None when there was none within the time."""
        with self._news:
            self._news.wait_for(lambda: self._hints or self._is_closed, timeout_seconds)
            return Hint(self._hints.popleft()) if self._hints and not self._is_closed else None

    def depth(self) -> int:
        """How many hints wait."""
        return len(self._hints)

    def epoch(self) -> str:
        """One value for the life of this process."""
        return self._epoch

    def reclaim(self, living: Collection[str]) -> int:
        """Nothing: a hint is forgotten as soon as it is taken."""
        del living
        return 0

    def close(self) -> None:
        """Wake who waits."""
        with self._news:
            self._is_closed = True
            self._news.notify_all()
