"""When a request is sent again, and after how long."""

import random
import time
from dataclasses import dataclass
from math import inf

from image_processor.client.refusals import UnreachableError
from image_processor.errors import ImageProcessorError, RateLimitError, Retry

LATER = 503
BROKEN_ON_THE_WAY = (502, 504)
JITTER = 0.25
"""What is added to a pause that was asked for: clients that were refused together come back apart."""


@dataclass(frozen=True, kw_only=True)
class Retries:
    """
    How patient a client is with a service that cannot be reached, or answers 502, 503 or 504.

    A pause is random and grows twofold; it is as long as `Retry-After` asks for where that is longer.
    """

    attempts: int = 5
    """Of one request, with the first."""
    total_seconds: float = 60.0
    """Since the first failure; a pause that would end later is not begun."""
    first_pause_seconds: float = 0.5
    longest_pause_seconds: float = 10.0
    rate_limit: bool = False
    """Whether a used-up limit (429) is waited for too, as far as `total_seconds` goes."""


NEVER = Retries(attempts=1)


class Patience:
    """What is left of the retries of one request."""

    def __init__(self, retries: Retries, *, repeats_lost: bool = True, ends_at: float | None = None) -> None:
        self._retries = retries
        self._ends_at = inf if ends_at is None else ends_at
        """When there is no more time, on the monotonic clock."""
        self._repeats_lost = repeats_lost
        """Whether a request may be sent again that may have arrived."""
        self._failures = 0
        self._failed_at = 0.0

    def pause_after(self, error: ImageProcessorError) -> float | None:
        """The seconds before the next attempt; None where there is to be none."""
        now = time.monotonic()
        self._failed_at = self._failed_at or now
        self._failures += 1
        if self._failures >= self._retries.attempts or not self._helps(error):
            return None
        pause = self._pause(error)
        return (
            pause
            if now + pause <= min(self._ends_at, self._failed_at + self._retries.total_seconds)
            else None
        )

    def _helps(self, error: ImageProcessorError) -> bool:
        if error.retry is Retry.NEVER:
            return False
        if isinstance(error, UnreachableError):
            return self._repeats_lost or not error.was_sent
        if isinstance(error, RateLimitError):
            return self._retries.rate_limit
        return error.status == LATER or (error.status in BROKEN_ON_THE_WAY and self._repeats_lost)

    def _pause(self, error: ImageProcessorError) -> float:
        longest = self._retries.first_pause_seconds * 2.0 ** (self._failures - 1)
        usual = random.uniform(0.5, 1) * min(longest, self._retries.longest_pause_seconds)  # noqa: S311
        return max(usual, asked_pause(error) * (1 + random.uniform(0, JITTER)))  # noqa: S311 - no secret


def asked_pause(error: ImageProcessorError) -> float:
    """The seconds for which whoever answered asks to be left alone; 0 where it does not say."""
    # The value of the class is for those to whom nobody said anything.
    asked: float = vars(error).get("retry_after_seconds", 0.0)
    return asked
