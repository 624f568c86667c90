"""The transport protocol. The database row is the truth; what travels here are only hints."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Protocol


def _nothing() -> None:
    """What there is to do where nothing is kept."""


@dataclass(frozen=True)
class Hint:
    """That a job may be due."""

    job_id: str
    acknowledge: Callable[[], None] = _nothing
    """To be called once the job has come to rest, or was not there to be claimed; never raises."""


class Transport(Protocol):
    """
    Carries job ids from those who submit to those who work, as well as it can.

    Raises, from `depth`, `epoch` and `reclaim`: UnavailableError where the broker cannot be asked.
    """

    name: str
    """As `QUEUE_BACKEND` names it."""
    is_polling: bool
    """Whether workers are to look into the database at every turn: hints do not reach other processes."""

    def publish(self, job_id: str, priority: int) -> bool:
        """Hint that a job is due; False where that failed. Never raises, never takes longer than 300 ms."""
        ...

    def receive(self, timeout_seconds: float) -> Hint | None:
        """The next hint; None when there was none within the time. Never raises: a deaf broker gives None."""
        ...

    def depth(self) -> int:
        """How many hints wait."""
        ...

    def epoch(self) -> str:
        """Names the life of the broker: another value means that hints may have been lost."""
        ...

    def reclaim(self, living: Collection[str]) -> int:
        """Put back the hints that workers other than these had taken and not acknowledged; gives how many."""
        ...

    def close(self) -> None:
        """Give back what is held; it is not used afterwards."""
        ...
