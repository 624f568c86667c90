"""The keys that an issuer publishes: fetched when needed, seldom, and kept while it does not answer."""

import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING

from image_processor.errors import ImageProcessorError, TokenError, TokenFault, UnavailableError
from image_processor.telemetry import emit
from image_processor.tokens.public_keys import KeySet, check_extra, read_key_set

if TYPE_CHECKING:
    from image_processor.tokens.public_keys import PublicKey

PAUSE_SECONDS = 10.0
"""The least time from one fetch to the next, whoever asks: made-up key ids cost no more than that."""


class PublishedKeys:
    """
    The newest keys of an issuer; thread-safe.

    They are fetched anew after `refresh_seconds`, behind the back of the request that found them old; and at
    a key that is not known, which is waited for. Only one fetch runs at a time, on a thread of its own.
    `fetch` gives the JWK Set, bounded in size and time. Raises MissingExtraError.
    """

    def __init__(
        self,
        fetch: Callable[[], bytes],
        algorithm: str,
        *,
        refresh_seconds: float,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        check_extra()
        self._fetch = fetch
        self._algorithm = algorithm
        self._refresh_seconds = refresh_seconds
        self._now = now
        self._lock = threading.Lock()
        self._keys: KeySet = ()
        self._is_current = False
        """Whether the last fetch succeeded."""
        self._asked_at = -math.inf
        self._running: Future[None] | None = None

    def candidates(self, kid: str | None) -> "Sequence[PublicKey]":
        """The one key of that id, or the only one that there is; see `Keys.candidates`."""
        if found := self._found(kid):
            return found
        if not self._is_current:
            raise UnavailableError("The keys that tokens are checked with cannot be had at the moment.")
        raise TokenError(
            "The token is signed with a key that its issuer does not publish.", fault=TokenFault.UNKNOWN_KEY
        )

    def refresh(self, kid: str | None) -> Future[None] | None:
        """What to wait for, where the key is not known and a fetch is under way; see `Keys.refresh`."""
        is_known = bool(self._found(kid))
        with self._lock:
            if self._running is None and self._is_due(is_known=is_known):
                self._begin()
            return None if is_known else self._running

    def _found(self, kid: str | None) -> "list[PublicKey]":
        keys = self._keys
        if kid is None:
            return [keys[0][1]] if len(keys) == 1 else []
        return next(([key] for known, key in keys if known == kid), [])

    def _is_due(self, *, is_known: bool) -> bool:
        lasts = self._refresh_seconds if is_known and self._is_current else PAUSE_SECONDS
        return self._now() - self._asked_at >= lasts

    def _begin(self) -> None:
        running: Future[None] = Future()
        running.set_running_or_notify_cancel()  # no request that is given up cancels it for the others
        self._asked_at = self._now()
        self._running = running
        threading.Thread(target=self._renew, args=(running,), daemon=True, name="token keys").start()

    def _renew(self, running: Future[None]) -> None:
        """Replace the keys, or keep them where no others are to be had; what went wrong is for the log."""
        try:
            self._keys = read_key_set(self._fetch(), self._algorithm)
            self._is_current = True
        except ImageProcessorError as error:
            self._is_current = False
            emit("token_keys.failed", error=str(error), kept=len(self._keys))
        finally:
            with self._lock:
                self._running = None
            running.set_result(None)
