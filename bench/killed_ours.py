"""Image Processor itself with its default settings, as a system whose processes are killed."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import text

from bench.killing import wait_for
from image_processor.bootstrap import App, build_app
from image_processor.job_submission import read_request
from image_processor.jobs import EventType
from image_processor.maintenance.sweeper import TICK_SECONDS
from image_processor.settings import load_settings
from image_processor.testing import sample_images
from running_service import Service

USER = "bench"
OPERATIONS = [{"op": "convert", "format": "webp"}]
SIZE = (4200, 3000)
"""Of a picture that keeps one core busy for a good second."""
INTO_THE_WORK_SECONDS = 0.3
"""From the beginning of an attempt to the kill: its codec child is rendering then."""
JOB_SECONDS = 60.0
WORKER_OF_JOB = text("select worker_id from processing_jobs where job_id = :job_id")


@dataclass(frozen=True, kw_only=True)
class Stack:
    """What it runs on."""

    name: str
    environment: Mapping[str, str]


class _Ours:
    """What all the deployments have in common: a folder, a database, and jobs that are asked for in it."""

    def __init__(self, stack: Stack, killed: str) -> None:
        self.name = f"Image Processor, {stack.name}"
        self.killed = killed
        self.undisturbed: float | None = None
        """How long a job took that nobody disturbed, in seconds."""
        self._folder = Path(tempfile.mkdtemp(prefix="ours-"))
        self._jobs: list[str] = []
        picture = self._folder / "picture.jpg"
        picture.write_bytes(sample_images.photo(*SIZE))
        self._source = picture.as_uri()
        self._environment = {
            **stack.environment,
            "DATA_PATH": str(self._folder / "data"),
            "FILE_ROOTS": str(self._folder),
        }

    @cached_property
    def _app(self) -> App:
        overrides: dict[str, Any] = {key.lower(): value for key, value in self._environment.items()}
        return build_app(load_settings(**overrides, rate_limit_max_uploads=0))

    def _warm_up(self) -> None:
        self.submit()
        wait_for(lambda: self.completed() is not None, "the first job", JOB_SECONDS)
        done = self.completed()
        assert done is not None
        self.undisturbed = done - self.begun()[0]

    def submit(self) -> None:
        """Ask for one job, as `POST /jobs` does."""
        request = {"input": self._source, "operations": OPERATIONS, "metadata": {"number": len(self._jobs)}}
        job = self._app.submission.new_job(read_request(request), user_id=USER)
        self._jobs.append(self._app.service.submit_job(job).job_id)

    def begun(self) -> Sequence[float]:
        """When each attempt at the job began, in epoch seconds: the audit trail knows."""
        return self._times(EventType.PROCESSING_STARTED)

    def completed(self) -> float | None:
        """When the job was done, in epoch seconds."""
        return next(iter(self._times(EventType.COMPLETED)), None)

    def _times(self, kind: EventType) -> list[float]:
        events = self._app.jobs.events(self._jobs[-1])
        return [datetime.fromisoformat(e.created_at).timestamp() for e in events if e.event_type is kind]

    def _worker_id(self) -> str:
        """The worker that has the job."""
        with self._app.database.read() as connection:
            return str(connection.execute(WORKER_OF_JOB, {"job_id": self._jobs[-1]}).scalar_one())

    def is_over(self) -> bool:
        """Whether the job failed for good."""
        return self.state() == "failed"

    def state(self) -> str:
        """The job's status."""
        job = self._app.jobs.job(self._jobs[-1], USER)
        assert job is not None
        return str(job.status)

    def _close(self) -> None:
        self._app.close()
        shutil.rmtree(self._folder, ignore_errors=True)


class Served(_Ours):
    """`image-processor serve`, of which processes of one kind are killed: `codec` or `worker`."""

    def __init__(self, stack: Stack, *, victim: str) -> None:
        word = {"codec": "codec child, in mid-render", "worker": "worker process under `serve`"}[victim]
        super().__init__(stack, word)
        self._victim = victim
        self._service = Service(
            self._folder, environment=self._environment, arguments=("--dev", "--port", "0")
        )

    def start(self) -> None:
        """Start it and have it do one job."""
        self._service.start()
        self._warm_up()

    def kill(self) -> None:
        """Those processes; the rest is left to the service."""
        time.sleep(INTO_THE_WORK_SECONDS)
        for process in self._service.processes(self._victim):
            process.kill()

    def stop(self) -> None:
        """End every process that is left."""
        self._service.stop()
        self._close()


class Workers(_Ours):
    """Worker processes that nobody watches, of which one is killed and started again at once."""

    def __init__(self, stack: Stack, *, count: int) -> None:
        rest = "another lives" if count > 1 else "it was the only one"
        super().__init__(stack, f"`image-processor worker`; started again at once, {rest}")
        self._count = count
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """Start them, and wait until those that live on believe in leases that have ended."""
        started = time.monotonic()
        for _ in range(self._count):
            self._start_worker()
        self._warm_up()
        if self._count > 1:
            lease = self._app.settings.lease_seconds
            time.sleep(max(0.0, started + lease + 3 * TICK_SECONDS - time.monotonic()))

    def _start_worker(self) -> None:
        worker_id = str(uuid.uuid4())
        with (self._folder / "log").open("ab") as log:
            self._processes[worker_id] = subprocess.Popen(
                [sys.executable, "-m", "image_processor.worker", "--worker-id", worker_id],
                env=os.environ | self._environment,
                stdout=log,
                stderr=log,
            )

    def kill(self) -> None:
        """The one that has the job."""
        time.sleep(INTO_THE_WORK_SECONDS)
        victim = self._processes[self._worker_id()]
        victim.kill()
        victim.wait()
        self._start_worker()

    def stop(self) -> None:
        """End every process that is left."""
        for worker in self._processes.values():
            if worker.poll() is None:
                for process in [*psutil.Process(worker.pid).children(recursive=True), worker]:
                    process.kill()
                worker.wait()
        self._close()
