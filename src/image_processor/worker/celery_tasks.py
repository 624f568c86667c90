"""What runs inside a Celery worker: its one task, and the threads that hold its leases and keep the house."""

import atexit
import os
import queue
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from celery import signals
from celery.concurrency import get_implementation
from celery.exceptions import Ignore

from image_processor.bootstrap import WorkerParts, build_worker
from image_processor.engine.base import Engine
from image_processor.errors import ConfigurationError, ImageProcessorError
from image_processor.jobs.states import Status
from image_processor.jobs.values import Claim, EventType
from image_processor.runner import Ending
from image_processor.settings import load_settings
from image_processor.telemetry import emit, log_events
from image_processor.transports.base import Hint
from image_processor.transports.celery_app import app
from image_processor.transports.celery_queue import TASK
from image_processor.worker.courier import Couriers
from image_processor.worker.grace import HAND_BACK_SECONDS, HAND_BACK_TICK_SECONDS, STOP_GRACE_SECONDS
from image_processor.worker.heartbeat import LeaseKeeper
from image_processor.worker.presence import Presence
from image_processor.worker.slot import Slot
from image_processor.worker.stall import LOOK_SECONDS, StallDetector

THREADS = "celery.concurrency.thread"
CHANGES = frozenset(EventType) - {EventType.CANCEL_REQUESTED, EventType.DELETED}
"""The events that say what state a job is in."""
CELERY_STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


class AttemptFailedError(ImageProcessorError):
    """The attempt did not complete the job; raised for Celery's monitors alone, the database knows more."""

    code = "attempt_failed"


class Engines:
    """Engines that wait for their next job: as many as ever worked at the same time."""

    def __init__(self, new_engine: Callable[[], Engine]) -> None:
        self._new_engine = new_engine
        self._idle: queue.LifoQueue[Engine] = queue.LifoQueue()

    @contextmanager
    def borrow(self) -> Iterator[Engine]:
        """An engine that nobody else has while the block lasts."""
        try:
            engine = self._idle.get_nowait()
        except queue.Empty:
            engine = self._new_engine()
        try:
            yield engine
        finally:
            self._idle.put(engine)

    def close(self) -> None:
        """End those that nobody has."""
        while not self._idle.empty():
            self._idle.get().close()


class Threads:
    """How many of Celery's threads are at work for us."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._busy = 0
        self._free_since = time.monotonic()
        self._lock = threading.Lock()

    @contextmanager
    def one_busy(self) -> Iterator[None]:
        """One thread works for as long as the block lasts."""
        with self._lock:
            self._busy += 1
        try:
            yield
        finally:
            with self._lock:
                if self._busy == self._count:
                    self._free_since = time.monotonic()
                self._busy -= 1

    def free_seconds(self) -> float:
        """For how long Celery has had a thread to give a hint to; 0 while all are busy."""
        with self._lock:
            return time.monotonic() - self._free_since if self._busy < self._count else 0.0


class TaskSlot(Slot):
    """A slot whose hints are Celery tasks: each ends as its job does, for Celery's monitors."""

    def _run_hinted(self, claim: Claim | None, hint: Hint, engine: Engine) -> None:
        """Raises AttemptFailedError where the job failed; Ignore where its end is for others to tell."""
        super()._run_hinted(claim, hint, engine)
        if claim is None:
            self._check_rest(hint.job_id)
        else:
            self._check_completed(claim)

    def _pass_on(self, hint: Hint) -> None:
        super()._pass_on(hint)
        raise Ignore

    def _check_completed(self, claim: Claim) -> None:
        job = self.jobs.job(claim.job_id, claim.user_id)
        if job is None:
            raise AttemptFailedError("The image was deleted while it was processed.")
        if job.status is not Status.COMPLETED:
            raise AttemptFailedError(f"The job is {job.status} now. {job.error or ''}".strip())

    def _check_rest(self, job_id: str) -> None:
        changes = [event.event_type for event in self.jobs.events(job_id) if event.event_type in CHANGES]
        if changes[-1:] == [EventType.FAILED]:
            raise AttemptFailedError("The job had failed before.")
        if changes[-1:] != [EventType.COMPLETED]:
            raise Ignore


class CeleryStall(StallDetector):
    """Not deaf is a worker that could not be told of anything, as all its threads are busy."""

    threads: Threads

    def may_claim_directly(self) -> bool:
        """So too only where Celery has had a free thread for a while. Raises UnavailableError."""
        return self.threads.free_seconds() >= LOOK_SECONDS and super().may_claim_directly()


class Station:
    """One Celery worker process, as our database sees it: a worker with as many slots as it has threads."""

    def __init__(self, parts: WorkerParts, *, worker_id: str, threads: int) -> None:
        settings = parts.settings
        self._parts = parts
        self._worker_id = worker_id
        self._leases = LeaseKeeper(parts.jobs, lease_seconds=settings.lease_seconds)
        self._stall = CeleryStall(
            parts.dispatch, transport=parts.transport.name, stall_seconds=settings.stall_seconds
        )
        self._threads = self._stall.threads = Threads(threads)
        self._presence = Presence(
            workers=parts.workers, worker_id=worker_id, slots=threads, stall=self._stall
        )
        self._engines = Engines(parts.new_engine)
        self._slot = self._new_slot(TaskSlot)
        self._stop_claiming = threading.Event()
        self._stop_beating = threading.Event()
        self._signals: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._keepers: list[threading.Thread] = []

    def _new_slot(self, kind: type[Slot]) -> Slot:
        return kind.of(self._parts, worker_id=self._worker_id, stall=self._stall, leases=self._leases)

    def start(self) -> None:
        """Begin to hold leases and to keep the house; the jobs come from Celery. Main thread only."""
        _hear_stop_signals(self._signals.put)
        threading.Thread(target=self._stop_in_order, name="stopping", daemon=True).start()
        self._keepers = [
            self._thread("heartbeat", self._leases.run, self._stop_beating),
            self._thread("leases", self._leases.watch, self._stop_beating),
            self._thread("sweeper", self._parts.sweeper.run, self._stop_beating),
            self._thread("cleaner", self._parts.sweeper.run_cleaning, self._stop_beating),
            self._thread("presence", self._presence.run, self._stop_beating),
            # Celery's transport gives it nothing: it works only while Celery itself is deaf.
            self._thread("direct", self._new_slot(Slot).run, self._stop_claiming),
        ]
        if self._parts.courier is not None:
            couriers = Couriers(self._parts.courier)
            self._keepers.append(self._thread("couriers", couriers.run, self._stop_claiming))
        emit("worker.started", worker_id=self._worker_id, pid=os.getpid())

    def run_job(self, job_id: str) -> None:
        """
        Claim this job and run it; one that cannot be claimed is somebody else's, or over.

        Raises AttemptFailedError and Ignore, as TaskSlot says.
        """
        self._stall.heard()
        with self._threads.one_busy(), self._engines.borrow() as engine:
            self._slot.follow(Hint(job_id), engine, self._stop_claiming)

    def _stop_in_order(self) -> None:
        """Celery itself waits for its threads: here it is seen to that they end in time."""
        self._signals.get()
        self._stop_claiming.set()
        emit("worker.stopping", worker_id=self._worker_id)
        with suppress(queue.Empty):
            self._signals.get(timeout=STOP_GRACE_SECONDS)
        ends_at = time.monotonic() + HAND_BACK_SECONDS
        # More than once: a job may have been claimed a moment ago, or be between two steps.
        while time.monotonic() < ends_at and not self._stop_beating.wait(HAND_BACK_TICK_SECONDS):
            self._leases.end_all(Ending.STOPPED)
        self._leases.release_all()

    def close(self) -> None:
        """Take leave, when no task runs any more."""
        self._stop_claiming.set()
        self._stop_beating.set()
        for keeper in self._keepers:
            keeper.join(HAND_BACK_SECONDS)
        self._engines.close()
        self._parts.close()
        emit("worker.stopped", worker_id=self._worker_id)

    def _thread(
        self, name: str, target: Callable[[threading.Event], None], stop: threading.Event
    ) -> threading.Thread:
        def run() -> None:
            try:
                target(stop)
            except BaseException as error:
                # A worker that lost a thread is not a worker: it ends, for whoever started it to start anew.
                emit("worker.thread.died", name=name, error=f"{type(error).__name__}: {error}")
                os.kill(os.getpid(), signal.SIGTERM)
                raise

        thread = threading.Thread(target=run, name=name, daemon=True)
        thread.start()
        return thread


_stations: list[Station] = []
"""The one of this process, from when Celery starts a worker in it."""


def run_job(job_id: str) -> None:
    """
    Run one attempt at a job, in a Celery worker.

    Raises AttemptFailedError or Ignore: Celery's worker does not survive every error of a task.
    """
    try:
        _stations[-1].run_job(job_id)
    except (AttemptFailedError, Ignore):
        raise
    except BaseException as error:  # noqa: BLE001 - see above
        emit("task.failed", job_id=job_id, error=f"{type(error).__name__}: {error}")
        raise AttemptFailedError(f"Unforeseen {type(error).__name__}: {error}") from None


task = app.task(name=TASK, throws=(AttemptFailedError,))(run_job)


def _open(sender: Any, **_: Any) -> None:
    """Become a worker, or say why not and end: what is no SystemExit, Celery would log and go on."""
    try:
        _check_pool(sender.pool_cls)
        settings = load_settings(queue_backend="celery")
        log_events(json=settings.log_format == "json")
        # `--concurrency auto` becomes a number only later.
        threads = sender.concurrency if isinstance(sender.concurrency, int) else settings.workers
        worker_id = str(uuid.uuid4())
        station = Station(build_worker(settings, worker_id=worker_id), worker_id=worker_id, threads=threads)
        station.start()
    except ImageProcessorError as error:
        sys.exit(f"image-processor: {error}")
    except Exception as error:  # noqa: BLE001 - see above
        sys.exit(f"image-processor: unforeseen {type(error).__name__}: {error}")
    _stations.append(station)
    # Celery's cold shutdown sends no signal of its own.
    atexit.register(_close)


def _check_pool(given: Any) -> None:
    module = get_implementation(given).__module__
    if module != THREADS:
        raise ConfigurationError(
            f"This worker cannot run on the pool of {module}: its threads, its database connections and "
            "libvips do not survive a fork. Start it without `--pool`, or with `--pool threads`."
        )


def _close(**_: Any) -> None:
    while _stations:
        _stations.pop().close()


signals.worker_init.connect(_open)
signals.worker_shutdown.connect(_close)


def _hear_stop_signals(receive: Callable[[int], None]) -> None:
    """
    Call `receive` with each signal that stops Celery, beside what Celery does at it.

    Celery's main thread waits for its pool when it stops, and does not see a second signal then.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing)

    def deliver() -> None:
        while numbers := os.read(reading, 64):
            for number in numbers:
                if number in CELERY_STOPS:
                    receive(number)

    threading.Thread(target=deliver, name="signals", daemon=True).start()
