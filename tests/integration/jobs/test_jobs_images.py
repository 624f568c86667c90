import time

import pytest

from image_processor.errors import CorruptImageError, StorageError
from image_processor.jobs import Lease, Reason, Status
from image_processor.jobs.clock import to_iso
from integration.jobs.job_samples import some_facts


def completed(room, **fields):
    claim = room.claim(**fields)
    assert room.jobs.complete(claim, some_facts())
    return claim


def dead_letter(room, **fields):
    claim = room.claim(max_retries=0, **fields)
    room.jobs.fail(claim, StorageError("The storage answered wrongly."))
    return claim


def purge_in(room, image_id):
    """Seconds until the image's objects are to be removed."""
    sql = "select purge_after - <now> as seconds from images where image_id = :id"
    return room.row(sql, id=image_id)["seconds"]


def let_the_grace_pass(room):
    room.execute("update images set purge_after = 1 where purge_after is not null")


def let_the_leases_of_purges_pass(room):
    room.execute("update images set purging_until = 1 where purging_until is not null")


def test_an_image_knows_its_job_before_and_after(room):
    receipt = room.submit()
    image = room.images.image(receipt.image_id, "ada")
    assert (image.job_id, image.status, image.variants) == (receipt.job_id, Status.PENDING, {})
    assert (image.width, image.dominant_color) == (None, None)
    claim = room.jobs.claim("w", 60)
    room.jobs.complete(claim, some_facts())
    image = room.images.image(receipt.image_id, "ada")
    assert (image.status, image.width, image.frames) == (Status.COMPLETED, 3024, 1)


def test_many_images_at_once_and_only_ones_own(room):
    mine = [room.submit().image_id for _ in range(3)]
    foreign = room.submit(user_id="bob").image_id
    gone = mine.pop()
    room.images.delete(gone, "ada")
    found = room.images.images([*mine, foreign, gone, "no-such-image", mine[0]], "ada")
    assert set(found) == set(mine)
    assert room.images.images([], "ada") == {}


# Deletion


def test_a_deleted_image_is_invisible_to_every_read(room):
    claim = completed(room)
    image = room.images.delete(claim.image_id, "ada")
    assert image.variants == some_facts().variants
    assert room.images.image(claim.image_id, "ada") is None
    assert room.images.images([claim.image_id], "ada") == {}
    assert room.jobs.job(claim.job_id, "ada") is None
    assert room.jobs.cancel(claim.job_id, "ada") is None
    assert room.images.delete(claim.image_id, "ada") is None
    assert room.statistics.statistics().total_images == 0


def test_nobody_deletes_the_image_of_another(room):
    claim = completed(room)
    assert room.images.delete(claim.image_id, "bob") is None
    assert room.images.image(claim.image_id, "ada") is not None


def test_deleting_a_waiting_image_cancels_its_job_at_once(room):
    receipt = room.submit()
    room.images.delete(receipt.image_id, "ada")
    assert room.job_row(receipt.job_id)["reason"] == Reason.CANCELLED
    assert room.jobs.claim("w", 60) is None


def test_deleting_while_processing_asks_for_the_end_and_nothing_is_published(room):
    claim = room.claim()
    room.images.delete(claim.image_id, "ada")
    assert room.jobs.heartbeat(claim, 60) is Lease.CANCEL_REQUESTED
    assert room.jobs.complete(claim, some_facts()) is False
    assert room.job_row(claim.job_id)["reason"] == Reason.CANCELLED
    assert room.image_row(claim.image_id)["variants"] is None


def test_a_deleted_image_is_never_replayed(room):
    claim = dead_letter(room)
    room.images.delete(claim.image_id, "ada")
    assert not room.replay(claim.job_id)


# The purge


@pytest.mark.parametrize(
    "way", ["deleted", "rejected", "exhausted", "expired", "cancelled", "poison", "cancelled late"]
)
def test_what_ends_without_a_result_is_purged_after_the_grace(room, way):
    claim = room.claim(max_retries=0, lease_seconds=-1)
    ends = {
        "deleted": lambda: room.images.delete(claim.image_id, "ada"),
        "rejected": lambda: room.jobs.fail(claim, CorruptImageError("Truncated.")),
        "exhausted": lambda: room.jobs.fail(claim, StorageError("It failed.")),
        "expired": lambda: (
            room.jobs.release(claim),
            room.execute("update processing_jobs set expires_at = 0"),
            room.recovery.expire(),
        ),
        "cancelled": lambda: (room.jobs.release(claim), room.jobs.cancel(claim.job_id, "ada")),
        "poison": lambda: (room.execute("update processing_jobs set crash_count = 2"), room.recovery.reap()),
        "cancelled late": lambda: (
            room.jobs.cancel(claim.job_id, "ada"),
            room.jobs.complete(claim, some_facts()),
        ),
    }
    ends[way]()
    assert room.grace_seconds - 5 < purge_in(room, claim.image_id) <= room.grace_seconds
    assert room.images.purgeable() == []
    let_the_grace_pass(room)
    assert [purge.image_id for purge in room.images.purgeable()] == [claim.image_id]


def test_the_end_of_a_running_job_starts_the_grace_of_its_deleted_image_anew(room):
    claim = room.claim()
    room.images.delete(claim.image_id, "ada")
    let_the_grace_pass(room)
    room.jobs.end_cancelled(claim)
    assert room.grace_seconds - 5 < purge_in(room, claim.image_id) <= room.grace_seconds


@pytest.mark.parametrize("end", ["retry", "snooze", "release", "complete"])
def test_what_goes_on_is_not_purged(room, end):
    claim = room.claim()
    ends = {
        "retry": lambda: room.jobs.fail(claim, StorageError("It failed.")),
        "snooze": lambda: room.jobs.snooze(claim, 1),
        "release": lambda: room.jobs.release(claim),
        "complete": lambda: room.jobs.complete(claim, some_facts()),
    }
    ends[end]()
    assert room.image_row(claim.image_id)["purge_after"] is None


def test_a_purge_knows_every_key_that_may_exist(room):
    failed, done = dead_letter(room), completed(room)
    room.images.delete(done.image_id, "ada")
    let_the_grace_pass(room)
    purges = {purge.image_id: purge for purge in room.images.purgeable()}
    of_failed, of_done = purges[failed.image_id], purges[done.image_id]
    assert of_failed.variants == {}
    assert (of_failed.pipeline, of_failed.key_template) == (failed.pipeline, failed.key_template)
    assert (of_failed.staging_path, of_failed.sha256) == (failed.staging_path, failed.sha256)
    assert of_done.variants == some_facts().variants


def test_an_image_is_handed_out_for_purging_once_a_lease(room):
    claim = dead_letter(room)
    let_the_grace_pass(room)
    assert len(room.images.purgeable()) == 1
    assert room.images.purgeable() == []
    let_the_leases_of_purges_pass(room)
    assert len(room.images.purgeable()) == 1
    assert room.images.mark_purged(claim.image_id) is True
    assert room.images.mark_purged(claim.image_id) is False
    assert room.images.purgeable() == []


def test_the_longest_due_is_purged_first(room):
    claims = [dead_letter(room) for _ in range(3)]
    for age, claim in zip((1, 3, 2), claims, strict=True):
        room.execute("update images set purge_after = :at where image_id = :id", at=-age, id=claim.image_id)
    assert {p.image_id for p in room.images.purgeable(limit=2)} == {claims[1].image_id, claims[2].image_id}


def test_a_purge_written_by_a_newer_version_holds_nobody_up(room):
    strange, plain = dead_letter(room), dead_letter(room)
    room.execute("update processing_jobs set pipeline = '{}' where job_id = :id", id=strange.job_id)
    let_the_grace_pass(room)
    assert [purge.image_id for purge in room.images.purgeable()] == [plain.image_id]
    let_the_leases_of_purges_pass(room)
    assert room.image_row(strange.image_id)["purge_after"] is not None


def test_a_replay_calls_the_purge_off(room):
    claim = dead_letter(room)
    assert room.replay(claim.job_id)
    let_the_grace_pass(room)
    assert room.images.purgeable() == []


def test_a_job_is_not_replayed_while_its_objects_are_being_removed(room):
    claim = dead_letter(room)
    let_the_grace_pass(room)
    room.images.purgeable()
    assert not room.replay(claim.job_id)
    let_the_leases_of_purges_pass(room)  # its sweeper died: another one must finish first
    assert not room.replay(claim.job_id)
    room.images.purgeable()
    room.images.mark_purged(claim.image_id)
    assert room.replay(claim.job_id)


# Pruning


def make_old(room, days=40):
    then = to_iso(time.time() - days * 86_400)
    room.execute("update processing_jobs set completed_at = :then where completed_at is not null", then=then)
    room.execute("update images set deleted_at = :then where deleted_at is not null", then=then)


def purge_all(room):
    let_the_grace_pass(room)
    for purge in room.images.purgeable():
        room.images.mark_purged(purge.image_id)


def test_old_failures_and_deleted_images_are_forgotten_with_all_their_rows(room):
    dead_letter(room)
    room.images.delete(completed(room).image_id, "ada")
    kept = completed(room)
    purge_all(room)
    make_old(room)
    assert room.recovery.prune(older_than_days=30) == 2
    assert room.counts() | {"image_upload_events": 0} == {
        "images": 1,
        "processing_jobs": 1,
        "image_upload_events": 0,
        "upload_rate_limits": 0,
    }
    assert room.counts()["image_upload_events"] == len(room.jobs.events(kept.job_id))
    assert room.images.image(kept.image_id, "ada").variants
    assert room.jobs.job(kept.job_id, "ada").status is Status.COMPLETED


def test_what_is_young_live_or_not_yet_purged_is_not_forgotten(room):
    dead_letter(room)
    room.images.delete(completed(room).image_id, "ada")
    make_old(room)
    assert room.recovery.prune(older_than_days=30) == 0  # not purged
    purge_all(room)
    make_old(room, days=20)
    assert room.recovery.prune(older_than_days=30) == 0  # young
    make_old(room)
    live = room.submit()
    room.images.delete(room.claim().image_id, "ada")
    assert room.recovery.prune(older_than_days=30, limit=1) == 1
    assert room.recovery.prune(older_than_days=30, limit=5) == 1
    assert room.jobs.job(live.job_id, "ada") is not None
