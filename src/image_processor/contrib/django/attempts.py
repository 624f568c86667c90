"""Attempts: what fails for no fault of the picture is tried again, behind the breaker."""

import logging
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from django.core.cache import caches

from image_processor.contrib.django.breaker import CacheBreaker
from image_processor.contrib.django.conf import Conf, conf
from image_processor.errors import ImageProcessorError, RejectedError

T = TypeVar("T")
logger = logging.getLogger("image_processor.django")


class Attempts:
    """
    Calls until one holds.

    Args:
        waits: seconds before the second, third, … try.
        breaker: is told of each call that failed in all its tries; once it is open, nothing is tried.
        sleep: waits so many seconds.
    """

    def __init__(
        self,
        waits: Sequence[float],
        breaker: CacheBreaker,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._waits = tuple(waits)
        self._breaker = breaker
        self._sleep = sleep

    def run(self, call: Callable[[], T]) -> T:
        """
        What `call` gives.

        Raises:
            RejectedError: the picture's own fault: at once, and nothing is counted.
            UnavailableError: the breaker is open.
            ImageProcessorError: what the last try raised.
        """
        self._breaker.check()
        try:
            given = self._persist(call)
        except RejectedError:
            self._breaker.give_back()
            raise
        except ImageProcessorError:
            self._breaker.failed()
            raise
        except BaseException:
            self._breaker.give_back()
            raise
        self._breaker.succeeded()
        return given

    def _persist(self, call: Callable[[], T]) -> T:
        for wait in self._waits:
            try:
                return call()
            except RejectedError:
                raise
            except ImageProcessorError as error:
                logger.warning("Trying again in %g s: %s", wait, error)
                self._sleep(wait)
        return call()


def attempts(
    chosen: Conf | None = None, sleep: Callable[[float], None] = time.sleep, *, of: str = "pictures"
) -> Attempts:
    """
    As the project sets them, or as `chosen` says.

    What succeeds and what fails in one call needs a breaker for each, or it never opens: `of` names it.
    """
    chosen = chosen or conf()
    breaker = CacheBreaker(
        caches[chosen.breaker_cache],
        failures=chosen.breaker_failures,
        rest_seconds=chosen.breaker_seconds,
        name=of,
    )
    return Attempts(chosen.retry_seconds, breaker, sleep)
