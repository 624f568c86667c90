"""Processes whose clock is an hour ahead, and a database whose clock jumps: the leases are none of theirs."""

import time
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest

from image_processor.jobs import Lease, recovery
from image_processor.jobs.clock import read_clock
from image_processor.maintenance import Sweeper
from image_processor.maintenance import sweeper as sweeping
from image_processor.pipeline import Limits
from image_processor.storage.local import LocalStorage
from image_processor.storage.memory import MemoryStorage
from integration.test_worker import WorkerProcess, wait_until
from integration.workshop import PICTURE, WEB, Workshop

FAULTS = str(Path(__file__).with_name("faults"))
HOUR = 3600.0
LEASE_SECONDS = 3.0


@pytest.fixture
def disk(tmp_path):
    with closing(Workshop(tmp_path, LocalStorage(tmp_path / "storage"))) as shop:
        yield shop


@pytest.fixture
def start_worker(tmp_path):
    started = []

    def start(gate, **environment):
        environment |= {"PYTHONPATH": FAULTS, "LEASE_SECONDS": str(LEASE_SECONDS)}
        started.append(WorkerProcess(tmp_path, tmp_path / gate, **environment))
        return started[-1]

    yield start
    for worker in started:
        worker.close()


@pytest.mark.slow
def test_a_worker_an_hour_ahead_takes_nothing_from_others_and_does_its_own(disk, start_worker):
    usual = start_worker("usual-gate")
    running = disk.submit()
    wait_until(lambda: disk.job_row(running.job_id)["status"] == "processing")
    in_the_making = disk.stage.open(WEB.accepts, Limits())
    in_the_making.write(PICTURE[:1000])
    wait_until(lambda: list(disk.scratch.iterdir()))
    folders = list(disk.scratch.iterdir())
    half_written = disk.folder / "storage" / ".incoming" / "half-written"
    half_written.write_bytes(b"...")

    (disk.folder / "ahead-gate").touch()
    ahead = start_worker("ahead-gate", CLOCK_AHEAD=str(HOUR + 60))
    ahead.wait_for("worker.started")
    started = time.monotonic()
    own = disk.submit()
    ahead.wait_for("job.completed")
    wait_until(lambda: time.monotonic() - started > 1.3 * LEASE_SECONDS)  # so that its gate was open

    row = disk.job_row(running.job_id)
    assert (row["status"], row["claim_seq"], row["crash_count"]) == ("processing", 1, 0)
    assert disk.job_row(own.job_id)["status"] == "completed"
    assert half_written.exists()
    assert list(disk.scratch.iterdir()) == folders, "its files are as old as their file system says"
    in_the_making.write(PICTURE[1000:])
    assert disk.stage.path(in_the_making.finish().name).read_bytes() == PICTURE
    (disk.folder / "usual-gate").touch()
    usual.wait_for("job.completed")
    row = disk.job_row(running.job_id)
    assert (row["status"], row["attempt_count"]) == ("completed", 1)
    assert "job.recovered" not in ahead.logged()


@pytest.fixture
def clock(monkeypatch):
    """This machine's clocks, moved by hand."""
    clocks = SimpleNamespace(running=1000.0, wall=1_800_000_000.0)
    read = SimpleNamespace(monotonic=lambda: clocks.running, time=lambda: clocks.wall)
    monkeypatch.setattr(sweeping, "time", read)
    return clocks


@pytest.mark.parametrize("whose", ["the sweeper's machine", "the database's machine"])
def test_a_clock_that_jumps_an_hour_has_nobody_reaped(tmp_path, clock, whose, monkeypatch):
    """All leases have ended, at once, and nobody has died."""
    lease = 30.0
    with closing(Workshop(tmp_path, MemoryStorage())) as shop:
        sweeper = Sweeper(shop.house(lease_seconds=lease))
        attempts = [shop.attempt() for _ in range(5)]

        def tick(seconds):
            clock.running += seconds
            clock.wall += seconds
            sweeper.tick()

        for _ in range(40):
            tick(1.0)
        shop.execute(f"update processing_jobs set lease_until = lease_until - {HOUR}")
        if whose == "the sweeper's machine":
            clock.wall += HOUR
        else:
            monkeypatch.setattr(recovery, "read_clock", lambda connection: read_clock(connection) + HOUR)
        tick(1.0)
        for attempt in attempts:
            assert shop.jobs.heartbeat(attempt.claim, lease) is Lease.HELD
        for _ in range(2):
            tick(1.0)
        assert [shop.outcome(attempt) for attempt in attempts] == [("processing", None, 1)] * 5
