import pytest

from image_processor.errors import (
    CorruptImageError,
    EngineCrashedError,
    EngineTimeoutError,
    InvalidRequestError,
    StorageError,
    StorageFullError,
)
from image_processor.jobs import Database, Lease, Priority, Reason, RetryPolicy, Status
from image_processor.jobs.clock import read_clock
from image_processor.jobs.transitions import MAX_ERROR_LENGTH
from integration.jobs.job_samples import UNLIMITED, an_upload, some_facts

BROKEN_STORAGE = StorageError("The storage answered wrongly.")


def history_of(room, job_id):
    return [(event.event_type, event.metadata.get("attempt")) for event in room.jobs.events(job_id)]


def waiting(room, status):
    """A job that waits in this state."""
    if status == "pending":
        return room.submit().job_id
    claim = room.claim()
    room.jobs.snooze(claim, 3600)
    return claim.job_id


# T1


def test_submit_is_visible_to_its_user_only_and_to_another_connection(room):
    receipt = room.submit(metadata={"trip": "Lisbon", "emoji": "🏖", "deep": [1, {"a": None}]})
    other = Database.open(room.where)
    with other.read() as connection:
        rows = connection.exec_driver_sql("select status, storage_bucket from processing_jobs").all()
    other.close()
    assert rows == [("pending", "holiday")]
    job = room.jobs.job(receipt.job_id, "ada")
    assert (job.status, job.attempt_count, job.max_retries) == (Status.PENDING, 0, 3)
    assert job.metadata == {"trip": "Lisbon", "emoji": "🏖", "deep": [1, {"a": None}]}
    assert job.created_at == receipt.created_at
    assert job.created_at.endswith("Z")
    assert len(job.created_at) == len("2024-11-08T14:00:00.000Z")
    assert job.is_live
    assert room.jobs.job(receipt.job_id, "bob") is None
    assert history_of(room, receipt.job_id) == [("upload_initiated", 0)]


@pytest.mark.parametrize("metadata", [{"x": float("nan")}, {"x": object()}, {"x": b"bytes"}])
def test_submit_refuses_metadata_that_is_not_json_and_writes_nothing(room, metadata):
    with pytest.raises(InvalidRequestError, match="metadata"):
        room.submit(metadata=metadata)
    assert set(room.counts().values()) == {0}


def test_submit_refuses_text_that_cannot_be_stored_and_writes_nothing(room):
    with pytest.raises(InvalidRequestError, match="characters"):
        room.submit(user_id="\ud800")
    assert set(room.counts().values()) == {0}


def test_a_failure_in_the_middle_of_submit_leaves_nothing(room):
    receipt = room.submit()
    with pytest.raises(Exception, match="refused a statement"):
        room.jobs.submit(an_upload(job_id=receipt.job_id), UNLIMITED)
    assert room.counts()["images"] == 1


def test_the_same_dedupe_key_joins_the_live_job_of_the_same_user(room):
    first = room.submit(dedupe_key="k")
    again = room.submit(dedupe_key="k")
    assert (again.job_id, again.image_id, again.joined) == (first.job_id, first.image_id, True)
    assert not room.submit(dedupe_key="k", user_id="bob").joined
    assert not room.submit(dedupe_key="other").joined
    room.jobs.cancel(first.job_id, "ada")
    assert not room.submit(dedupe_key="k").joined


# T2


def test_claim_gives_all_that_the_runner_needs(room):
    upload = an_upload()
    room.jobs.submit(upload, UNLIMITED)
    claim = room.jobs.claim("worker-1", 60)
    assert (claim.job_id, claim.image_id, claim.user_id) == (upload.job_id, upload.image_id, "ada")
    assert (claim.claim_seq, claim.history.attempt, claim.worker_id) == (1, 1, "worker-1")
    assert claim.pipeline == upload.pipeline
    assert (claim.preset, claim.key_template, claim.bucket) == ("web", upload.key_template, "holiday")
    assert (claim.source_format, claim.source_bytes) == (upload.source_format, upload.source_bytes)
    assert (claim.sha256, claim.staging_path) == (upload.sha256, "staged.jpg")
    assert claim.metadata == {"trip": "Lisbon"}
    job = room.jobs.job(claim.job_id, "ada")
    assert (job.status, job.attempt_count) == (Status.PROCESSING, 1)
    assert job.started_at >= job.created_at
    assert history_of(room, claim.job_id) == [("upload_initiated", 0), ("processing_started", 1)]


def test_a_job_is_claimed_once(room):
    claim = room.claim()
    assert room.jobs.claim("worker-2", 60) is None
    assert room.jobs.claim("worker-2", 60, claim.job_id) is None


def test_claims_come_by_priority_then_by_age(room):
    submitted = [
        room.submit(priority=priority).job_id
        for priority in (Priority.LOW, Priority.NORMAL, Priority.NORMAL, Priority.HIGH)
    ]
    for age, job_id in zip((40, 30, 20, 10), submitted, strict=True):
        room.execute(
            "update processing_jobs set run_at = run_at - :age where job_id = :id", age=age, id=job_id
        )
    low, older, younger, high = submitted
    assert [room.jobs.claim("w", 60).job_id for _ in range(4)] == [high, older, younger, low]


def test_what_is_not_due_is_not_claimed(room):
    job_id = waiting(room, "retrying")
    assert room.jobs.claim("w", 60) is None
    assert room.jobs.claim("w", 60, job_id) is None


def test_what_is_expired_is_not_claimed(room):
    receipt = room.submit(ttl_seconds=-1)
    assert room.jobs.claim("w", 60) is None
    assert room.jobs.claim("w", 60, receipt.job_id) is None
    assert room.jobs.next_due_in() is None


def test_a_job_of_a_newer_version_is_left_for_a_newer_worker_and_blocks_nobody(room):
    strange = room.submit(priority=Priority.HIGH).job_id
    room.execute("update processing_jobs set pipeline = '{\"shaders\": []}' where job_id = :id", id=strange)
    plain = room.submit().job_id
    assert room.jobs.claim("w", 60).job_id == plain
    job = room.jobs.job(strange, "ada")
    assert (job.status, job.attempt_count, job.error_code) == (Status.RETRYING, 0, "unavailable")
    assert 25 < room.jobs.next_due_in() <= 30


# T3


def test_heartbeat_extends_the_lease(room):
    claim = room.claim(lease_seconds=-1)
    assert room.jobs.heartbeat(claim, 60) is Lease.HELD
    assert room.recovery.reap() == []


def test_heartbeat_brings_the_cancel(room):
    claim = room.claim()
    job = room.jobs.cancel(claim.job_id, "ada")
    assert (job.status, job.cancel_requested) == (Status.PROCESSING, True)
    assert room.jobs.heartbeat(claim, 60) is Lease.CANCEL_REQUESTED
    settlement = room.jobs.end_cancelled(claim)
    assert (settlement.status, settlement.reason) == (Status.FAILED, Reason.CANCELLED)
    assert room.jobs.heartbeat(claim, 60) is Lease.LOST


# T4


def test_complete_makes_job_and_image_agree(room):
    claim = room.claim()
    assert room.jobs.complete(claim, some_facts()) is True
    job = room.jobs.job(claim.job_id, "ada")
    assert (job.status, job.reason, job.error) == (Status.COMPLETED, None, None)
    assert job.completed_at >= job.started_at
    assert not job.is_live
    image = room.images.image(claim.image_id, "ada")
    assert (image.status, image.width, image.height) == (Status.COMPLETED, 3024, 4032)
    assert image.dominant_color == "#3A5F8C"
    assert image.variants == some_facts().variants
    row = room.job_row(claim.job_id)
    assert row["processed_paths"] == '{"thumbnail": "holiday/processed/thumbnail/1_thumbnail.webp"}'
    assert '"client": {"trip": "Lisbon"}' in row["processing_metadata"]
    assert '"dominant_color": "#3A5F8C"' in row["processing_metadata"]
    assert (row["lease_until"], row["worker_id"]) == (None, None)


def test_complete_forgets_the_errors_of_earlier_attempts(room):
    claim = room.claim()
    room.jobs.fail(claim, BROKEN_STORAGE)
    assert room.jobs.job(claim.job_id, "ada").error == "The storage answered wrongly."
    assert room.jobs.complete(room.jobs.claim("w", 60), some_facts())
    assert room.jobs.job(claim.job_id, "ada").error is None


def test_cancel_beats_complete(room):
    claim = room.claim()
    room.jobs.cancel(claim.job_id, "ada")
    assert room.jobs.complete(claim, some_facts()) is False
    job = room.jobs.job(claim.job_id, "ada")
    assert (job.status, job.reason, job.error) == (Status.FAILED, Reason.CANCELLED, "The job was cancelled.")
    assert room.images.image(claim.image_id, "ada").variants == {}


def test_complete_beats_a_cancel_that_comes_later(room):
    claim = room.claim()
    assert room.jobs.complete(claim, some_facts())
    assert room.jobs.cancel(claim.job_id, "ada").status is Status.COMPLETED
    assert room.images.image(claim.image_id, "ada").variants


# T5


def test_a_job_has_four_attempts_then_is_exhausted(room):
    job_id = room.submit().job_id
    settlements = [room.jobs.fail(room.jobs.claim("w", 60), BROKEN_STORAGE) for _ in range(4)]
    assert [s.status for s in settlements] == [Status.RETRYING] * 3 + [Status.FAILED]
    assert settlements[-1].reason is Reason.EXHAUSTED
    job = room.jobs.job(job_id, "ada")
    assert (job.attempt_count, job.error, job.error_code) == (4, BROKEN_STORAGE.message, "storage_error")
    assert room.jobs.claim("w", 60) is None
    attempts = [("processing_started", n) for n in (1, 2, 3, 4)]
    failures = [("retrying", 1), ("retrying", 2), ("retrying", 3), ("failed", 4)]
    told = [step for pair in zip(attempts, failures, strict=True) for step in pair]
    assert history_of(room, job_id) == [("upload_initiated", 0), *told]
    last = room.jobs.events(job_id)[-1].metadata
    assert last == {
        "old": "processing",
        "new": "failed",
        "attempt": 4,
        "claim_seq": 4,
        "reason": "exhausted",
        "error_code": "storage_error",
    }


def test_the_delays_are_one_five_and_twenty_five_seconds(room):
    room = type(room)(room.where, room.database, policy=RetryPolicy())
    job_id = room.submit().job_id
    for delay in (1, 5, 25):
        room.jobs.fail(room.jobs.claim("w", 60, job_id), BROKEN_STORAGE)
        assert delay - 1 < room.jobs.next_due_in() <= delay
        room.execute("update processing_jobs set run_at = 0")


def test_the_second_timeout_fails(room):
    job_id = room.submit().job_id
    first = room.jobs.fail(room.jobs.claim("w", 60), EngineTimeoutError("Too slow."))
    room.jobs.fail(room.jobs.claim("w", 60), BROKEN_STORAGE)
    second = room.jobs.fail(room.jobs.claim("w", 60), EngineTimeoutError("Too slow."))
    assert (first.status, second.status, second.reason) == (Status.RETRYING, Status.FAILED, Reason.EXHAUSTED)
    assert room.jobs.job(job_id, "ada").attempt_count == 3


def test_an_error_of_any_length_and_any_characters_is_kept(room):
    claim = room.claim()
    room.jobs.fail(claim, StorageError("\udcff\x00" + "x" * 10_000))
    assert len(room.jobs.job(claim.job_id, "ada").error) == MAX_ERROR_LENGTH


# T6


def test_a_rejected_job_is_not_tried_again(room):
    claim = room.claim()
    settlement = room.jobs.fail(claim, CorruptImageError("The image is truncated."))
    assert (settlement.status, settlement.reason) == (Status.FAILED, Reason.REJECTED)
    assert room.jobs.claim("w", 60) is None
    assert [job.job_id for job in room.listing.failed("ada", limit=10).jobs] == [claim.job_id]


# T7, T8


def test_snooze_refunds_the_attempt(room):
    claim = room.claim()
    settlement = room.jobs.snooze(claim, 3600)
    assert (settlement.status, settlement.attempt_count) == (Status.RETRYING, 0)
    assert 3590 < room.jobs.next_due_in() <= 3600


def test_an_outage_costs_no_attempt_however_long_it_is(room):
    job_id = room.submit().job_id
    for _ in range(10):
        settlement = room.jobs.fail(room.jobs.claim("w", 60, job_id), StorageFullError("The disk is full."))
        assert settlement.status is Status.RETRYING
        assert 59 < room.jobs.next_due_in() <= 60
        room.execute("update processing_jobs set run_at = 0")
    row = room.job_row(job_id)
    assert (row["attempt_count"], row["claim_seq"]) == (0, 10)


def test_release_refunds_the_attempt_and_is_due_at_once(room):
    claim = room.claim()
    settlement = room.jobs.release(claim)
    assert (settlement.status, settlement.attempt_count) == (Status.PENDING, 0)
    again = room.jobs.claim("worker-2", 60)
    assert (again.job_id, again.claim_seq, again.history.attempt) == (claim.job_id, 2, 1)
    assert [event for event, _ in history_of(room, claim.job_id)][2] == "released"


@pytest.mark.parametrize("way", ["fail", "snooze", "release", "crash", "reap"])
def test_cancel_beats_every_other_end(room, way):
    claim = room.claim(lease_seconds=-1)
    room.jobs.cancel(claim.job_id, "ada")
    ends = {
        "fail": lambda: room.jobs.fail(claim, BROKEN_STORAGE),
        "snooze": lambda: room.jobs.snooze(claim, 1),
        "release": lambda: room.jobs.release(claim),
        "crash": lambda: room.jobs.fail(claim, EngineCrashedError("It died.")),
        "reap": lambda: room.recovery.reap()[0],
    }
    settlement = ends[way]()
    assert (settlement.status, settlement.reason) == (Status.FAILED, Reason.CANCELLED)
    job = room.jobs.job(claim.job_id, "ada")
    assert (job.error, job.error_code) == ("The job was cancelled.", "cancelled")
    assert room.listing.failed("ada", limit=10).jobs == []


# T9


def test_a_lease_that_has_ended_is_reaped_and_charged_as_a_crash(room):
    dead, alive = room.claim(lease_seconds=-1), room.claim(lease_seconds=60)
    (settlement,) = room.recovery.reap()
    assert (settlement.job_id, settlement.status) == (dead.job_id, Status.RETRYING)
    job = room.jobs.job(dead.job_id, "ada")
    assert (job.attempt_count, job.crash_count, job.error_code) == (1, 1, "engine_crashed")
    assert room.jobs.job(alive.job_id, "ada").status is Status.PROCESSING
    assert room.recovery.reap() == []


def test_a_short_lease_ends_by_the_databases_clock(room):
    claim = room.claim(lease_seconds=0.5)
    ends = room.job_row(claim.job_id)["lease_until"]
    polls = 0
    while not (reaped := room.recovery.reap()):
        polls += 1
    with room.database.read() as connection:
        assert read_clock(connection) >= ends
    assert polls > 0
    assert reaped[0].job_id == claim.job_id


def test_reap_takes_the_longest_dead_first_and_no_more_than_asked(room):
    claims = [room.claim(lease_seconds=-n) for n in (1, 3, 2)]
    assert [s.job_id for s in room.recovery.reap(limit=2)] == [claims[1].job_id, claims[2].job_id]


def test_a_worker_known_to_be_dead_is_reaped_at_once(room):
    mine = {room.claim(worker_id="dead").job_id for _ in range(3)}
    room.claim(worker_id="alive")
    assert {s.job_id for s in room.recovery.reap_worker("dead")} == mine
    assert room.recovery.reap_worker("dead") == []


@pytest.mark.parametrize("way", ["reap", "fail"])
def test_the_third_crash_is_poison(room, way):
    job_id = room.submit().job_id
    for crash in (1, 2, 3):
        claim = room.jobs.claim("w", -1)
        assert claim.history.crash_count == crash - 1
        if way == "reap":
            (settlement,) = room.recovery.reap()
        else:
            settlement = room.jobs.fail(claim, EngineCrashedError("It died."))
    assert (settlement.status, settlement.reason) == (Status.FAILED, Reason.POISON)
    assert room.jobs.claim("w", 60) is None
    assert room.jobs.job(job_id, "ada").crash_count == 3


# T10


@pytest.mark.parametrize("status", ["pending", "retrying"])
def test_what_waits_too_long_expires(room, status):
    job_id = waiting(room, status)
    assert room.recovery.expire() == []
    room.execute("update processing_jobs set expires_at = 0, last_error = 'The disk is full.'")
    (settlement,) = room.recovery.expire()
    assert (settlement.status, settlement.reason) == (Status.FAILED, Reason.EXPIRED)
    error = "The job did not finish within its time to live. The disk is full."
    assert room.jobs.job(job_id, "ada").error == error


def test_a_running_job_does_not_expire(room):
    room.claim()
    room.execute("update processing_jobs set expires_at = 0")
    assert room.recovery.expire() == []


# T11


@pytest.mark.parametrize("status", ["pending", "retrying"])
def test_a_waiting_job_is_cancelled_at_once(room, status):
    job_id = waiting(room, status)
    assert room.jobs.cancel(job_id, "bob") is None
    job = room.jobs.cancel(job_id, "ada")
    assert (job.status, job.reason) == (Status.FAILED, Reason.CANCELLED)
    assert room.jobs.claim("w", 60) is None


def test_cancelling_twice_changes_nothing(room):
    claim = room.claim()
    room.jobs.cancel(claim.job_id, "ada")
    at = room.job_row(claim.job_id)["cancel_requested_at"]
    room.jobs.cancel(claim.job_id, "ada")
    assert room.job_row(claim.job_id)["cancel_requested_at"] == at
    assert [event for event, _ in history_of(room, claim.job_id)].count("cancel_requested") == 1
    room.jobs.end_cancelled(claim)
    assert room.jobs.cancel(claim.job_id, "ada").reason is Reason.CANCELLED


# T12


def test_replay_begins_anew_once(room):
    claim = room.claim(max_retries=0)
    room.jobs.fail(claim, BROKEN_STORAGE)
    assert room.replay(claim.job_id) is True
    assert room.replay(claim.job_id) is False
    job = room.jobs.job(claim.job_id, "ada")
    assert (job.status, job.reason, job.attempt_count) == (Status.PENDING, None, 0)
    assert (job.error, job.completed_at, job.started_at) == (None, None, None)
    again = room.jobs.claim("w", 60)
    assert (again.claim_seq, again.history.attempt) == (2, 1)
    assert room.jobs.complete(again, some_facts())
    assert room.image_row(claim.image_id)["purge_after"] is None
    assert "replayed" in [event for event, _ in history_of(room, claim.job_id)]


def test_a_job_that_has_not_failed_is_not_replayed(room):
    claim = room.claim()
    assert not room.replay(claim.job_id)
    room.jobs.complete(claim, some_facts())
    assert not room.replay(claim.job_id)
    assert not room.replay("no-such-job")


def test_a_cancelled_job_is_not_replayed(room):
    job_id = room.submit().job_id
    room.jobs.cancel(job_id, "ada")
    assert not room.replay(job_id)


def test_a_replay_gives_way_to_a_live_twin(room):
    failed = room.claim(dedupe_key="k", max_retries=0)
    room.jobs.fail(failed, BROKEN_STORAGE)
    twin = room.submit(dedupe_key="k")
    assert not room.replay(failed.job_id)
    room.jobs.cancel(twin.job_id, "ada")
    assert room.replay(failed.job_id)


def test_a_rejected_job_is_not_replayed_and_needs_its_staged_file_no_more(room):
    claim = room.claim(staging_path="refused.jpg")
    room.jobs.fail(claim, CorruptImageError("Truncated."))
    assert not room.replay(claim.job_id)
    assert not room.jobs.is_staged("refused.jpg")


# The fence: whoever was overtaken can do nothing.


@pytest.fixture
def stale_and_current(room):
    stale = room.claim(lease_seconds=-1)
    room.recovery.reap()
    current = room.jobs.claim("worker-2", 60)
    assert current.job_id == stale.job_id
    return stale, current


def test_a_stale_claim_cannot_heartbeat(room, stale_and_current):
    assert room.jobs.heartbeat(stale_and_current[0], 60) is Lease.LOST


def test_a_stale_claim_cannot_complete_even_when_it_was_cancelled(room, stale_and_current):
    stale, current = stale_and_current
    assert room.jobs.complete(stale, some_facts()) is False
    room.jobs.cancel(current.job_id, "ada")
    assert room.jobs.complete(stale, some_facts()) is False
    assert room.jobs.heartbeat(current, 60) is Lease.CANCEL_REQUESTED


@pytest.mark.parametrize("way", ["fail", "crash", "reject", "snooze", "release", "end_cancelled"])
def test_a_stale_claim_cannot_end_the_attempt_of_another(room, stale_and_current, way):
    stale, current = stale_and_current
    before = room.job_row(current.job_id)
    ends = {
        "fail": lambda: room.jobs.fail(stale, BROKEN_STORAGE),
        "crash": lambda: room.jobs.fail(stale, EngineCrashedError("It died.")),
        "reject": lambda: room.jobs.fail(stale, CorruptImageError("Truncated.")),
        "snooze": lambda: room.jobs.snooze(stale, 1),
        "release": lambda: room.jobs.release(stale),
        "end_cancelled": lambda: room.jobs.end_cancelled(stale),
    }
    assert ends[way]() is None
    assert room.job_row(current.job_id) == before
    assert room.jobs.complete(current, some_facts()) is True


def test_a_finished_claim_is_over(room):
    claim = room.claim()
    assert room.jobs.complete(claim, some_facts())
    assert room.jobs.complete(claim, some_facts()) is False
    assert room.jobs.fail(claim, BROKEN_STORAGE) is None
    assert room.jobs.heartbeat(claim, 60) is Lease.LOST


# What the embedded transport and the stage ask.


def test_next_due_in(room):
    assert room.jobs.next_due_in() is None
    claim = room.claim()
    assert room.jobs.next_due_in() is None
    room.jobs.snooze(claim, 100)
    assert 95 < room.jobs.next_due_in() <= 100
    room.submit()
    assert room.jobs.next_due_in() == 0


def test_a_staged_file_is_needed_until_its_job_is_done_for_good(room):
    assert not room.jobs.is_staged("staged.jpg")
    claim = room.claim()
    assert room.jobs.is_staged("staged.jpg")
    room.jobs.fail(claim, BROKEN_STORAGE)
    assert room.jobs.is_staged("staged.jpg")
    room.jobs.complete(room.jobs.claim("w", 60), some_facts())
    assert not room.jobs.is_staged("staged.jpg")


def test_a_dead_letter_keeps_its_staged_file_and_a_cancelled_or_deleted_job_does_not(room):
    dead = room.claim(staging_path="dead.jpg", max_retries=0)
    room.jobs.fail(dead, BROKEN_STORAGE)
    assert room.jobs.is_staged("dead.jpg")
    room.images.delete(dead.image_id, "ada")
    assert not room.jobs.is_staged("dead.jpg")
    cancelled = room.submit(staging_path="cancelled.jpg")
    room.jobs.cancel(cancelled.job_id, "ada")
    assert not room.jobs.is_staged("cancelled.jpg")
    running = room.claim(staging_path="running.jpg")
    room.images.delete(running.image_id, "ada")
    assert room.jobs.is_staged("running.jpg")
