"""Keeps a broker supplied with hints: not many at a time, for the jobs wait in the database."""

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from image_processor.errors import UnavailableError
from image_processor.jobs.dispatch import DueJob
from image_processor.maintenance.house import House
from image_processor.telemetry import emit

HINTS_PER_SLOT = 4
BATCH = 50
"""So many jobs are marked at a time: a sweeper that dies has left at most these without their hints."""
PUBLISH_SECONDS = 2.0
"""How long a turn may publish: there is other work to do."""
QUIET_SECONDS = 0.5
"""A broker that failed to answer is not asked again within the same tick."""
POLLING = "polling"
"""The epoch of a transport without a broker: what is noted is only that no other one is in use."""

Answer = TypeVar("Answer")


class Condition:
    """Whether something works, told of when that changes."""

    def __init__(self, subject: str) -> None:
        self._subject = subject
        self._failed_at: float | None = None

    def failed(self, error: str) -> None:
        """It does not work."""
        if self._failed_at is None:
            self._failed_at = time.monotonic()
            emit(f"{self._subject}.failed", error=error)

    def works(self) -> None:
        """It does."""
        if self._failed_at is not None:
            emit(f"{self._subject}.recovered", seconds=round(time.monotonic() - self._failed_at, 3))
            self._failed_at = None


class Hints:
    """The steps of the sweeper that have to do with the transport; none raises for a broker that is down."""

    def __init__(self, house: House) -> None:
        self._dispatch = house.dispatch
        self._workers = house.workers
        self._transport = house.transport
        self._min_window = house.min_window
        self._answers = Condition("sweeper.broker")
        self._takes_hints = Condition("sweeper.publish")
        self._quiet_until = 0.0

    def follow_epoch(self) -> int:
        """Have everything that waits dispatched anew, bit by bit, where the broker may have lost it."""
        transport = self._transport
        epoch = POLLING if transport.is_polling else self._ask(transport.epoch)
        if epoch is None:
            return 0
        return self._dispatch.note_epoch(transport.name, epoch) + self._dispatch.forget_outlived()

    def find_overtaken(self) -> int:
        """Have jobs dispatched again whose hint was lost while the broker always had others."""
        return 0 if self._transport.is_polling else self._dispatch.forget_lost(is_idle=False)

    def reclaim(self) -> int:
        """Put back the hints that dead workers had taken."""
        if self._transport.is_polling:
            return 0
        living = self._workers.living()
        return self._ask(lambda: self._transport.reclaim(living)) or 0

    def fill(self) -> int:
        """Publish due jobs, best first, until the broker has as many hints as its workers can soon follow."""
        depth = None if self._transport.is_polling else self._ask(self._transport.depth)
        if depth is None:
            return 0
        if depth == 0 and (lost := self._dispatch.forget_lost()):
            emit("hints.lost", count=lost)
        return self._publish_up_to(self._window() - depth)

    def _window(self) -> int:
        return max(self._min_window, HINTS_PER_SLOT * self._dispatch.slots())

    def _publish_up_to(self, room: int) -> int:
        ends_at = time.monotonic() + PUBLISH_SECONDS
        count = 0
        while time.monotonic() < ends_at and (jobs := self._dispatch.take(min(BATCH, room - count))):
            sent = self._publish(jobs)
            count += sent
            if sent < len(jobs):
                break
        return count

    def _publish(self, jobs: Sequence[DueJob]) -> int:
        """Publish in order; from the first one on that fails, they are left to the next turn."""
        for number, job in enumerate(jobs):
            if not self._transport.publish(job.job_id, job.priority):
                self._takes_hints.failed("The broker did not take a hint.")
                self._dispatch.put_back([left.job_id for left in jobs[number:]])
                return number
        self._takes_hints.works()
        return len(jobs)

    def _ask(self, question: Callable[[], Answer]) -> Answer | None:
        """The broker's answer; None where it has none, and for the rest of the tick."""
        if time.monotonic() < self._quiet_until:
            return None
        try:
            answer = question()
        except UnavailableError as error:
            self._quiet_until = time.monotonic() + QUIET_SECONDS
            self._answers.failed(str(error))
            return None
        self._answers.works()
        return answer
