"""Real Celery workers on a real Valkey and a real database: what they finish, and what they survive."""

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from sqlalchemy import text

from fault_proxy import FaultProxy, Mode
from image_processor.bootstrap import build_app
from image_processor.jobs.values import Priority
from image_processor.service import Submission
from image_processor.settings import load_settings
from image_processor.testing import sample_images
from valkey_server import free_port

TESTS = Path(__file__).parents[1]
REAL = "image_processor.transports.celery_app"
GATED = "integration.gated_celery"
PICTURE = sample_images.photo(320, 240)
PATIENCE_SECONDS = 60.0

pytestmark = pytest.mark.slow


def wait_until(is_so, what, log=lambda: ""):
    ends_at = time.monotonic() + PATIENCE_SECONDS
    while not (found := is_so()):
        if time.monotonic() > ends_at:
            pytest.fail(f"waited in vain for {what}; the log ends: {log()[-3000:]}")
        time.sleep(0.02)
    return found


class Site:
    """One database and one broker, and the Celery processes that share them."""

    def __init__(self, folder, redis_url, namespace):
        self.folder = folder
        self.settings = {
            "data_path": str(folder / "data"),
            "queue_backend": "celery",
            "redis_url": redis_url,
            "queue_namespace": namespace,
            "rate_limit_max_uploads": 0,
            "join_duplicates": "false",
            "workers": 1,
            "lease_seconds": 1.5,
        }
        self.gate, self.faults = folder / "gate", folder / "faults"
        self.processes = []
        self.app = build_app(load_settings(**self.settings))

    @property
    def log(self):
        return (self.folder / "celery.log").read_text()

    def celery(self, module, command, *arguments, **environment):
        own = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
        given = {name.upper(): str(value) for name, value in (self.settings | environment).items()}
        places = {"GATE": str(self.gate), "FAULTS": str(self.faults), "GRACE": "20", "HOME": str(self.folder)}
        with (self.folder / "celery.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", module, command, *arguments],
                cwd=self.folder,
                env=own | places | {"PYTHONPATH": str(TESTS)} | given,
                stdout=log,
                stderr=log,
            )
        self.processes.append(process)
        return process

    def worker(self, module, *arguments, **environment):
        return self.celery(module, "worker", "--loglevel=info", "--without-mingle", *arguments, **environment)

    def submit(self, priority=Priority.NORMAL):
        file = self.app.service.open_upload("ada")
        file.write(PICTURE)
        submission = Submission(user_id="ada", bucket="tests", priority=priority)
        return self.app.service.submit(file.finish(), submission).job_id

    def row(self, job_id):
        with self.app.database.read() as connection:
            sql = text("select * from processing_jobs where job_id = :job_id")
            return dict(connection.execute(sql, {"job_id": job_id}).mappings().one())

    def knows_the_broker(self):
        with self.app.database.read() as connection:
            return connection.execute(text("select epoch from transport_epochs")).first()

    def trail(self, job_id):
        return [str(event.event_type) for event in self.app.jobs.events(job_id)]

    def wait_for(self, status, *job_ids):
        def has_come():
            return all(self.row(job_id)["status"] == status for job_id in job_ids)

        wait_until(has_come, f"{job_ids} to be {status}", lambda: f"{self.log}{self.row(job_ids[0])}")

    def close(self):
        for process in self.processes:
            process.kill()
            process.wait()
        self.app.close()


@pytest.fixture
def site(tmp_path, redis_url, queue_namespace):
    with closing(Site(tmp_path, redis_url, queue_namespace)) as site:
        yield site


def tasks_of(url):
    try:
        answer = httpx.get(f"{url}/api/tasks", timeout=5)
    except httpx.TransportError:
        return None
    return answer.json() if answer.status_code == 200 else None


def test_jobs_complete_and_flower_shows_them(site):
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    flower = ("--address=127.0.0.1", f"--port={port}")
    site.celery(REAL, "flower", *flower, flower_unauthenticated_api="true")
    wait_until(lambda: tasks_of(url) is not None, "Flower", lambda: site.log)
    site.worker(REAL)
    fine, broken = site.submit(), site.submit()
    staged = site.app.settings.staging / site.row(broken)["staging_path"]
    staged.write_bytes(PICTURE[:2000])
    site.wait_for("completed", fine)
    site.wait_for("failed", broken)
    ends = {fine: "SUCCESS", broken: "FAILURE"}
    wait_until(
        lambda: {job_id: task["state"] for job_id, task in tasks_of(url).items()} == ends,
        "Flower to hear how they ended",
        lambda: f"{site.log} {tasks_of(url)}",
    )
    assert {task["name"] for task in tasks_of(url).values()} == {"image_processor.run_job"}
    heard = site.log.count(f"[{fine}] succeeded")
    site.app.transport.publish(fine, Priority.NORMAL)
    wait_until(lambda: site.log.count(f"[{fine}] succeeded") > heard, "the second hint", lambda: site.log)
    assert site.row(fine)["claim_seq"] == 1, "a duplicate of a hint does nothing"


def test_what_a_killed_worker_and_a_flushed_broker_leave_is_completed(site, valkey):
    running, waiting = site.submit(), site.submit()
    first = site.worker(GATED)
    site.wait_for("processing", running)
    wait_until(site.knows_the_broker, "a sweeper to have seen the broker's life")
    first.kill()
    valkey.flush()
    site.gate.touch()
    site.worker(GATED)
    site.wait_for("completed", running, waiting)
    assert (site.row(running)["crash_count"], site.row(waiting)["crash_count"]) == (1, 0)
    assert site.trail(waiting).count("completed") == 1


@pytest.mark.parametrize(("signals", "grace"), [(1, 0.2), (2, 1000)])
def test_a_stopped_worker_hands_its_job_back_and_refunds_the_attempt(site, signals, grace):
    job_id = site.submit()
    worker = site.worker(GATED, grace=grace)
    site.wait_for("processing", job_id)
    for _ in range(signals):
        worker.send_signal(signal.SIGTERM)
        wait_until(lambda: "worker.stopping" in site.log, "the worker to hear", lambda: site.log)
    assert worker.wait(PATIENCE_SECONDS) == 0
    row = site.row(job_id)
    assert (row["status"], row["attempt_count"], row["crash_count"]) == ("pending", 0, 0)
    assert "worker.stopped" in site.log


def test_so_does_one_whose_job_does_not_hear_that_it_should_end(site):
    job_id = site.submit()
    worker = site.worker(GATED, grace=0, hand_back=0.2, deaf=1)
    site.wait_for("processing", job_id)
    worker.send_signal(signal.SIGTERM)
    site.wait_for("pending", job_id)
    assert worker.poll() is None, "Celery waits for its threads"
    site.gate.touch()
    assert worker.wait(PATIENCE_SECONDS) == 0
    row = site.row(job_id)
    assert (row["status"], row["attempt_count"], row["crash_count"]) == ("pending", 0, 0)


def test_priorities_are_kept_and_a_memory_error_does_not_end_the_worker(site):
    site.faults.touch()
    low, high, normal = (site.submit(Priority[name]) for name in ("LOW", "HIGH", "NORMAL"))
    worker = site.worker(GATED)
    site.gate.touch()
    site.wait_for("completed", low, normal, high)
    received = re.findall(r"run_job\[([0-9a-f-]+)\] received", site.log)
    assert received[:3] == [high, normal, low]
    assert "Unforeseen MemoryError" in site.log
    assert (site.row(high)["crash_count"], site.row(normal)["claim_seq"]) == (1, 1)
    assert worker.poll() is None


def test_a_worker_whose_broker_has_fallen_silent_finds_its_jobs_in_the_database(site, valkey):
    site.gate.touch()
    with FaultProxy(valkey.port) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}/0"
        site.worker(GATED, redis_url=url, stall_seconds=1.5)
        site.wait_for("completed", site.submit())
        proxy.mode = Mode.BLACK_HOLE
        site.wait_for("completed", site.submit())
        wait_until(lambda: "transport.stalled" in site.log, "the event", lambda: site.log)
        proxy.mode = Mode.PASS
        proxy.reset_connections()
        wait_until(
            lambda: site.submit() and "transport.recovered" in site.log, "the recovery", lambda: site.log
        )


def test_a_pool_that_forks_is_refused(site):
    worker = site.worker(REAL, "--pool=processes")
    assert worker.wait(PATIENCE_SECONDS) == 1
    assert "Start it without `--pool`, or with `--pool threads`." in site.log
    assert "Traceback" not in site.log
