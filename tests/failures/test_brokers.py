"""Brokers that lose what they had handed out, or come back as they were before: the jobs do not notice."""

import os
import re
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text

from fault_proxy import FaultProxy, Mode
from image_processor.bootstrap import build_app
from image_processor.service import Submission
from image_processor.settings import load_settings
from image_processor.testing import sample_images
from integration.test_worker import wait_until
from valkey_server import valkey_server

pytestmark = pytest.mark.slow

PICTURE = sample_images.photo(320, 240)
OURS = ("-m", "image_processor", "worker")
CELERYS = ("-m", "celery", "-A", "image_processor.transports.celery_app", "worker", "--without-mingle")


class Site:
    """A database, a broker behind a proxy for the worker and without one for the API."""

    def __init__(self, folder, kind, broker, proxy):
        self.folder, self.kind, self.broker = folder, kind, broker
        shared = {
            "data_path": str(folder / "data"),
            "queue_backend": kind,
            "rate_limit_max_uploads": "0",
            "join_duplicates": "false",
            "workers": "1",
            "lease_seconds": "10",
            "log_format": "json",
        }
        self.app = build_app(load_settings(**shared, redis_url=broker.url))
        self._environment = {name.upper(): value for name, value in shared.items()} | {
            "REDIS_URL": f"redis://127.0.0.1:{proxy.port}/0",
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
        }
        self._workers = []

    def start_worker(self, **environment):
        with (self.folder / "log").open("ab") as log:
            command = [sys.executable, *(CELERYS if self.kind == "celery" else OURS)]
            worker = subprocess.Popen(
                command, cwd=self.folder, env=self._environment | environment, stdout=log, stderr=log
            )
        self._workers.append(worker)
        return worker

    @property
    def log(self):
        return (self.folder / "log").read_text()

    def submit(self):
        file = self.app.service.open_upload("ada")
        file.write(PICTURE)
        return self.app.service.submit(file.finish(), Submission(user_id="ada", bucket="tests")).job_id

    def row(self, job_id):
        with self.app.database.read() as connection:
            sql = text("select * from processing_jobs where job_id = :job_id")
            return connection.execute(sql, {"job_id": job_id}).mappings().one()

    def knows_its_broker(self):
        """Whether a sweeper has looked whose life the broker lives."""
        with self.app.database.read() as connection:
            return connection.exec_driver_sql("select 1 from transport_epochs").first() is not None

    def wait_for(self, *jobs):
        wait_until(lambda: all(self.row(job_id)["status"] == "completed" for job_id in jobs))

    def assert_done_once(self, *jobs):
        for job_id in jobs:
            row = self.row(job_id)
            assert (row["status"], row["claim_seq"], row["attempt_count"]) == ("completed", 1, 1)

    def close(self):
        for worker in self._workers:
            worker.kill()
            worker.wait()
        self.app.close()


@pytest.fixture(params=["redis", "celery"])
def site(request, tmp_path):
    with (
        valkey_server(tmp_path) as broker,
        FaultProxy(broker.port) as proxy,
        closing(Site(tmp_path, request.param, broker, proxy)) as site,
    ):
        site.proxy = proxy
        yield site


@pytest.mark.parametrize("site", ["celery"], indirect=True)
def test_a_hint_that_was_popped_and_lost_on_its_way_costs_no_job(site):
    """The connection ends in the middle of the answer; what the broker handed out, it has no more."""
    worker = site.start_worker(STALL_SECONDS="1")
    first = site.submit()
    site.wait_for(first)
    site.proxy.mode = Mode.HALF_REPLY
    lost = site.submit()
    wait_until(lambda: site.app.transport.depth() == 0)
    site.proxy.mode = Mode.PASS
    site.proxy.reset_connections()
    site.wait_for(lost)
    site.assert_done_once(first, lost)
    after = site.submit()
    site.wait_for(after)
    assert worker.poll() is None
    assert not re.search(r"vips", Path(f"/proc/{worker.pid}/maps").read_text()), "it does not survive a fork"


def test_a_broker_that_comes_back_with_an_old_dump_loses_no_job_and_repeats_none(site):
    old = site.submit()
    assert site.broker.command("SAVE").startswith(b"+OK")
    first = site.start_worker()
    site.wait_for(old)
    wait_until(site.knows_its_broker)
    first.kill()
    first.wait()
    new = [site.submit() for _ in range(3)]
    site.broker.restart()  # it knows of the old one, and not of the new ones
    wait_until(lambda: site.app.transport.depth() == 1)
    site.start_worker()
    site.wait_for(*new)
    wait_until(lambda: site.app.transport.depth() == 0)
    site.assert_done_once(old, *new)
    assert "transport.stalled" not in site.log, "they were dispatched anew, by the broker's new life"
