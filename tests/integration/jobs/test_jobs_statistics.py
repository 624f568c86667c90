import time

import pytest

from image_processor.errors import CorruptImageError, StorageError
from image_processor.jobs import Status, WorkerRepository
from image_processor.jobs.clock import to_iso
from integration.jobs.job_samples import some_facts


def test_an_empty_service(room):
    numbers = room.statistics.statistics()
    assert numbers.status_breakdown == dict.fromkeys(Status, 0)
    assert (numbers.completed_24h, numbers.avg_processing_time_seconds) == (0, None)
    assert (numbers.total_images, numbers.total_jobs) == (0, 0)


def test_the_numbers(room):
    for seconds, hours in ((4, 1), (8, 23), (100, 25)):
        claim = room.claim()
        room.jobs.complete(claim, some_facts())
        ended = time.time() - hours * 3600
        room.execute(
            "update processing_jobs set completed_at = :ended, started_at = :began where job_id = :id",
            ended=to_iso(ended),
            began=to_iso(ended - seconds),
            id=claim.job_id,
        )
    room.jobs.fail(room.claim(), CorruptImageError("Truncated."))
    room.jobs.snooze(room.claim(), 60)
    room.submit()
    room.submit(user_id="bob")
    numbers = room.statistics.statistics()
    assert numbers.status_breakdown == {
        Status.PENDING: 2,
        Status.PROCESSING: 0,
        Status.RETRYING: 1,
        Status.COMPLETED: 3,
        Status.FAILED: 1,
    }
    assert numbers.completed_24h == 2
    assert numbers.avg_processing_time_seconds == pytest.approx(6, abs=0.01)
    assert (numbers.total_images, numbers.total_jobs) == (3, 7)


def test_failed_jobs_of_a_user_the_latest_first(room):
    errors = (CorruptImageError("Truncated."), StorageError("It failed."))
    claims = [room.claim(max_retries=0) for _ in errors]
    for place, (claim, error) in enumerate(zip(claims, errors, strict=True)):
        room.jobs.fail(claim, error)
        room.execute(
            "update processing_jobs set completed_at = :at where job_id = :id", at=str(place), id=claim.job_id
        )
    room.jobs.cancel(room.submit().job_id, "ada")
    failed = room.listing.failed("ada", limit=10).jobs
    assert [(job.error, job.error_code) for job in failed] == [
        ("It failed.", "storage_error"),
        ("Truncated.", "corrupt_image"),
    ]
    assert room.listing.failed("ada", limit=1).jobs == failed[:1]
    assert room.listing.failed("bob", limit=10).jobs == []
    room.images.delete(claims[0].image_id, "ada")
    assert room.listing.failed("ada", limit=10).jobs == failed[:1]


def test_active_workers_are_those_that_were_heard_of_within_a_minute(room):
    workers = WorkerRepository(room.database)
    for worker_id in ("a", "a", "b", "stopped", "silent"):
        workers.report(worker_id, slots=2)
    workers.forget("stopped")
    room.execute("update workers set seen_at = seen_at - 61 where worker_id = 'silent'")
    assert room.statistics.active_workers() == 2
    assert workers.living() == {"a", "b"}
    assert workers.living(seconds=120.0) == {"a", "b", "silent"}


def test_stalled_workers_are_those_that_are_alive_and_say_so(room):
    workers = WorkerRepository(room.database)
    for worker_id in ("recovered", "deaf", "silent"):
        workers.report(worker_id, 2, 1_700_000_000.0)
    workers.report("recovered", 2)
    workers.report("fine", 2)
    room.execute("update workers set seen_at = seen_at - 61 where worker_id = 'silent'")
    assert workers.stalled() == 1


def test_workers_that_are_silent_for_a_day_are_forgotten_with_the_next_one(room):
    workers = WorkerRepository(room.database)
    for worker_id in ("a", "silent"):
        workers.report(worker_id, slots=2)
    room.execute("update workers set seen_at = seen_at - 86401 where worker_id = 'silent'")
    workers.forget("nobody")
    assert room.row("select * from workers")["worker_id"] == "a"
