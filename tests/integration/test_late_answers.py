"""The reaper does not believe in what it is told late: who waited for the database was not alone in that."""

import threading
from contextlib import ExitStack, closing, contextmanager
from types import SimpleNamespace

import pytest

from image_processor.jobs import Database
from image_processor.jobs.recovery import RecoveryRepository
from image_processor.maintenance import ReaperGate, Sweeper
from image_processor.maintenance import sweeper as sweeping
from image_processor.storage.memory import MemoryStorage
from integration.workshop import PATIENCE_SECONDS, Workshop, in_thread

LEASE_SECONDS = 30.0


class Clock:
    """The clocks of the sweeper, moved by hand."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now

    def time(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(sweeping, "time", SimpleNamespace(monotonic=clock.monotonic, time=clock.time))
    return clock


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request, tmp_path, monkeypatch):
    """The path or the URL of the database that a workshop in the test's folder opens."""
    if request.param == "sqlite":
        return tmp_path / "processor.db"
    url, open_database = request.getfixturevalue("postgres_url"), Database.open
    monkeypatch.setattr("integration.workshop.Database.open", lambda _path, **_: open_database(url))
    return url


@pytest.fixture
def shop(where, tmp_path):
    with closing(Workshop(tmp_path, MemoryStorage())) as shop:
        yield shop


@contextmanager
def everything_locked(where):
    """A stranger's transaction that everybody else waits for."""
    with closing(Database.open(where)) as stranger, stranger.write() as connection:
        if not stranger.has_one_writer:
            connection.exec_driver_sql("lock table processing_jobs in access exclusive mode")
        yield connection


def opened(gate, clock):
    for _ in range(int(LEASE_SECONDS)):
        clock.now += 1.0
        gate.is_open()
    assert gate.is_open()


class Overheard(RecoveryRepository):
    """Says when it is asked to reap."""

    def __init__(self, database):
        super().__init__(database)
        self.was_asked = threading.Event()

    def reap(self, *given, **named):
        self.was_asked.set()
        return super().reap(*given, **named)


@pytest.mark.parametrize(("seconds", "is_believed"), [(LEASE_SECONDS / 3 + 1, False), (2.0, True)])
def test_leases_that_end_while_the_reaper_waits_are_believed_where_it_waits_shortly(
    shop, where, clock, seconds, is_believed
):
    recovery = Overheard(shop.database)
    sweeper = Sweeper(shop.house(recovery=recovery, lease_seconds=LEASE_SECONDS))
    attempt = shop.attempt()
    opened(sweeper._gate, clock)
    reaped = []
    with ExitStack() as reaping, everything_locked(where) as stranger:
        reaping.enter_context(in_thread(lambda: reaped.append(sweeper.reap())))
        assert recovery.was_asked.wait(PATIENCE_SECONDS)
        clock.now += seconds
        stranger.exec_driver_sql("update processing_jobs set lease_until = 0 where lease_until is not null")
    assert reaped == [int(is_believed)]
    assert (shop.outcome(attempt)[0] == "processing") is not is_believed
    assert sweeper._gate.is_open() is is_believed


def test_any_late_answer_of_the_database_shuts_the_gate(clock):
    gate = ReaperGate(LEASE_SECONDS)
    opened(gate, clock)
    asked_at = clock.now
    clock.now += LEASE_SECONDS / 3
    gate.answered(asked_at)
    assert gate.is_open()
    clock.now += 0.1
    gate.answered(asked_at)
    assert not gate.is_open()
    opened(gate, clock)
