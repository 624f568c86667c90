"""The worker process: its threads, its signals, and the order in which it stops."""

import argparse
import os
import queue
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable, Sequence

from image_processor.bootstrap import WorkerParts, build_worker
from image_processor.errors import ImageProcessorError
from image_processor.lifeline import end_with_parent
from image_processor.runner import Ending
from image_processor.settings import Settings, load_settings
from image_processor.signals import on_stop_signals
from image_processor.telemetry import emit, log_events
from image_processor.worker.courier import Couriers
from image_processor.worker.grace import HAND_BACK_SECONDS, HAND_BACK_TICK_SECONDS, STOP_GRACE_SECONDS
from image_processor.worker.heartbeat import LeaseKeeper
from image_processor.worker.presence import Presence
from image_processor.worker.slot import Slot
from image_processor.worker.stall import StallDetector


def main(arguments: Sequence[str]) -> int:
    """Run one worker process, as the service starts it; 2 and a sentence where it cannot even begin."""
    parser = argparse.ArgumentParser(prog="image_processor.worker")
    parser.add_argument("--worker-id", default=None, help="names this process in its jobs")
    parser.add_argument("--parent", type=int, help="end when this process does")
    options = parser.parse_args(arguments)
    if options.parent:
        end_with_parent(options.parent, signal.SIGTERM)
    try:
        return run_worker(load_settings(), worker_id=options.worker_id)
    except ImageProcessorError as error:
        sys.stderr.write(f"image-processor: {' '.join(str(error).split())}\n")
        return 2


def run_worker(settings: Settings, *, worker_id: str | None = None) -> int:
    """Process uploads until told to stop; the exit code is 0 unless a thread died."""
    log_events(json=settings.log_format == "json")
    worker_id = worker_id or str(uuid.uuid4())
    worker = Worker(build_worker(settings, worker_id=worker_id), worker_id)
    on_stop_signals(worker.signalled)
    return worker.run()


class Worker:
    """Slots and those who keep the house for them, each on a thread that lasts as long as the process."""

    def __init__(self, parts: WorkerParts, worker_id: str) -> None:
        self._parts = parts
        self._worker_id = worker_id
        self._leases = LeaseKeeper(parts.jobs, lease_seconds=parts.settings.lease_seconds)
        self._stall = StallDetector(
            parts.dispatch, transport=parts.transport.name, stall_seconds=parts.settings.stall_seconds
        )
        self._stop_claiming = threading.Event()
        self._stop_beating = threading.Event()
        self._news: queue.SimpleQueue[int | threading.Thread] = queue.SimpleQueue()
        """The signals that came, and the threads that ended."""
        self._failed = False

    def signalled(self, number: int) -> None:
        """Stop claiming at the first signal, hand everything back at the second."""
        self._news.put(number)

    def run(self) -> int:
        """Work until a signal or a thread's death, then stop in order."""
        slots = [
            self._thread(f"slot-{number}", self._new_slot().run, self._stop_claiming)
            for number in range(self._parts.settings.workers)
        ]
        keepers = [self._thread(name, run, self._stop_beating) for name, run in self._keepers().items()]
        emit("worker.started", worker_id=self._worker_id, slots=len(slots), pid=os.getpid())
        self._next_news()
        self._stop_claiming.set()
        emit("worker.stopping", worker_id=self._worker_id)
        if not self._end(slots, STOP_GRACE_SECONDS):
            self._hand_back(slots)
        self._stop_beating.set()
        self._end(keepers, HAND_BACK_SECONDS)
        self._parts.close()
        emit("worker.stopped", worker_id=self._worker_id)
        return 1 if self._failed else 0

    def _keepers(self) -> dict[str, Callable[[threading.Event], None]]:
        keepers: dict[str, Callable[[threading.Event], None]] = {
            "heartbeat": self._leases.run,
            "leases": self._leases.watch,
            "sweeper": self._parts.sweeper.run,
            "cleaner": self._parts.sweeper.run_cleaning,
            "presence": self._new_presence().run,
        }
        if self._parts.courier is not None:
            keepers["couriers"] = Couriers(self._parts.courier).run
        return keepers

    def _new_slot(self) -> Slot:
        return Slot.of(self._parts, worker_id=self._worker_id, stall=self._stall, leases=self._leases)

    def _new_presence(self) -> Presence:
        return Presence(
            workers=self._parts.workers,
            worker_id=self._worker_id,
            slots=self._parts.settings.workers,
            stall=self._stall,
        )

    def _end(self, threads: Sequence[threading.Thread], seconds: float) -> bool:
        """Whether all threads ended within so many seconds, and before the next signal."""
        ends_at = time.monotonic() + seconds
        while any(thread.is_alive() for thread in threads):
            try:
                news = self._next_news(max(0.0, ends_at - time.monotonic()))
            except queue.Empty:
                return False
            if isinstance(news, int):
                return False
        return True

    def _next_news(self, seconds: float | None = None) -> int | threading.Thread:
        news = self._news.get(timeout=seconds)
        if isinstance(news, threading.Thread):
            news.join()
        return news

    def _hand_back(self, slots: Sequence[threading.Thread]) -> None:
        ends_at = time.monotonic() + HAND_BACK_SECONDS
        while any(slot.is_alive() for slot in slots) and time.monotonic() < ends_at:
            # More than once: a job may have been claimed a moment ago, or be between two steps.
            self._leases.end_all(Ending.STOPPED)
            for slot in slots:
                slot.join(HAND_BACK_TICK_SECONDS)
        self._leases.release_all()

    def _thread(
        self, name: str, target: Callable[[threading.Event], None], stop: threading.Event
    ) -> threading.Thread:
        def run() -> None:
            try:
                target(stop)
            except BaseException as error:
                # A worker that lost a thread is not a worker: the whole process ends and is started anew.
                emit("worker.thread.died", name=name, error=f"{type(error).__name__}: {error}")
                self._failed = True
                raise
            finally:
                self._news.put(threading.current_thread())

        thread = threading.Thread(target=run, name=name, daemon=True)
        thread.start()
        return thread
