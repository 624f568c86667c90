"""The transport protocol. The database row is the truth; what travels here are only hints."""

from typing import Protocol


class Transport(Protocol):
    """Carries job ids from those who submit to those who work, as well as it can."""

    def publish(self, job_id: str, priority: int) -> None:
        """Hint that a job is due; never raises and never takes longer than 300 ms."""
        ...

    def receive(self, timeout_seconds: float) -> str | None:
        """The next job id; None when there was none within the time, or to look into the database anyway."""
        ...

    def depth(self) -> int:
        """How many hints wait."""
        ...

    def epoch(self) -> str:
        """Names the life of the broker: another value means that hints may have been lost."""
        ...
