"""Progress of running jobs and the states of many, on both databases."""

from dataclasses import fields

import pytest
from sqlalchemy import event

from image_processor.jobs import Database, JobRepository, RecoveryRepository, RetryPolicy
from image_processor.jobs.progress import ProgressRepository
from image_processor.jobs.states import Reason, Status
from image_processor.jobs.values import Fence
from integration.jobs.job_samples import UNLIMITED, an_upload, some_facts


class Bench:
    """A database with jobs that are claimed."""

    def __init__(self, database):
        self.database = database
        self.jobs = JobRepository(database)
        self.recovery = RecoveryRepository(database, policy=RetryPolicy(delays_seconds=(0.0,)))
        self.progress = ProgressRepository(database)

    def submit(self, **fields):
        return self.jobs.submit(an_upload(**fields), UNLIMITED)

    def claim(self, job_id=None):
        claim = self.jobs.claim("worker-1", 60.0, job_id or self.submit().job_id)
        assert claim is not None
        return claim

    def state(self, job):
        return self.progress.states([job.job_id])[job.job_id]

    def seen(self, job):
        state = self.state(job)
        return state.status, state.progress, state.step


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def bench(request, tmp_path):
    where = tmp_path / "jobs.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    database = Database.open(where)
    database.migrate()
    yield Bench(database)
    database.close()


def test_a_running_job_says_how_far_it_is(bench):
    claim = bench.claim()
    assert bench.seen(claim) == (Status.PROCESSING, 0, None)
    for percent in (20, 35):
        bench.progress.note(claim, percent, "render")
        assert bench.seen(claim) == (Status.PROCESSING, percent, "render")
    assert bench.jobs.job(claim.job_id, "ada").progress == 35


def test_within_a_claim_progress_never_falls(bench):
    claim = bench.claim()
    bench.progress.note(claim, 50, "store")
    bench.progress.note(claim, 20, "render")
    assert bench.seen(claim) == (Status.PROCESSING, 50, "store")


def test_a_new_claim_begins_anew_and_the_old_one_is_not_heard(bench):
    old = bench.claim()
    bench.progress.note(old, 80, "store")
    bench.jobs.release(old)
    new = bench.claim(old.job_id)
    assert bench.seen(new) == (Status.PROCESSING, 0, None)
    bench.progress.note(old, 90, "commit")
    assert bench.seen(new) == (Status.PROCESSING, 0, None)
    bench.progress.note(new, 10, "render")
    bench.progress.note(old, 95, "commit")
    assert bench.seen(new) == (Status.PROCESSING, 10, "render")


def test_nothing_is_noted_of_a_job_that_nobody_works_on_or_that_is_not_there(bench):
    claim = bench.claim()
    bench.jobs.release(claim)
    bench.progress.note(claim, 80, "store")
    bench.progress.note(Fence(job_id="gone", claim_seq=1), 80, "store")
    with bench.database.read() as connection:
        assert connection.exec_driver_sql("select count(*) from job_progress").scalar_one() == 0


def test_a_completed_job_is_whole_and_says_where_its_variants_are(bench):
    claim = bench.claim()
    bench.progress.note(claim, 80, "store")
    assert bench.jobs.complete(claim, some_facts())
    state = bench.state(claim)
    assert (state.status, state.progress, state.is_live) == (Status.COMPLETED, 100, False)
    assert state.paths == {"thumbnail": "holiday/processed/thumbnail/1_thumbnail.webp"}
    assert state.completed_at


def test_the_state_tells_what_the_job_tells(bench):
    waiting, cancelled = bench.submit(), bench.submit()
    bench.jobs.cancel(cancelled.job_id, "ada")
    for receipt in (waiting, cancelled):
        job, state = bench.jobs.job(receipt.job_id, "ada"), bench.state(receipt)
        names = {field.name for field in fields(job)} & {field.name for field in fields(state)}
        assert len(names) == 14
        assert {name: getattr(state, name) for name in names} == {name: getattr(job, name) for name in names}
    assert bench.state(cancelled).reason is Reason.CANCELLED


def test_many_jobs_are_one_query_and_those_that_are_not_there_are_left_out(bench):
    receipts = [bench.submit() for _ in range(30)]
    foreign = bench.submit(user_id="bob")
    asked = [*(receipt.job_id for receipt in receipts), foreign.job_id, "gone", "nul\x01"]
    statements = []

    def count(*arguments):
        statements.extend(sql for sql in [arguments[2]] if "select" in sql)

    event.listen(bench.database._engine, "before_cursor_execute", count)
    assert set(bench.progress.states(asked)) == {*(receipt.job_id for receipt in receipts), foreign.job_id}
    assert len(statements) == 1
    assert set(bench.progress.states(asked, "bob")) == {foreign.job_id}
    assert bench.progress.states([]) == {}


def test_a_job_whose_image_is_deleted_is_not_there(bench):
    receipt = bench.submit()
    with bench.database.write() as connection:
        connection.exec_driver_sql("update images set deleted_at = '2026-01-01T00:00:00.000Z'")
    assert bench.progress.states([receipt.job_id]) == {}
