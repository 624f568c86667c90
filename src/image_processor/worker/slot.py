"""One slot: hear of a job or look for one, claim it, run it, and again. Each has an engine of its own."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Self

from image_processor.bootstrap import WorkerParts
from image_processor.engine.base import Engine
from image_processor.errors import ImageProcessorError, UnavailableError
from image_processor.jobs.dispatch import DispatchRepository
from image_processor.jobs.repository import JobRepository
from image_processor.jobs.values import Claim
from image_processor.runner import Attempt, Runner
from image_processor.telemetry import emit
from image_processor.transports.base import Hint, Transport
from image_processor.worker.heartbeat import LeaseKeeper
from image_processor.worker.stall import StallDetector

RECOVERY_SECONDS = 1.0
"""How long a slot waits after the database could not be asked."""
LISTEN_SECONDS = 1.0
"""How long a slot listens for a hint at a time: a worker that is told to stop waits for that."""


@dataclass(frozen=True, kw_only=True)
class Slot:
    """Works one job at a time until told to stop; its steps can be called without a thread."""

    worker_id: str
    jobs: JobRepository
    dispatch: DispatchRepository
    transport: Transport
    stall: StallDetector
    """Shared by the slots of a process."""
    runner: Runner
    leases: LeaseKeeper
    new_engine: Callable[[], Engine]
    lease_seconds: float
    poll_seconds: float
    check_room: Callable[[], None] = lambda: None
    """Raises StorageFullError while this machine could not work: the jobs are left to others."""

    @classmethod
    def of(cls, parts: WorkerParts, *, worker_id: str, stall: StallDetector, leases: LeaseKeeper) -> Self:
        """A slot of the process that has these parts."""
        return cls(
            worker_id=worker_id,
            jobs=parts.jobs,
            dispatch=parts.dispatch,
            transport=parts.transport,
            stall=stall,
            runner=parts.runner,
            leases=leases,
            new_engine=parts.new_engine,
            lease_seconds=parts.settings.lease_seconds,
            poll_seconds=parts.settings.poll_seconds,
            check_room=parts.check_room,
        )

    def run(self, stop: threading.Event) -> None:
        """Work until told to stop; the engine lives as long as this call, on this thread."""
        take_turn = self.poll if self.transport.is_polling else self.listen
        with closing(self.new_engine()) as engine:
            while not stop.is_set():
                try:
                    self.check_room()
                    take_turn(engine, stop)
                except ImageProcessorError as error:
                    emit("slot.failed", error=str(error))
                    stop.wait(RECOVERY_SECONDS)

    def poll(self, engine: Engine, _stop: threading.Event) -> None:
        """Run the best due job; where there is none, wait for the next look or a hint of this process."""
        if not self.work_once(engine):
            self.transport.receive(self.poll_seconds)

    def listen(self, engine: Engine, stop: threading.Event) -> None:
        """Run the job of the next hint; where none comes, and one should have come, the best due job."""
        if hint := self._hear(stop):
            self.follow(hint, engine, stop)
        elif not stop.is_set() and self.stall.may_claim_directly() and (claim := self._claim()):
            self.stall.claimed_directly()
            self._run(claim, engine)

    def work_once(self, engine: Engine) -> bool:
        """Claim and run the best due job; False when there was none."""
        claim = self._claim()
        if claim is not None:
            self._run(claim, engine)
        return claim is not None

    def follow(self, hint: Hint, engine: Engine, stop: threading.Event) -> None:
        """Run the job of a hint if it is due; told to stop before it could be claimed, pass it on."""
        while not stop.is_set():
            try:
                claim = self._claim(hint.job_id)
            except UnavailableError as error:
                emit("slot.failed", error=str(error), job_id=hint.job_id)
                stop.wait(RECOVERY_SECONDS)
                continue
            except ImageProcessorError as error:  # not an id that any job could have
                emit("hint.refused", error=str(error))
                claim = None
            return self._run_hinted(claim, hint, engine)
        return self._pass_on(hint)

    def _run_hinted(self, claim: Claim | None, hint: Hint, engine: Engine) -> None:
        try:
            if claim is not None:
                self._run(claim, engine)
        finally:
            hint.acknowledge()

    def _pass_on(self, hint: Hint) -> None:
        try:
            self.dispatch.put_back([hint.job_id])
        except ImageProcessorError as error:  # it stays unacknowledged: a sweeper reclaims it
            emit("hint.kept", job_id=hint.job_id, error=str(error))
        else:
            hint.acknowledge()

    def _hear(self, stop: threading.Event) -> Hint | None:
        seconds = self.poll_seconds if self.stall.is_stalled else LISTEN_SECONDS
        started = time.monotonic()
        hint = self.transport.receive(seconds)
        if hint is not None:
            self.stall.heard()
        elif (left := started + seconds - time.monotonic()) > 0:
            stop.wait(left)  # a broker that cannot be reached may answer at once
        return hint

    def _claim(self, job_id: str | None = None) -> Claim | None:
        return self.jobs.claim(self.worker_id, lease_seconds=self.lease_seconds, job_id=job_id)

    def _run(self, claim: Claim, engine: Engine) -> None:
        with self._engine_for(claim, engine) as trusted:
            attempt = Attempt(claim, trusted)
            self.leases.add(attempt)
            try:
                self.runner.run(attempt)
            finally:
                self.leases.remove(attempt)

    @contextmanager
    def _engine_for(self, claim: Claim, engine: Engine) -> Iterator[Engine]:
        """The slot's own; for a job whose attempts have died before, one that no other job uses."""
        if claim.history.crash_count == 0:
            yield engine
            return
        with closing(self.new_engine()) as fresh:
            yield fresh
