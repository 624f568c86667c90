"""What becomes of a job after an attempt without a result: decided here, purely, and carried out in SQL."""

from collections.abc import Callable
from dataclasses import dataclass

from image_processor.errors import EngineTimeoutError, ImageProcessorError, Retry, UnavailableError
from image_processor.jobs.states import Reason, Status


@dataclass(frozen=True, kw_only=True)
class History:
    """What a job has been through when an attempt ends."""

    attempt: int
    """The attempt that ends, from 1."""
    max_retries: int
    """Attempts allowed after the first."""
    crash_count: int = 0
    """Crashes before this attempt."""
    timeout_count: int = 0
    """Timeouts before this attempt."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """The state that a job goes to, and what is written with it. A cancel that was asked for overrides it."""

    status: Status
    reason: Reason | None = None
    delay_seconds: float = 0.0
    """Time until the next attempt may start."""
    refunds_attempt: bool = False
    """Whether the attempt is given back: it was not the job's fault."""
    counts_crash: bool = False
    counts_timeout: bool = False


RELEASE = Decision(status=Status.PENDING, refunds_attempt=True)
"""The worker stops: the job is due again at once."""

CANCEL = Decision(status=Status.FAILED, reason=Reason.CANCELLED)
"""The worker ends an attempt because somebody asked for it."""


def snooze(delay_seconds: float) -> Decision:
    """Try again after a delay; the attempt is given back."""
    return Decision(status=Status.RETRYING, delay_seconds=delay_seconds, refunds_attempt=True)


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """How often and when to try again."""

    delays_seconds: tuple[float, ...] = (1.0, 5.0, 25.0)
    """After the first, second, … attempt; the last one serves for all that follow."""
    max_crashes: int = 3
    """With this crash the job is poison."""
    max_timeouts: int = 2
    """With this timeout the job fails."""
    snooze_jitter_seconds: float = 5.0
    """Snoozed jobs come back spread over this time, so that they do not all return at once."""

    def decide(self, error: ImageProcessorError, history: History, *, jitter: float = 0.0) -> Decision:
        """What follows from `error`; `jitter` (0-1) is the share of the snooze jitter that is added."""
        by_class: dict[Retry, Callable[[], Decision]] = {
            Retry.NEVER: lambda: Decision(status=Status.FAILED, reason=Reason.REJECTED),
            Retry.TRANSIENT: lambda: self._after_failure(error, history),
            Retry.UNAVAILABLE: lambda: self._after_outage(error, jitter),
            Retry.CRASH: lambda: self.after_crash(history),
        }
        return by_class[error.retry]()

    def after_crash(self, history: History) -> Decision:
        """What follows when the process that did the work died, the worker itself included."""
        if history.crash_count + 1 >= self.max_crashes:
            return Decision(status=Status.FAILED, reason=Reason.POISON, counts_crash=True)
        return self._next_attempt(history, counts_crash=True)

    def _after_failure(self, error: ImageProcessorError, history: History) -> Decision:
        timed_out = isinstance(error, EngineTimeoutError)
        if timed_out and history.timeout_count + 1 >= self.max_timeouts:
            return Decision(status=Status.FAILED, reason=Reason.EXHAUSTED, counts_timeout=True)
        return self._next_attempt(history, counts_timeout=timed_out)

    def _after_outage(self, error: ImageProcessorError, jitter: float) -> Decision:
        wait = getattr(error, "retry_after_seconds", UnavailableError.retry_after_seconds)
        return snooze(wait + jitter * self.snooze_jitter_seconds)

    def _next_attempt(
        self, history: History, *, counts_crash: bool = False, counts_timeout: bool = False
    ) -> Decision:
        exhausted = history.attempt > history.max_retries
        return Decision(
            status=Status.FAILED if exhausted else Status.RETRYING,
            reason=Reason.EXHAUSTED if exhausted else None,
            delay_seconds=0.0 if exhausted else self._delay_after(history.attempt),
            counts_crash=counts_crash,
            counts_timeout=counts_timeout,
        )

    def _delay_after(self, attempt: int) -> float:
        return self.delays_seconds[min(attempt, len(self.delays_seconds)) - 1]
