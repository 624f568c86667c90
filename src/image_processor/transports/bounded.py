"""Calls to a broker that nobody waits for longer than they like, whatever network and resolver do."""

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from typing import Any, TypeVar

from image_processor.errors import UnavailableError
from image_processor.telemetry import emit

T = TypeVar("T")
JOIN_SECONDS = 0.5
"""How long `close` waits for a call that is being made."""


class Bounded:
    """
    Makes calls on one thread of its own, and waits for each for so long and no longer.

    Timeouts of sockets bound neither the resolving of names nor the sum of a handshake's steps; this does.
    After a failure it cools off: calls fail at once for a while, then one at a time is tried. The event
    `transport.<name>.failed` tells when failing begins, `transport.<name>.recovered` when it ends.
    """

    def __init__(self, name: str, *, seconds: float, cool_off_seconds: float) -> None:
        self._name = name
        self._seconds = seconds
        self._cool_off_seconds = cool_off_seconds
        self._calls: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._late: Future[Any] | None = None
        self._has_failed = False
        self._free_at = 0.0
        self._is_closed = False

    def call(
        self,
        function: Callable[[], T],
        *,
        seconds: float | None = None,
        undo: Callable[[T], object] | None = None,
    ) -> T:
        """
        What `function` gives, within `seconds` (of this call, else of the constructor).

        `undo` is called with what came too late. Raises UnavailableError, with the cause, where the call
        failed or took too long, and at once while it cools off or is closed.
        """
        patience = self._seconds if seconds is None else seconds
        future: Future[T] = Future()
        self._begin(future, function, patience)
        try:
            error = future.exception(patience)
        except (TimeoutError, CancelledError) as late:
            self._give_up(future, undo)
            error = TimeoutError(f"No answer came within {patience:g} seconds.")
            error.__cause__ = late
        self._end(error)
        if error is not None:
            raise UnavailableError("The queue's broker failed, or did not answer in time.") from error
        return future.result()

    def close(self) -> None:
        """End the thread; calls that wait, and later ones, fail."""
        with self._lock:
            self._is_closed = True
            thread = self._thread
        self._calls.put(None)
        if thread is not None:
            thread.join(JOIN_SECONDS)

    def _begin(self, future: Future[Any], function: Callable[[], Any], patience: float) -> None:
        with self._lock:
            if self._is_closed or self._is_cooling():
                raise UnavailableError("The queue's broker failed a moment ago, and is not asked yet.")
            # While this one is tried nobody else is let in, if things are bad.
            self._free_at = time.monotonic() + patience
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name=f"broker-{self._name}", daemon=True)
                self._thread.start()
            self._calls.put((future, function))

    def _is_cooling(self) -> bool:
        is_stuck = self._late is not None and not self._late.done()
        return self._has_failed and (is_stuck or time.monotonic() < self._free_at)

    def _give_up(self, future: Future[T], undo: Callable[[T], object] | None) -> None:
        if future.cancel():
            return
        self._late = future
        if undo is not None:
            future.add_done_callback(lambda late: late.exception() or undo(late.result()))

    def _end(self, error: BaseException | None) -> None:
        with self._lock:
            turned = self._has_failed != (error is not None)
            self._has_failed = error is not None
            if error is not None:
                self._free_at = time.monotonic() + self._cool_off_seconds
        if turned and error is not None:
            emit(f"transport.{self._name}.failed", error=f"{type(error).__name__}: {error}")
        elif turned:
            emit(f"transport.{self._name}.recovered")

    def _work(self) -> None:
        while (item := self._calls.get()) is not None:
            future, function = item
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(function())
            except BaseException as error:  # noqa: BLE001 - it is raised where the call was made
                future.set_exception(error)
