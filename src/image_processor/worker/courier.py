"""The couriers of a worker process: deliveries claimed as they fall due, several sent at once."""

import threading
import time
from collections import Counter
from typing import Any

from image_processor.errors import ImageProcessorError
from image_processor.jobs.deliveries import Delivery
from image_processor.telemetry import emit, subscribe
from image_processor.webhooks import Courier

COURIERS = 4
"""Deliveries sent at once by one process."""
COURIERS_PER_USER = 2
"""So that one whose receiver is slow does not hold up the others."""
POLL_SECONDS = 1.0
"""How often the database is asked where nothing else says that a delivery is due."""
RECOVERY_SECONDS = 1.0
"""The pause after the database could not be asked."""
STOP_GRACE_SECONDS = 2.5
"""How long deliveries may go on once the process stops; then they are handed back."""
_COMING_TO_REST = frozenset({"job.completed", "job.failed"})


class Couriers:
    """Any number of processes may have them; a delivery is claimed by one at a time."""

    def __init__(self, courier: Courier, *, stop_grace_seconds: float = STOP_GRACE_SECONDS) -> None:
        self._courier = courier
        self._stop_grace_seconds = stop_grace_seconds
        self._under_way: dict[threading.Thread, Delivery] = {}
        self._lock = threading.Lock()
        self._news = threading.Event()
        """A delivery was sent, or a job of this process came to rest."""

    def run(self, stop: threading.Event) -> None:
        """Send what is due until told to stop; then hand back what is not sent soon."""
        unsubscribe = subscribe(self._hear)
        try:
            while not stop.is_set():
                self._news.clear()
                if not self._send_if_due(stop):
                    self._news.wait(self._pause_seconds(stop))
        finally:
            unsubscribe()
            self._hand_back()

    def send_next(self) -> bool:
        """Claim what is due longest and send it on a thread of its own; False when there is nothing to do."""
        with self._lock:
            under_way = list(self._under_way.values())
        if len(under_way) >= COURIERS:
            return False
        claim = self._claim(Counter(delivery.user_id for delivery in under_way))
        if claim is None:
            return False
        # Nobody waits for this thread when the process ends: a receiver may take longer than a stop may.
        thread = threading.Thread(target=self._deliver, args=(claim,), name="courier", daemon=True)
        with self._lock:
            self._under_way[thread] = claim
        thread.start()
        return True

    def _claim(self, under_way: Counter[str]) -> Delivery | None:
        """The next delivery of who has the fewest under way: slow receivers of two users hold up no third."""
        for most in range(COURIERS_PER_USER):
            resting = [user for user, count in under_way.items() if count > most]
            if claim := self._courier.deliveries.claim(self._courier.lease_seconds, resting=resting):
                return claim
            if not resting:
                break
        return None

    def _send_if_due(self, stop: threading.Event) -> bool:
        try:
            return self.send_next()
        except ImageProcessorError as error:
            emit("courier.failed", error=error.message)
            stop.wait(RECOVERY_SECONDS)
            return False

    def _pause_seconds(self, stop: threading.Event) -> float:
        """Until the next delivery is due, or a courier may be back and says so itself."""
        with self._lock:
            if self._under_way:
                return POLL_SECONDS
        try:
            due_in = self._courier.deliveries.next_due_in()
        except ImageProcessorError as error:
            emit("courier.failed", error=error.message)
            stop.wait(RECOVERY_SECONDS)
            return 0.0
        return POLL_SECONDS if due_in is None else min(due_in, POLL_SECONDS)

    def _deliver(self, claim: Delivery) -> None:
        try:
            self._courier.deliver(claim)
        except ImageProcessorError as error:  # its lease will end, and it is sent again
            emit("courier.failed", delivery_id=claim.delivery_id, error=error.message)
        finally:
            with self._lock:
                self._under_way.pop(threading.current_thread(), None)
            self._news.set()

    def _hear(self, event: str, _fields: dict[str, Any]) -> None:
        if event in _COMING_TO_REST:
            self._news.set()

    def _hand_back(self) -> None:
        ends_at = time.monotonic() + self._stop_grace_seconds
        with self._lock:
            under_way = dict(self._under_way)
        for thread, claim in under_way.items():
            thread.join(max(0.0, ends_at - time.monotonic()))
            if thread.is_alive():
                self._release(claim)

    def _release(self, claim: Delivery) -> None:
        try:
            self._courier.deliveries.release(claim)
        except ImageProcessorError as error:  # its lease will end
            emit("courier.failed", delivery_id=claim.delivery_id, error=error.message)
