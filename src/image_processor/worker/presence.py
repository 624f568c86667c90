"""That this worker process is alive, for the health pages. Leases do not depend on it."""

import threading
from dataclasses import dataclass

from image_processor.errors import ImageProcessorError
from image_processor.jobs.workers import WorkerRepository
from image_processor.telemetry import emit
from image_processor.worker.stall import StallDetector

REPORT_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class Presence:
    """The signs of life of one worker process."""

    workers: WorkerRepository
    worker_id: str
    slots: int
    stall: StallDetector

    def run(self, stop: threading.Event) -> None:
        """Report until told to stop, and then take leave; a report that fails is missed, and no more."""
        while True:
            try:
                self.workers.report(self.worker_id, self.slots, stalled_since=self.stall.stalled_since)
                if stop.wait(REPORT_SECONDS):
                    self.workers.forget(self.worker_id)
                    return
            except ImageProcessorError as error:
                emit("worker.report.failed", error=str(error))
                if stop.wait(REPORT_SECONDS):
                    return
