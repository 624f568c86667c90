"""One slot: claim a job, run it, and again. Each slot has an engine of its own."""

import threading
from collections.abc import Callable
from dataclasses import dataclass

from image_processor.engine.base import Engine
from image_processor.errors import ImageProcessorError
from image_processor.jobs.repository import JobRepository
from image_processor.runner import Attempt, Runner
from image_processor.telemetry import emit
from image_processor.transports.base import Transport
from image_processor.worker.heartbeat import LeaseKeeper

RECOVERY_SECONDS = 1.0
"""How long a slot waits after the database could not be asked."""


@dataclass(frozen=True, kw_only=True)
class Slot:
    """Works one job at a time until told to stop; its steps can be called without a thread."""

    worker_id: str
    jobs: JobRepository
    transport: Transport
    runner: Runner
    leases: LeaseKeeper
    new_engine: Callable[[], Engine]
    lease_seconds: float
    poll_seconds: float

    def run(self, stop: threading.Event) -> None:
        """Work until told to stop; the engine lives as long as this call, on this thread."""
        engine = self.new_engine()
        try:
            while not stop.is_set():
                if not self._work_if_due(engine, stop):
                    self.transport.receive(self.poll_seconds)
        finally:
            engine.close()

    def work_once(self, engine: Engine) -> bool:
        """Claim and run the best due job; False when there was none."""
        claim = self.jobs.claim(self.worker_id, lease_seconds=self.lease_seconds)
        if claim is None:
            return False
        attempt = Attempt(claim, engine)
        self.leases.add(attempt)
        try:
            self.runner.run(attempt)
        finally:
            self.leases.remove(attempt)
        return True

    def _work_if_due(self, engine: Engine, stop: threading.Event) -> bool:
        try:
            return self.work_once(engine)
        except ImageProcessorError as error:
            emit("slot.failed", error=str(error))
            stop.wait(RECOVERY_SECONDS)
            return False
