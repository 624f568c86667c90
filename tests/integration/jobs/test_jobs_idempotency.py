"""The same request again: idempotency keys, twins that live, twins that are completed."""

import pytest

from image_processor.errors import IdempotencyError, RateLimitError, StorageError
from image_processor.jobs import Idempotency, RateLimit
from integration.jobs.job_samples import an_upload, some_facts

ONE = RateLimit(max_uploads=1, window_seconds=10 * 365 * 86_400)


def key(fingerprint="same", **fields):
    return Idempotency(key="key-1", fingerprint=fingerprint, **fields)


def test_the_same_request_again_is_answered_with_the_same_job_and_takes_no_quota(room):
    assert not room.jobs.answered("ada", "key-1")
    first = room.jobs.submit(an_upload(idempotency=key()), ONE)
    again = room.jobs.submit(an_upload(idempotency=key()), ONE)
    assert (first.joined, first.replayed) == (False, False)
    assert (again.joined, again.replayed) == (True, True)
    assert (again.job_id, again.image_id, again.created_at) == (
        first.job_id,
        first.image_id,
        first.created_at,
    )
    assert again.quota.remaining == first.quota.remaining == 0
    assert room.jobs.answered("ada", "key-1")
    assert not room.jobs.answered("bob", "key-1")
    assert room.counts()["images"] == room.counts()["processing_jobs"] == 1


def test_another_request_under_the_same_key_is_refused_and_leaves_nothing(room):
    room.submit(idempotency=key())
    with pytest.raises(IdempotencyError):
        room.submit(idempotency=key("other"))
    assert room.counts()["images"] == room.counts()["processing_jobs"] == 1


def test_a_key_is_its_users_own(room):
    first = room.submit(idempotency=key())
    assert room.submit(user_id="bob", idempotency=key("other")).job_id != first.job_id


def test_a_key_whose_time_is_over_stands_for_a_new_request(room):
    first = room.submit(idempotency=key(ttl_seconds=-1.0))
    assert not room.jobs.answered("ada", "key-1")
    second = room.submit(idempotency=key("other"))
    assert not second.joined
    assert second.job_id != first.job_id
    assert room.submit(idempotency=key("other")).job_id == second.job_id


def test_a_refused_request_does_not_use_up_its_key(room):
    room.jobs.submit(an_upload(), ONE)
    with pytest.raises(RateLimitError):
        room.jobs.submit(an_upload(idempotency=key()), ONE)
    assert not room.jobs.answered("ada", "key-1")


def test_who_joins_a_twin_has_the_twin_for_an_answer_for_ever(room):
    claim = room.claim(dedupe_key="twin")
    joined = room.submit(dedupe_key="twin", idempotency=key())
    assert (joined.job_id, joined.joined, joined.replayed) == (claim.job_id, True, False)
    room.jobs.complete(claim, some_facts())
    again = room.submit(dedupe_key="twin", idempotency=key())
    assert (again.job_id, again.replayed) == (claim.job_id, True)


def test_keys_whose_time_is_over_are_pruned(room):
    room.submit(idempotency=key(ttl_seconds=-1.0))
    room.submit(user_id="bob", idempotency=key())
    assert room.recovery.prune_idempotency_keys() == 1
    assert room.recovery.prune_idempotency_keys() == 0
    assert room.jobs.answered("bob", "key-1")


def completed(room, at):
    claim = room.claim(dedupe_key="twin")
    room.jobs.complete(claim, some_facts())
    room.execute("update processing_jobs set completed_at = :at where job_id = :id", at=at, id=claim.job_id)
    return claim


def test_the_newest_completed_twin_whose_image_is_there_is_reused_on_request(room):
    old, new = completed(room, "2026-01-01"), completed(room, "2026-01-02")
    assert new.job_id != old.job_id
    wanted = {"dedupe_key": "twin", "reuse_completed": True}
    assert room.submit(**wanted).job_id == new.job_id
    room.images.delete(new.image_id, "ada")
    reused = room.submit(**wanted)
    assert (reused.job_id, reused.joined) == (old.job_id, True)
    assert not room.submit(**wanted, user_id="bob").joined
    assert not room.submit(reuse_completed=True).joined
    assert not room.submit(dedupe_key="twin").joined


def test_a_job_whose_end_was_asked_for_is_no_twin(room):
    claim = room.claim(dedupe_key="twin")
    room.jobs.cancel(claim.job_id, "ada")
    receipt = room.submit(dedupe_key="twin")
    assert not receipt.joined
    assert room.jobs.job(receipt.job_id, "ada").is_live


def test_nobody_replays_the_job_of_another(room):
    claim = room.claim(max_retries=0)
    room.jobs.fail(claim, StorageError("It failed."))
    assert not room.replay(claim.job_id, user_id="bob")
    assert room.replay(claim.job_id)
