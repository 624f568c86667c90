"""What the database itself refuses, however the SQL comes about."""

import itertools

import pytest

from image_processor.errors import CorruptImageError, ImageProcessorError, StorageError
from image_processor.jobs import TRANSITIONS, EventType, Status
from integration.jobs.job_samples import some_facts

WAITS = "lease_until = null, worker_id = null, reason = null, completed_at = null, processed_paths = null"
CONSISTENT = {
    Status.PENDING: WAITS,
    Status.RETRYING: WAITS,
    Status.PROCESSING: WAITS.replace(
        "lease_until = null, worker_id = null", "lease_until = 1, worker_id = 'w'"
    ),
    Status.COMPLETED: WAITS.replace(
        "completed_at = null, processed_paths = null", "completed_at = '2', processed_paths = '{}'"
    ),
    Status.FAILED: WAITS.replace(
        "reason = null, completed_at = null", "reason = 'expired', completed_at = '2'"
    ),
}
"""The columns that the checks want with each status, so that only the transition can be refused."""


def a_job_that_is(room, status):
    claim = room.claim()
    ends = {
        Status.PENDING: room.jobs.release,
        Status.PROCESSING: lambda claim: None,
        Status.RETRYING: lambda claim: room.jobs.snooze(claim, 60),
        Status.COMPLETED: lambda claim: room.jobs.complete(claim, some_facts()),
        Status.FAILED: lambda claim: room.jobs.fail(claim, CorruptImageError("Truncated.")),
    }
    ends[status](claim)
    assert room.job_row(claim.job_id)["status"] == status
    return claim.job_id


@pytest.mark.parametrize(("old", "new"), list(itertools.permutations(Status, 2)))
def test_the_trigger_agrees_with_the_table_of_transitions(room, old, new):
    job_id = a_job_that_is(room, old)
    bump = ", claim_seq = claim_seq + 1" if new is Status.PROCESSING else ""
    change = f"update processing_jobs set status = '{new}', {CONSISTENT[new]}{bump} where job_id = :id"
    if (old, new) in TRANSITIONS:
        room.execute(change, id=job_id)
        assert room.job_row(job_id)["status"] == new
    else:
        with pytest.raises(ImageProcessorError, match="illegal job transition"):
            room.execute(change, id=job_id)
        assert room.job_row(job_id)["status"] == old


@pytest.mark.parametrize(
    ("status", "change"),
    [
        (Status.PENDING, "status = 'waiting'"),
        (Status.PENDING, "reason = 'expired'"),
        (Status.PENDING, "lease_until = 1"),
        (Status.PENDING, "completed_at = '2'"),
        (Status.PENDING, "priority = 3"),
        (Status.PENDING, "attempt_count = -1"),
        (Status.PENDING, "claim_seq = claim_seq + 1"),
        (Status.PENDING, "claim_seq = claim_seq - 1"),
        (Status.PENDING, "image_id = 'nobody'"),
        (Status.PENDING, "status = 'processing', lease_until = 1, worker_id = 'w'"),
        (Status.PENDING, "status = 'processing', claim_seq = claim_seq + 1, worker_id = 'w'"),
        (Status.PROCESSING, "lease_until = null"),
        (Status.PROCESSING, "worker_id = null"),
        (Status.FAILED, "reason = null"),
        (Status.FAILED, "reason = 'bored'"),
        (Status.COMPLETED, "processed_paths = null"),
    ],
)
def test_a_row_that_contradicts_itself_is_refused(room, status, change):
    job_id = a_job_that_is(room, status)
    before = room.job_row(job_id)
    with pytest.raises(ImageProcessorError, match="refused a statement"):
        room.execute(f"update processing_jobs set {change} where job_id = :id", id=job_id)
    assert room.job_row(job_id) == before


def test_a_job_can_only_be_born_pending(room):
    job_id = a_job_that_is(room, Status.FAILED)
    columns = ", ".join(room.job_row(job_id))
    copied = columns.replace("job_id", "'twin'", 1)
    with pytest.raises(ImageProcessorError, match="begins as pending"):
        room.execute(f"insert into processing_jobs ({columns}) select {copied} from processing_jobs")


def test_no_way_of_writing_a_status_escapes_the_audit(room):
    job_id = room.submit().job_id
    room.execute(
        f"update processing_jobs set status = 'failed', {CONSISTENT[Status.FAILED]} where job_id = :id",
        id=job_id,
    )
    last = room.jobs.events(job_id)[-1]
    assert (last.event_type, last.metadata["reason"]) == (EventType.FAILED, "expired")


def test_every_type_of_event_is_written(room):
    claim = room.claim(max_retries=0)
    room.jobs.release(claim)
    claim = room.jobs.claim("w", 60)
    room.jobs.snooze(claim, 0)
    claim = room.jobs.claim("w", 60)
    room.jobs.fail(claim, StorageError("The storage answered wrongly."))
    room.replay(claim.job_id)
    claim = room.jobs.claim("w", 60)
    room.jobs.complete(claim, some_facts())
    room.images.delete(claim.image_id, "ada")
    cancelled = room.claim()
    room.jobs.cancel(cancelled.job_id, "ada")
    events = room.jobs.events(claim.job_id) + room.jobs.events(cancelled.job_id)
    assert {event.event_type for event in events} == set(EventType)
    assert {event.image_id for event in events} == {claim.image_id, cancelled.image_id}
    assert len({event.id for event in events}) == len(events)
