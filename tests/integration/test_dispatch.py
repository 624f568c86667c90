"""Which jobs a transport is told of: the statements by themselves, and from many sweepers at once."""

import subprocess
import sys
import threading
from collections import Counter
from itertools import chain

import pytest
from sqlalchemy import text

from image_processor.jobs import Database, JobRepository, Priority
from image_processor.jobs import dispatch as sql
from image_processor.jobs.dispatch import LOST_SECONDS, DispatchRepository
from image_processor.jobs.workers import WorkerRepository
from integration.jobs.job_samples import UNLIMITED, an_upload
from integration.workshop import PATIENCE_SECONDS
from migrated import put_migrated

TABLES = ("processing_jobs", "images", "image_upload_events", "workers", "transport_epochs")


class Desk:
    """The dispatch repository on one database, with what a test wants beside it."""

    def __init__(self, where):
        self.where = where
        self.database = Database.open(where)
        self.database.migrate()
        self.jobs = JobRepository(self.database)
        self.dispatch = DispatchRepository(self.database)

    def submit(self, **fields):
        return self.jobs.submit(an_upload(**fields), UNLIMITED).job_id

    def submit_unheard(self, **fields):
        """A job whose hint did not leave."""
        job_id = self.submit(**fields)
        self.dispatch.put_back([job_id])
        return job_id

    def execute(self, statement, **parameters):
        with self.database.write() as connection:
            return connection.execute(text(statement), parameters)

    def row(self, job_id):
        with self.database.read() as connection:
            rows = connection.execute(
                text("select * from processing_jobs where job_id = :id"), {"id": job_id}
            )
            return dict(rows.mappings().one())

    def is_dispatched(self, job_id):
        return self.row(job_id)["dispatched_at"] is not None

    def taken(self, limit=100):
        return [job.job_id for job in self.dispatch.take(limit)]


@pytest.fixture(scope="module")
def migrated_url(postgres):
    """One database for all tests, each of which leaves it empty: quicker than a new one."""
    url = postgres.new_database()
    yield url
    postgres.drop_database(url)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def desk(request, tmp_path):
    is_file = request.param == "sqlite"
    desk = Desk(
        put_migrated(tmp_path / "processor.db") if is_file else request.getfixturevalue("migrated_url")
    )
    yield desk
    for table in () if is_file else TABLES:
        desk.execute(f"delete from {table}")
    desk.database.close()


class TestTake:
    def test_gives_what_no_transport_knows_of_and_once(self, desk):
        job_id = desk.submit_unheard()
        (job,) = desk.dispatch.take(10)
        assert (job.job_id, job.priority) == (job_id, Priority.NORMAL)
        assert desk.row(job_id)["dispatch_count"] == 1
        assert desk.taken() == []

    def test_leaves_what_was_published_at_submit(self, desk):
        desk.submit()
        assert desk.taken() == []

    def test_best_first_and_no_more_than_asked_for(self, desk):
        low, high, normal = (
            desk.submit_unheard(priority=priority)
            for priority in (Priority.LOW, Priority.HIGH, Priority.NORMAL)
        )
        assert desk.taken(0) == []
        assert desk.taken(2) == [high, normal]
        assert desk.taken(2) == [low]

    def test_leaves_what_is_not_due_and_what_is_over(self, desk):
        later, expired, running, cancelled = (desk.submit_unheard() for _ in range(4))
        desk.execute("update processing_jobs set run_at = run_at + 60 where job_id = :id", id=later)
        desk.execute("update processing_jobs set expires_at = 0 where job_id = :id", id=expired)
        assert desk.jobs.claim("worker-1", 60, running)
        desk.jobs.cancel(cancelled, "ada")
        assert desk.taken() == []

    def test_a_retry_is_dispatched_anew(self, desk):
        job_id = desk.submit()
        claim = desk.jobs.claim("worker-1", 60, job_id)
        desk.jobs.release(claim)
        assert desk.taken() == [job_id]
        assert desk.row(job_id)["dispatch_count"] == 2


class TestPutBack:
    def test_the_job_is_taken_again_and_the_failed_try_does_not_count(self, desk):
        job_id = desk.submit_unheard()
        for _ in range(3):
            assert desk.taken() == [job_id]
            desk.dispatch.put_back([job_id])
        assert desk.row(job_id)["dispatch_count"] == 0

    def test_leaves_jobs_that_do_not_wait_any_more_and_ids_of_none(self, desk):
        job_id = desk.submit()
        assert desk.jobs.claim("worker-1", 60, job_id)
        desk.dispatch.put_back([job_id, "no such job"])
        desk.dispatch.put_back([])
        assert desk.is_dispatched(job_id)


class TestEpoch:
    def test_a_first_start_has_nothing_to_lose(self, desk):
        assert desk.dispatch.note_epoch("redis", "one") is False
        assert desk.dispatch.note_epoch("redis", "one") is False

    def test_a_change_has_everything_that_waits_dispatched_again(self, desk):
        desk.dispatch.note_epoch("redis", "one")
        waiting, running = desk.submit(), desk.submit()
        assert desk.jobs.claim("worker-1", 60, running)
        assert desk.dispatch.note_epoch("redis", "two") is True
        assert desk.dispatch.forget_outlived() == 1
        assert desk.taken() == [waiting]
        assert desk.is_dispatched(running)
        assert desk.dispatch.note_epoch("redis", "two") is False

    def test_what_was_hinted_before_the_first_sweeper_came_is_not_hinted_twice(self, desk):
        desk.submit()
        assert desk.dispatch.note_epoch("redis", "one") is False
        assert desk.dispatch.forget_outlived() == 0
        assert desk.taken() == []

    def test_a_long_queue_is_forgotten_bit_by_bit_and_nothing_of_the_new_life(self, desk, monkeypatch):
        monkeypatch.setattr(sql, "FORGET_BATCH", 2)
        desk.dispatch.note_epoch("redis", "one")
        before = [desk.submit() for _ in range(5)]
        assert desk.dispatch.note_epoch("redis", "two")
        desk.execute("update transport_epochs set began_at = began_at + 60")
        assert desk.dispatch.forget_outlived() == 2
        taken = desk.taken()
        desk.execute(
            "update processing_jobs set dispatched_at = dispatched_at + 120 where dispatch_count = 2"
        )
        assert [desk.dispatch.forget_outlived() for _ in range(3)] == [2, 1, 0]
        assert sorted(taken + desk.taken()) == sorted(before)

    def test_so_does_every_change_of_the_transport(self, desk):
        for transport in ("redis", "celery", "redis"):
            desk.dispatch.note_epoch(transport, "the same all the time")
            assert not desk.dispatch.note_epoch(transport, "the same all the time")
            desk.submit()
        assert desk.dispatch.note_epoch("celery", "the same all the time")
        assert desk.dispatch.forget_outlived() == 3
        assert len(desk.taken()) == 3

    def test_of_many_sweepers_one_sees_the_change(self, desk):
        desk.dispatch.note_epoch("redis", "one")
        desk.submit()
        assert in_parallel(lambda: desk.dispatch.note_epoch("redis", "two"), 8).count(True) == 1


class TestLostHints:
    def age(self, desk, job_id, seconds, count=1):
        desk.execute(
            "update processing_jobs set dispatched_at = dispatched_at - :seconds, dispatch_count = :count "
            "where job_id = :id",
            seconds=seconds,
            count=count,
            id=job_id,
        )

    def test_a_hint_is_given_its_time(self, desk):
        job_id = desk.submit()
        self.age(desk, job_id, 2 * LOST_SECONDS - 5)
        assert desk.dispatch.forget_lost() == 0
        self.age(desk, job_id, 10)
        assert desk.dispatch.forget_lost() == 1
        assert desk.taken() == [job_id]

    @pytest.mark.parametrize(("count", "doublings"), [(2, 2), (5, 5), (6, 6), (40, 6), (100_000, 6)])
    def test_the_next_hint_is_given_twice_as_much_up_to_a_bound(self, desk, count, doublings):
        job_id = desk.submit()
        self.age(desk, job_id, LOST_SECONDS * 2**doublings - 5, count)
        assert desk.dispatch.forget_lost() == 0
        self.age(desk, job_id, 10, count)
        assert desk.dispatch.forget_lost() == 1

    def test_leaves_a_job_that_runs(self, desk):
        job_id = desk.submit()
        assert desk.jobs.claim("worker-1", 60, job_id)
        self.age(desk, job_id, 100 * LOST_SECONDS)
        assert desk.dispatch.forget_lost() == 0

    def test_where_others_wait_it_is_lost_once_a_later_one_is_worked_on(self, desk):
        lost, later = desk.submit(), desk.submit()
        self.age(desk, lost, 10 * LOST_SECONDS)
        self.age(desk, later, 8 * LOST_SECONDS)
        assert desk.dispatch.forget_lost(is_idle=False) == 0
        assert desk.jobs.claim("worker-1", 60, later)
        assert desk.dispatch.forget_lost(is_idle=False) == 1
        assert desk.taken() == [lost]

    @pytest.mark.parametrize(("priority", "is_lost"), [("HIGH", 0), ("NORMAL", 1), ("LOW", 1)])
    def test_a_better_one_may_overtake(self, desk, priority, is_lost):
        lost, later = desk.submit(), desk.submit(priority=Priority[priority])
        self.age(desk, lost, 10 * LOST_SECONDS)
        assert desk.jobs.claim("worker-1", 60, later)
        assert desk.dispatch.forget_lost(is_idle=False) == is_lost


class TestAnyDue:
    def test_a_job_that_has_waited_for_so_long(self, desk):
        assert not desk.dispatch.any_due(0)
        job_id = desk.submit()
        assert not desk.dispatch.any_due(5)
        desk.execute("update processing_jobs set run_at = run_at - 6")
        assert desk.dispatch.any_due(5)
        assert desk.jobs.claim("worker-1", 60, job_id)
        assert not desk.dispatch.any_due(5)


def test_the_slots_of_workers_that_are_alive(desk):
    workers = WorkerRepository(desk.database)
    assert desk.dispatch.slots() == 0
    for number in range(3):
        workers.report(f"worker-{number}", 4)
    desk.execute("update workers set seen_at = seen_at - 3600 where worker_id = 'worker-1'")
    assert desk.dispatch.slots() == 8


def in_parallel(work, threads):
    """What `work` gives on each of so many threads, begun together."""
    barrier, given = threading.Barrier(threads), []

    def run():
        barrier.wait(PATIENCE_SECONDS)
        given.append(work())

    running = [threading.Thread(target=run) for _ in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join(PATIENCE_SECONDS)
    assert len(given) == threads
    return given


def take_all(dispatch):
    taken = []
    while jobs := dispatch.take(7):
        taken += [job.job_id for job in jobs]
    return taken


def test_threads_never_take_a_job_twice(desk):
    submitted = [desk.submit_unheard() for _ in range(60)]
    taken = in_parallel(lambda: take_all(desk.dispatch), 4)
    assert Counter(chain.from_iterable(taken)) == Counter(submitted)


TAKER = """
import sys
from pathlib import Path
from image_processor.jobs import Database
from image_processor.jobs.dispatch import DispatchRepository
where = sys.argv[1]
dispatch = DispatchRepository(Database.open(where if "://" in where else Path(where)))
print("ready", flush=True)
sys.stdin.readline()
while jobs := dispatch.take(7):
    print(*(job.job_id for job in jobs), sep="\\n", flush=True)
"""


@pytest.mark.slow
def test_processes_never_take_a_job_twice(desk):
    submitted = [desk.submit_unheard() for _ in range(100)]
    takers = [
        subprocess.Popen(
            [sys.executable, "-c", TAKER, str(desk.where)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for taker in takers:
        assert taker.stdout.readline() == "ready\n"
    for taker in takers:
        taker.stdin.write("go\n")
        taker.stdin.flush()
    taken = [taker.communicate(timeout=PATIENCE_SECONDS)[0].split() for taker in takers]
    assert Counter(chain.from_iterable(taken)) == Counter(submitted)


@pytest.mark.parametrize(
    ("statement", "index"),
    [
        (sql.ANY_UNDISPATCHED, "jobs_undispatched"),
        (sql.TAKE, "jobs_undispatched"),
        (sql.ANY_DUE, "jobs_due"),
        (sql.ANY_LOST, "jobs_dispatched"),
        (sql.FORGET_LOST, "jobs_dispatched"),
        (sql.ANY_OUTLIVED, "jobs_dispatched"),
        (sql.FORGET_OUTLIVED, "jobs_dispatched"),
    ],
)
def test_plans_use_the_indexes_of_what_waits(tmp_path, statement, index):
    desk = Desk(tmp_path / "processor.db")
    compiled = statement.compile(desk.database._engine)
    parameters = [1 for _ in compiled.positiontup or compiled.params]
    with desk.database.read() as connection:
        rows = connection.exec_driver_sql(f"explain query plan {compiled}", tuple(parameters)).all()
    desk.database.close()
    details = [row[-1] for row in rows]
    assert any(f"INDEX {index}" in detail for detail in details), details
    assert not [detail for detail in details if detail == "SCAN processing_jobs"], details
