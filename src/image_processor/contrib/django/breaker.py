"""CacheBreaker: lets what keeps failing rest, for all processes of a project, whatever it is."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from django.core.cache import BaseCache

from image_processor.errors import UnavailableError

PREFIX = "image_processor:breaker"
logger = logging.getLogger("image_processor.django")


class CacheBreaker:
    """
    Opens after failures in a row, counted through a cache that the processes share; then one may probe.

    A cache that loses its content, or does not answer, closes it: pictures are tried again, nothing is lost.

    Args:
        cache: one of Django's.
        failures: in a row, at least 1.
        rest_seconds: how long nothing is tried.
        name: of what it guards; those of the same name are one.
        now: seconds since the epoch.
    """

    def __init__(
        self,
        cache: BaseCache,
        *,
        failures: int,
        rest_seconds: float,
        name: str = "pictures",
        now: Callable[[], float] = time.time,
    ) -> None:
        self._cache = cache
        self._failures = failures
        self._rest_seconds = rest_seconds
        self._name = name
        self._now = now

    def check(self) -> None:
        """Raises UnavailableError while it is open; after the rest, one caller passes as the probe."""
        wait = None
        with _tolerating():
            wait = self._wait()
        if wait is not None:
            raise UnavailableError(
                "Pictures cannot be processed for the moment; try again in a minute.",
                retry_after=max(wait, 1.0),
            )

    def give_back(self) -> None:
        """What passed says nothing about us: another may probe."""
        with _tolerating():
            self._cache.delete(self._key("probe"))

    def succeeded(self) -> None:
        """The failures in a row are over."""
        with _tolerating():
            known = self._cache.get_many([self._key(name) for name in ("failures", "open_until", "probe")])
            if known:
                self._cache.delete_many(list(known))

    def failed(self) -> None:
        """One more; the last one that is allowed opens it, and so does a probe that fails."""
        with _tolerating():
            self._count()

    def _key(self, of: str) -> str:
        return f"{PREFIX}:{self._name}:{of}"

    def _wait(self) -> float | None:
        """Seconds that are left; None for who may pass."""
        until = self._cache.get(self._key("open_until"))
        if until is None:
            return None
        wait: float = until - self._now()
        is_over = wait <= 0 or wait > 2 * self._rest_seconds  # a clock was put back since
        is_probe = is_over and self._cache.add(self._key("probe"), 1, timeout=max(self._rest_seconds, 1))
        return None if is_probe else wait

    def _count(self) -> None:
        self._cache.add(self._key("failures"), 0, timeout=None)
        try:
            count = self._cache.incr(self._key("failures"))
        except ValueError:  # removed in between by a success
            return
        if count >= self._failures:
            self._cache.set(self._key("open_until"), self._now() + self._rest_seconds, timeout=None)
            self._cache.delete(self._key("probe"))


@contextmanager
def _tolerating() -> Iterator[None]:
    """A cache that fails, with whatever its library raises, is no reason to refuse a picture."""
    try:
        yield
    except Exception:
        logger.warning("The breaker's cache does not answer; the breaker counts as closed.", exc_info=True)
