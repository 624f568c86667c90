"""
The breaker that leaves a place alone while it is down. The states are pybreaker's; the locking is ours.

pybreaker holds its lock round the call that it guards, so that calls wait for each other, and forgets its
failures at each error that is none of them. Here the lock covers the decision and the bookkeeping alone.
"""

import inspect
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from typing import NoReturn, ParamSpec, TypeVar

from image_processor.errors import (
    BucketMissingError,
    MissingExtraError,
    StorageClockError,
    StorageCredentialsError,
    StorageDamageError,
    StorageDeniedError,
    StorageDownError,
)
from image_processor.telemetry import emit

P = ParamSpec("P")
T = TypeVar("T")

OUTAGES = (StorageDownError, StorageDamageError)
ANSWERS = (StorageDeniedError, StorageCredentialsError, StorageClockError, BucketMissingError)
"""What a place that is well says, at once: waiting mends none of it, and what to mend must stay visible."""


class BreakerState(StrEnum):
    """What becomes of the next call."""

    CLOSED = "closed"
    """It goes through."""
    OPEN = "open"
    """It is refused, until the time is over."""
    HALF_OPEN = "half-open"
    """One goes through as a trial, and decides; the others are refused."""


EVENTS = {
    BreakerState.CLOSED: "breaker.closed",
    BreakerState.OPEN: "breaker.opened",
    BreakerState.HALF_OPEN: "breaker.half_opened",
}


def is_outage(error: BaseException) -> bool:
    """
    Whether the error says that the place is down or does harm, and so counts.

    A missing object, a refused key, a full place, a denied one and wrong credentials do not: it answers.
    """
    return isinstance(error, OUTAGES) and not isinstance(error, ANSWERS)


class Breaker:
    """
    Lets calls through until `fail_max` outages in a row, refuses them for `reset_seconds`, then tries one.

    A trial that succeeds, or fails with what is no outage, closes it; an outage opens it anew for the whole
    time; one that has not ended after that time is given up, and another begins. While it is closed, an
    error that is no outage neither counts nor hides the outages before it. What is no `Exception` (Ctrl-C, a
    cancelled task) says nothing in any state, nor does the end of a call that was let through before the
    state changed. Safe for threads. `counts` says what an outage is; `clock` is in seconds and never goes
    back.

    Raises MissingExtraError without the extra `s3`.
    """

    def __init__(
        self,
        name: str,
        *,
        fail_max: int = 5,
        reset_seconds: float = 60.0,
        counts: Callable[[BaseException], bool] = is_outage,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        try:
            import pybreaker  # noqa: PLC0415 - an extra, and it loads redis
        except ModuleNotFoundError as absence:
            raise MissingExtraError(
                "Leaving a storage alone while it is down needs an optional part: "
                "pip install image-processor[s3]."
            ) from absence
        self.name = name
        self._reset_seconds = reset_seconds
        self._counts = counts
        self._clock = clock
        self._circuit = pybreaker.CircuitBreaker(fail_max=fail_max, name=name, throw_new_error_on_trip=False)
        self._lock = threading.Lock()
        self._opened_at = -math.inf
        self._changes = 0
        self._trial_ends_at = -math.inf

    @property
    def state(self) -> BreakerState:
        """The state as the last call left it: open until one comes after the time is over."""
        return BreakerState(self._circuit.current_state)

    @property
    def failures(self) -> int:
        """Outages since the last success."""
        return self._circuit.fail_counter

    def call(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """
        What the work gives or raises; raises StorageDownError instead while the place is left alone.

        A coroutine function is a TypeError: it returns before anything happens; for those there is `passage`.
        """
        if inspect.iscoroutinefunction(work):
            raise TypeError("A coroutine is guarded by `with breaker.passage(): await ...`.")
        with self.passage():
            return work(*args, **kwargs)

    @contextmanager
    def passage(self) -> Iterator[None]:
        """The same for a block, which may await; raises StorageDownError in its place."""
        entered = self._enter()
        try:
            yield
        except BaseException as error:
            self._leave(entered, error)
            raise
        self._leave(entered, None)

    def _enter(self) -> int:
        """The number of changes of state so far: by that a call's end is known to be of now."""
        with self._bookkeeping():
            if self.state is BreakerState.OPEN and self._seconds_left() <= 0:
                self._circuit.half_open()
        with self._lock:
            if self.state is BreakerState.OPEN or self._clock() < self._trial_ends_at:
                raise StorageDownError(
                    "The storage failed several times in a row and is left alone for now.",
                    retry_after_seconds=max(1, math.ceil(self._seconds_left())),
                )
            if self.state is BreakerState.HALF_OPEN:
                self._trial_ends_at = self._clock() + self._reset_seconds
            return self._changes

    def _leave(self, entered: int, error: BaseException | None) -> None:
        says_outage = isinstance(error, Exception) and self._counts(error)
        with self._bookkeeping():
            if entered != self._changes:
                return
            self._trial_ends_at = -math.inf
            is_trial = self.state is BreakerState.HALF_OPEN
            if says_outage:
                with suppress(_Outage):
                    self._circuit.call(_fail)
            elif error is None or (is_trial and isinstance(error, Exception)):
                self._circuit.call(_succeed)

    @contextmanager
    def _bookkeeping(self) -> Iterator[None]:
        """The lock; a change of state is noted with it, and told without it."""
        with self._lock:
            before = self.state
            yield
            now = self.state
            if now is not before:
                self._note(now)
        if now is not before:
            emit(EVENTS[now], name=self.name)

    def _note(self, state: BreakerState) -> None:
        self._changes += 1
        self._trial_ends_at = -math.inf
        if state is BreakerState.OPEN:
            self._opened_at = self._clock()

    def _seconds_left(self) -> float:
        return self._opened_at + self._reset_seconds - self._clock()


class _Outage(Exception):  # noqa: N818 - what pybreaker is told; nobody else sees it
    """The one failure that pybreaker knows."""


def _fail() -> NoReturn:
    raise _Outage


def _succeed() -> None:
    pass
