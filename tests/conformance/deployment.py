"""One combination of database and transport as real processes, and what a test can do to them."""

import fcntl
import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import cache, cached_property
from itertools import count
from pathlib import Path
from typing import NamedTuple

import httpx
import psutil
import pytest

from fault_proxy import FaultProxy
from image_processor.bootstrap import open_database, open_transport
from image_processor.errors import UnavailableError
from image_processor.settings import Settings, load_settings
from image_processor.testing import sample_images
from running_service import Service, upload
from valkey_server import ValkeyServer

FAULTS = Path(__file__).with_name("faults")
OURS = ("-m", "image_processor", "worker")
CELERYS = ("-m", "celery", "-A", "image_processor.transports.celery_app", "worker", "--loglevel=warning")
SLOTS = 2
"""Of each worker process."""
WORKERS = 2
LEASE_SECONDS = 2
PATIENCE_SECONDS = 60.0
BEGINNING = ["upload_initiated", "processing_started"]
_pictures = count(300)


class Job(NamedTuple):
    status: str
    reason: str | None
    attempt_count: int
    crash_count: int
    claim_seq: int


class Worker(NamedTuple):
    worker_id: str
    process: psutil.Process

    def codecs(self) -> set[psutil.Process]:
        """Those of its codecs that wait at the gate: they have rendered, and not said so."""
        at_gate = _waiting_for_locks()
        return {child for child in self.process.children() if child.pid in at_gate}


@dataclass
class Deployment:
    """The API, two worker processes, and where there is a broker, a proxy before it that can fail."""

    name: str
    folder: Path
    transport: str
    database_url: str
    broker: ValkeyServer | None = None
    proxy: FaultProxy | None = None
    client: httpx.Client | None = None
    beside: list[subprocess.Popen] = field(default_factory=list)

    def __post_init__(self):
        self.gate, self.faults = self.folder / "gate", self.folder / "faults"
        self.gate.touch()
        self.faults.mkdir()
        self.roots = self.folder / "roots"
        self.roots.mkdir()
        own = {
            "GATE": str(self.gate),
            "FAULTS": str(self.faults),
            "PYTHONPATH": str(FAULTS),
            "QUEUE_BACKEND": self.transport,
            "LEASE_SECONDS": str(LEASE_SECONDS),
            "LOG_FORMAT": "json",
            "JOIN_DUPLICATES": "false",
            "FILE_ROOTS": str(self.roots),
            "WORKERS": str(SLOTS),
        }
        if self.database_url:
            own["DATABASE_URL"] = self.database_url
        self.service = Service(self.folder, own, ("--dev", "--port", "0"))

    def start(self) -> None:
        if self.proxy is not None:
            self.service.environment["REDIS_URL"] = f"redis://127.0.0.1:{self.proxy.port}/0"
        self.service.start()
        self.client = self.service.client()
        self.wait_for_workers()

    def stop(self) -> None:
        for worker in self.beside:
            worker.kill()
            worker.wait()
        self.service.stop()
        if self.client is not None:
            self.client.close()

    def mend(self) -> None:
        """Replace the workers that died, but for the one that the service replaces itself."""
        self.beside = [worker for worker in self.beside if worker.poll() is None]
        missing = WORKERS - len(self.beside) - (self.transport != "celery")
        for number in range(missing):
            self.beside.append(self._new_worker(number))

    def _new_worker(self, number: int) -> subprocess.Popen:
        name = f"--hostname=worker-{time.monotonic_ns()}-{number}@%h"
        command = (*CELERYS, name) if self.transport == "celery" else OURS
        with self._worker_log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, *command],
                cwd=self.folder,
                env=self.service.whole_environment,
                stdout=log,
                stderr=log,
            )

    @property
    def _worker_log(self) -> Path:
        return self.folder / "workers.log"

    def log(self) -> list[dict]:
        """What the workers have told, those of the service first."""
        beside = self._worker_log.read_text().splitlines() if self._worker_log.exists() else []
        return [_event(line) for line in (*self.service.log, *beside) if line.startswith("{")]

    def told(self, event: str, **fields: str) -> bool:
        return any(line["event"] == event and fields.items() <= line.items() for line in self.log())

    def workers(self) -> list[Worker]:
        """Those that live and have begun to work."""
        log = self.log()
        stopped = {line["worker_id"] for line in log if line["event"] == "worker.stopped"}
        return [
            Worker(line["worker_id"], psutil.Process(line["pid"]))
            for line in log
            if line["event"] == "worker.started"
            and line["worker_id"] not in stopped
            and _is_alive(line["pid"])
        ]

    def wait_for_workers(self) -> None:
        self.wait_for(self._have_workers, "both workers")

    def _have_workers(self) -> bool:
        self.mend()
        return len(self.workers()) == WORKERS

    def wait_for(self, is_so, what: str, seconds: float = PATIENCE_SECONDS) -> None:
        ends_at = time.monotonic() + seconds
        while not is_so():
            if time.monotonic() > ends_at:
                jobs = self.service.rows("select job_id, status, reason, last_error from processing_jobs")
                pytest.fail(f"waited {seconds} s for {what}; {jobs}; the log ends: {self.log()[-20:]}")
            time.sleep(0.02)

    @contextmanager
    def closed_gate(self) -> Iterator[None]:
        """No codec answers while the block lasts; those that have rendered wait."""
        with self.gate.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def fail_next(self, fault: str) -> None:
        (self.faults / fault).touch()

    def submit(self, **fields: str) -> str:
        """A picture that is like no other; gives the id of its job."""
        answer = upload(self.client, new_picture(), **fields)
        assert answer.status_code == 202, answer.text
        return answer.json()["job_id"]

    def occupy(self) -> list[str]:
        """As many jobs as there are slots, each in a codec that waits at the gate."""
        self.wait_for_workers()
        jobs = [self.submit() for _ in range(WORKERS * SLOTS)]
        self.wait_for_status("processing", *jobs)
        self.wait_for(
            lambda: sum(len(worker.codecs()) for worker in self.workers()) == len(jobs), "all the codecs"
        )
        return jobs

    def job(self, job_id: str) -> Job:
        return Job(
            *self.service.rows(
                "select status, reason, attempt_count, crash_count, claim_seq from processing_jobs"
                " where job_id = ?",
                job_id,
            )[0]
        )

    def value(self, column: str, job_id: str):
        return self.service.rows(f"select {column} from processing_jobs where job_id = ?", job_id)[0][0]

    def events(self, job_id: str) -> list[str]:
        order = "event_order" if self.database_url else "rowid"
        sql = f"select event_type from image_upload_events where job_id = ? order by {order}"
        return [event for (event,) in self.service.rows(sql, job_id)]

    def wait_for_status(self, status: str, *jobs: str) -> None:
        self.wait_for(
            lambda: all(self.job(job_id).status == status for job_id in jobs), f"{jobs} to be {status}"
        )

    def hurry(self, job_id: str) -> None:
        """Wait until the job is to be tried again, and let the time until then have passed."""
        self.wait_for_status("retrying", job_id)
        self.change(job_id, "run_at", 0)

    def change(self, job_id: str, column: str, value: object) -> None:
        """Write into a job's row, behind everybody's back."""
        self.service.execute(f"update processing_jobs set {column} = ? where job_id = ?", value, job_id)

    def worker_of(self, job_id: str) -> Worker:
        worker_id = self.value("worker_id", job_id)
        return next(worker for worker in self.workers() if worker.worker_id == worker_id)

    def assert_whole(self, *jobs: str) -> None:
        """Each completed once, every file is what its row says, and its original is gone."""
        for job_id in jobs:
            assert self.events(job_id).count("completed") == 1
            assert self.client.get(f"/api/v1/images/jobs/{job_id}/result").status_code == 200
            sql = "select variants from images where job_id = ?"
            variants = json.loads(self.service.rows(sql, job_id)[0][0])
            assert variants
            for variant in variants.values():
                content = (self.folder / "data" / "storage" / variant["key"]).read_bytes()
                assert hashlib.sha256(content).hexdigest() == variant["sha256"]
            staged = self.value("staging_path", job_id)
            self.wait_for(lambda staged=staged: staged not in self.service.staged(), "the original to go")

    @cached_property
    def settings(self) -> Settings:
        """Those of a stranger who speaks to the same database and, past the proxy, the same broker."""
        return load_settings(
            data_path=self.folder / "data",
            database_url=self.database_url,
            queue_backend=self.transport,
            redis_url=self.broker.url if self.broker else None,
        )

    @contextmanager
    def own_transport(self):
        with closing(open_transport(self.settings)) as transport:
            yield transport

    @contextmanager
    def own_database(self):
        with closing(open_database(self.settings)) as database:
            yield database

    def freeze(self, worker: Worker) -> None:
        """Stop a worker with its codecs, but not inside a transaction: its lock would be frozen with it."""
        for codec in worker.codecs():
            codec.suspend()
        with self.own_database() as database:
            while True:
                worker.process.suspend()
                self.wait_for(lambda: worker.process.status() == psutil.STATUS_STOPPED, "it to freeze")
                try:
                    with database.write():
                        return
                except UnavailableError:
                    worker.process.resume()


@cache
def _event(line: str) -> dict:
    """Read once, though it is looked at every 20 ms."""
    return json.loads(line)


def new_picture() -> bytes:
    return sample_images.photo(next(_pictures), 200)


def _waiting_for_locks() -> set[int]:
    """The processes that the kernel says wait for a lock on a file."""
    lines = (line.split() for line in Path("/proc/locks").read_text().splitlines())
    return {int(words[5]) for words in lines if words[1] == "->"}


def _is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
