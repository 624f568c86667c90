"""Several processes on one database. None may see "database is locked", and none may get what another got."""

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from image_processor.errors import ImageProcessorError, StorageError
from image_processor.jobs import Database, Idempotency, Lease, RateLimit, Reason, Status
from integration.jobs.job_samples import an_upload, some_facts

CONTENDER = Path(__file__).with_name("contender.py")
PROCESSES = 4

pytestmark = pytest.mark.slow


def contend(role, path, processes=PROCESSES):
    """Start them, wait until each is ready, let all go at once; what each printed."""
    started = [
        subprocess.Popen(
            [sys.executable, CONTENDER, role, str(path), f"contender-{n}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for n in range(processes)
    ]
    for process in started:
        assert process.stdout.readline() == "ready\n"
    for process in started:
        process.stdin.write("go\n")
        process.stdin.flush()
    outcomes = [json.loads(process.communicate()[0]) for process in started]
    assert [process.returncode for process in started] == [0] * processes
    return outcomes


def test_each_of_four_hundred_jobs_is_claimed_exactly_once(room):
    submitted = sorted(room.submit().job_id for _ in range(400))
    claimed = contend("claim", room.where)
    assert sorted(job_id for mine in claimed for job_id in mine) == submitted
    assert sum(len(mine) > 0 for mine in claimed) > 1
    assert room.statistics.statistics().status_breakdown[Status.COMPLETED] == 400
    per_job = room.row(
        "select max(n) as n from (select count(*) as n from image_upload_events group by job_id) as counted"
    )
    assert per_job["n"] == 3
    assert room.database.damage() is None


def test_of_four_processes_exactly_as_many_uploads_pass_as_may(room):
    outcomes = [remaining for mine in contend("upload", room.where) for remaining in mine]
    assert outcomes.count(None) == PROCESSES * 30 - 57
    assert sorted(remaining for remaining in outcomes if remaining is not None) == list(range(57))
    assert room.counts()["processing_jobs"] == 57


def test_each_dead_lease_is_reaped_once_however_many_reap(room):
    for _ in range(60):
        room.claim(lease_seconds=-1)
    reaped = [job_id for mine in contend("reap", room.where) for job_id in mine]
    assert len(reaped) == len(set(reaped)) == 60
    assert room.row("select max(crash_count) as n from processing_jobs")["n"] == 1


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_several_processes_may_migrate_an_empty_database_at_once(kind, tmp_path, request):
    fresh = tmp_path / "fresh.db" if kind == "sqlite" else request.getfixturevalue("postgres_url")
    template = request.getfixturevalue({"sqlite": "migrated", "postgresql": "shared_url"}[kind])
    assert contend("migrate", fresh) == ["migrated"] * PROCESSES
    assert schema(fresh, kind) == schema(template, kind)


SCHEMAS = {
    "sqlite": "select type, name, sql from sqlite_master order by 1, 2",
    "postgresql": """
      select tablename, indexname, indexdef from pg_indexes where schemaname = 'public'
      union all select event_object_table, trigger_name, action_statement from information_schema.triggers
      union all select table_name, column_name, data_type from information_schema.columns
        where table_schema = 'public'
      order by 1, 2, 3""",
}


def schema(where, kind):
    database = Database.open(where)
    with database.read() as connection:
        rows = connection.exec_driver_sql(SCHEMAS[kind]).all()
    database.close()
    assert rows
    return rows


def at_once(*calls):
    """What each call gives, all begun at the same time; of one that raises, the error."""
    barrier, outcomes = threading.Barrier(len(calls)), [None] * len(calls)

    def run(place, call):
        barrier.wait()
        try:
            outcomes[place] = call()
        except ImageProcessorError as error:
            outcomes[place] = error

    threads = [threading.Thread(target=run, args=numbered) for numbered in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


ROUNDS = 40


def test_cancel_and_complete_race_and_exactly_one_wins(room):
    for _ in range(ROUNDS):
        claim = room.claim()
        won, _ = at_once(
            lambda claim=claim: room.jobs.complete(claim, some_facts()),
            lambda claim=claim: room.jobs.cancel(claim.job_id, "ada"),
        )
        if not won:  # cancelled before, or asked for in time: either way the worker has its answer
            room.jobs.end_cancelled(claim)
        job = room.jobs.job(claim.job_id, "ada")
        expected = (Status.COMPLETED, None) if won else (Status.FAILED, Reason.CANCELLED)
        assert (job.status, job.reason) == expected
        assert bool(room.images.image(claim.image_id, "ada").variants) is won


def test_cancel_reaches_a_job_that_is_claimed_or_handed_back_in_this_moment(room):
    for _ in range(ROUNDS):
        receipt = room.submit()
        claim, job = at_once(
            lambda: room.jobs.claim("w", 60),
            lambda job_id=receipt.job_id: room.jobs.cancel(job_id, "ada"),
        )
        assert job.status is Status.FAILED or job.cancel_requested
        if claim is not None:
            assert room.jobs.release(claim).reason is Reason.CANCELLED
        claim = room.claim()
        _, job = at_once(
            lambda claim=claim: room.jobs.release(claim),
            lambda claim=claim: room.jobs.cancel(claim.job_id, "ada"),
        )
        assert (job.status is Status.FAILED) or job.cancel_requested
        assert room.jobs.job(claim.job_id, "ada").reason is Reason.CANCELLED


def test_of_many_submits_with_one_dedupe_key_one_makes_the_job(room):
    for n in range(ROUNDS // 4):
        receipts = at_once(*[lambda n=n: room.submit(dedupe_key=f"key-{n}")] * 6)
        assert sorted(receipt.joined for receipt in receipts) == [False] + [True] * 5
        assert len({receipt.job_id for receipt in receipts}) == 1
    assert room.counts()["images"] == room.counts()["processing_jobs"] == ROUNDS // 4


def test_of_many_submits_with_one_idempotency_key_one_makes_the_job_and_takes_the_quota(room):
    limit = RateLimit(max_uploads=100, window_seconds=10 * 365 * 86_400)
    for n in range(ROUNDS // 4):
        key = Idempotency(key=f"key-{n}", fingerprint="same")
        receipts = at_once(*[lambda key=key: room.jobs.submit(an_upload(idempotency=key), limit)] * 6)
        assert sorted(receipt.replayed for receipt in receipts) == [False] + [True] * 5
        assert len({receipt.job_id for receipt in receipts}) == 1
    assert room.rate_limits.quota("ada", limit).remaining == 100 - ROUNDS // 4


def test_a_replay_and_a_twin_race_and_one_of_them_lives(room):
    for n in range(ROUNDS):
        dead = room.claim(max_retries=0, dedupe_key=f"key-{n}")
        room.jobs.fail(dead, StorageError("It failed."))
        replayed, receipt = at_once(
            lambda dead=dead: room.replay(dead.job_id), lambda n=n: room.submit(dedupe_key=f"key-{n}")
        )
        assert isinstance(replayed, bool)
        assert receipt.joined is replayed
        assert (receipt.job_id == dead.job_id) is replayed


def test_a_replay_and_a_delete_race_and_no_deleted_image_is_worked_on(room):
    for _ in range(ROUNDS):
        dead = room.claim(max_retries=0)
        room.jobs.fail(dead, StorageError("It failed."))
        at_once(
            lambda dead=dead: room.replay(dead.job_id),
            lambda dead=dead: room.images.delete(dead.image_id, "ada"),
        )
        assert room.job_row(dead.job_id)["status"] == Status.FAILED
        assert room.image_row(dead.image_id)["purge_after"] is not None


def test_a_replay_and_a_purge_race_and_what_is_replayed_is_not_purged(room):
    for _ in range(ROUNDS):
        dead = room.claim(max_retries=0)
        room.jobs.fail(dead, StorageError("It failed."))
        room.execute("update images set purge_after = 1 where purge_after is not null")
        replayed, purges = at_once(lambda dead=dead: room.replay(dead.job_id), room.images.purgeable)
        assert replayed is not any(purge.image_id == dead.image_id for purge in purges)
        room.images.mark_purged(dead.image_id)
        room.jobs.cancel(dead.job_id, "ada")


def test_a_replay_and_a_prune_race_and_what_is_replayed_is_kept(room):
    for _ in range(ROUNDS):
        dead = room.claim(max_retries=0)
        room.jobs.fail(dead, StorageError("It failed."))
        room.execute("update processing_jobs set completed_at = '2001' where completed_at is not null")
        room.execute("update images set purge_after = null")
        replayed, pruned = at_once(
            lambda dead=dead: room.replay(dead.job_id), lambda: room.recovery.prune(older_than_days=30)
        )
        assert (replayed, pruned) in {(True, 0), (False, 1)}
        assert (room.jobs.job(dead.job_id, "ada") is not None) is replayed
        if replayed:  # completed, so that no later round prunes it
            room.jobs.complete(room.jobs.claim("w", 60, dead.job_id), some_facts())


def test_a_heartbeat_and_the_reaper_race_and_one_of_them_has_the_job(room):
    for _ in range(ROUNDS):
        claim = room.claim(lease_seconds=-1)
        lease, reaped = at_once(lambda claim=claim: room.jobs.heartbeat(claim, 60), room.recovery.reap)
        assert (lease, len(reaped)) in {(Lease.HELD, 0), (Lease.LOST, 1)}
        room.jobs.complete(claim, some_facts())


def test_two_deletes_of_an_image_are_one(room):
    for _ in range(ROUNDS // 4):
        image_id = room.submit().image_id
        images = at_once(*[lambda image_id=image_id: room.images.delete(image_id, "ada")] * 4)
        assert sum(image is not None for image in images) == 1
