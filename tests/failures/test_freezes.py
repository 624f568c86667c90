"""A database server that stands still for longer than a lease, and goes on where it was: nobody is dead."""

import signal
import threading
from contextlib import ExitStack, closing

import psutil
import pytest

from image_processor.jobs import Database
from image_processor.maintenance import Sweeper
from image_processor.maintenance import sweeper as sweeping
from image_processor.runner import Attempt
from image_processor.testing.fake_engine import FakeEngine
from image_processor.worker.heartbeat import LeaseKeeper
from integration.workshop import Workshop, in_thread
from postgres_server import PostgresServer

pytestmark = pytest.mark.slow

LEASE_SECONDS = 1.5
FREEZE_SECONDS = 2.5
JOBS = 30


@pytest.fixture
def server():
    with closing(PostgresServer(fsync=False)) as server:
        yield server.start()


@pytest.fixture
def shop(server, tmp_path, monkeypatch):
    url = server.new_database()
    monkeypatch.setattr("integration.workshop.Database.open", lambda _path, **_: _opened(url))
    with closing(Workshop(tmp_path, None)) as shop:
        yield shop


_open = Database.open


def _opened(url):
    return _open(url)


def freeze(server):
    """Every process of the server stops; the kernel still takes what is sent to it."""
    processes = [psutil.Process(server.pid), *psutil.Process(server.pid).children()]
    for process in processes:
        process.send_signal(signal.SIGSTOP)
    return lambda: [process.send_signal(signal.SIGCONT) for process in reversed(processes)]


def test_a_server_that_was_frozen_has_nobody_reaped(shop, server, monkeypatch):
    monkeypatch.setattr(sweeping, "MAX_PAUSE_SECONDS", 1.0)
    monkeypatch.setattr(sweeping, "TICK_SECONDS", 0.05)
    leases = LeaseKeeper(shop.jobs, lease_seconds=LEASE_SECONDS)
    for _ in range(JOBS):
        shop.submit()
        leases.add(Attempt(shop.claim(LEASE_SECONDS), FakeEngine()))
    stop = threading.Event()
    with ExitStack() as threads:
        threads.callback(stop.set)
        threads.enter_context(in_thread(leases.run, stop))
        threads.enter_context(in_thread(Sweeper(shop.house(lease_seconds=LEASE_SECONDS)).run, stop))
        stop.wait(1.5 * LEASE_SECONDS)  # the gate is open now
        thaw = freeze(server)
        stop.wait(FREEZE_SECONDS)
        thaw()
        stop.wait(1.5 * LEASE_SECONDS)
        stop.set()
    with shop.database.read() as connection:
        sql = "select status, crash_count, count(*) from processing_jobs group by 1, 2"
        assert connection.exec_driver_sql(sql).all() == [("processing", 0, JOBS)]
