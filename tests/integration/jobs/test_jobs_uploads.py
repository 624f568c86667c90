"""The rows of direct uploads, on both databases."""

import json
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from image_processor.errors import RateLimitError
from image_processor.jobs.uploads import (
    COMPLETION_SECONDS,
    KEY_PREFIX,
    PURGE_AGAIN_SECONDS,
    PURGE_SECONDS,
    NewUpload,
    UploadRepository,
    UploadStatus,
)
from image_processor.jobs.values import Idempotency

IDS = {"job_id": "job-1", "image_id": "image-1"}
VALID_SECONDS = 900.0


@pytest.fixture
def uploads(room) -> UploadRepository:
    room.execute("delete from direct_uploads")
    return UploadRepository(room.database)


def an_upload(user_id: str = "ada") -> NewUpload:
    return NewUpload(
        upload_id=str(uuid.uuid4()),
        user_id=user_id,
        request='{"bucket": "holiday"}',
        content_type="image/jpeg",
        size_bytes=5_000_000_000,
        sha256=None,
    )


def opened(uploads: UploadRepository, user_id: str = "ada", *, max_open: int = 100) -> str:
    upload = an_upload(user_id)
    uploads.open(upload, valid_seconds=VALID_SECONDS, max_open=max_open)
    return upload.upload_id


def age(room, upload_id: str, seconds: float) -> None:
    """Let time go by for one row."""
    room.execute(
        "update direct_uploads set expires_at = expires_at - :seconds, purge_at = purge_at - :seconds"
        " where upload_id = :upload_id",
        upload_id=upload_id,
        seconds=seconds,
    )


def test_what_is_opened_is_found_by_its_user_alone(uploads):
    new = an_upload()
    uploads.open(new, valid_seconds=VALID_SECONDS, max_open=1)
    found = uploads.find(new.upload_id, "ada")
    assert found is not None
    assert {name: getattr(found, name) for name in vars(new)} == vars(new)
    assert (found.status, found.is_settled, found.job_id, found.refusal) == ("open", False, None, None)
    assert uploads.find(new.upload_id, "eve") is None
    assert uploads.find_of_anybody(new.upload_id) == found
    assert uploads.find_of_anybody(str(uuid.uuid4())) is None


def test_only_so_many_are_unfinished_at_a_time(uploads, room):
    first, second = opened(uploads, max_open=2), opened(uploads, max_open=2)
    with pytest.raises(RateLimitError, match="2 direct uploads") as caught:
        opened(uploads, max_open=2)
    assert VALID_SECONDS < caught.value.retry_after_seconds <= VALID_SECONDS + COMPLETION_SECONDS + 1
    opened(uploads, "eve", max_open=2)

    uploads.refuse(first, "{}")
    with pytest.raises(RateLimitError):
        opened(uploads, max_open=2)
    uploads.complete(second, **IDS)
    third = opened(uploads, max_open=2)
    age(room, third, VALID_SECONDS + COMPLETION_SECONDS)
    opened(uploads, max_open=2)


def test_many_that_open_at_once_do_not_exceed_the_bound(uploads, room):
    opened(uploads, max_open=4)
    start = threading.Barrier(8)

    def open_one(_number: int) -> bool:
        start.wait(20)
        try:
            opened(uploads, max_open=4)
        except RateLimitError:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(open_one, range(8))).count(True) == 3
    assert room.row("select count(*) as n from direct_uploads")["n"] == 4


def test_it_expires_some_time_after_its_address(uploads, room):
    upload_id = opened(uploads)
    age(room, upload_id, VALID_SECONDS + COMPLETION_SECONDS - 30)
    assert uploads.find(upload_id, "ada").status is UploadStatus.OPEN
    age(room, upload_id, 30)
    assert uploads.find(upload_id, "ada").status is UploadStatus.EXPIRED


def test_a_refusal_stays_unless_there_is_a_job(uploads):
    upload_id = opened(uploads)
    assert uploads.refuse(upload_id, json.dumps({"code": "corrupt_image"}))
    assert not uploads.refuse(upload_id, "{}")
    refused = uploads.find(upload_id, "ada")
    assert (refused.status, refused.refusal) == ("refused", '{"code": "corrupt_image"}')

    assert uploads.complete(upload_id, **IDS)
    completed = uploads.find(upload_id, "ada")
    assert (completed.status, completed.job_id, completed.refusal) == ("completed", "job-1", None)


def test_the_first_job_stays(uploads):
    upload_id = opened(uploads)
    assert uploads.complete(upload_id, **IDS)
    assert not uploads.complete(upload_id, job_id="job-2", image_id="image-2")
    assert not uploads.refuse(upload_id, "{}")
    assert uploads.find(upload_id, "ada").job_id == "job-1"


def test_a_job_that_was_not_noted_is_found_by_its_key(uploads, room):
    upload_id = opened(uploads)
    key = Idempotency(key=KEY_PREFIX + upload_id, fingerprint="the request")
    receipt = room.submit(user_id="ada", idempotency=key)
    found = uploads.find(upload_id, "ada")
    assert (found.status, found.is_settled) == (UploadStatus.COMPLETED, False)
    assert (found.job_id, found.image_id) == (receipt.job_id, receipt.image_id)


def test_each_is_purged_twice_and_then_forgotten(uploads, room):
    upload_id, young = opened(uploads), opened(uploads)
    assert uploads.purgeable(10) == []
    age(room, upload_id, VALID_SECONDS + PURGE_SECONDS)
    assert uploads.purgeable(10) == [upload_id]
    uploads.mark_purged([upload_id, young])
    assert uploads.purgeable(10) == []
    assert uploads.find(upload_id, "ada") is not None

    age(room, upload_id, PURGE_AGAIN_SECONDS)
    assert uploads.purgeable(10) == [upload_id]
    uploads.mark_purged([upload_id, young])
    assert uploads.find(upload_id, "ada") is None
    assert uploads.find(young, "ada").status is UploadStatus.OPEN
