"""How the service starts its worker process, and what it does at once when that dies."""

import os
import sys
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from image_processor.errors import ImageProcessorError
from image_processor.jobs.recovery import RecoveryRepository
from image_processor.jobs.workers import WorkerRepository
from image_processor.telemetry import emit
from image_processor.transports.base import Transport

CELERY_WORKER = "celery -A image_processor.transports.celery_app worker"
"""What starts them where the workers are Celery's."""


@dataclass(kw_only=True)
class WorkerCommand:
    """Starts a worker under a fresh id; when it dies, its jobs and its hints go back without any waiting."""

    recovery: RecoveryRepository
    workers: WorkerRepository
    transport: Transport
    _worker_id: str = field(default="", init=False)

    def command(self) -> Sequence[str]:
        """The command line of the next worker process."""
        self._worker_id = str(uuid.uuid4())
        return [
            sys.executable,
            *("-m", "image_processor.worker"),
            *("--worker-id", self._worker_id),
            *("--parent", str(os.getpid())),
        ]

    def hand_back(self) -> None:
        """Take back, from the worker that died, what it would otherwise hold until it counts as silent."""
        steps: tuple[Callable[[str], object], ...] = (
            self.recovery.reap_worker,
            self.workers.forget,
            self._reclaim,
        )
        for step in steps:
            try:
                step(self._worker_id)
            except ImageProcessorError as error:  # the sweepers of the living do it later
                emit("worker.reap.failed", error=str(error))

    def _reclaim(self, worker_id: str) -> None:
        if not self.transport.is_polling:
            self.transport.reclaim(set(self.workers.living()) - {worker_id})
