"""Uploads: what is stored and answered, names that meet, and uploads that are cut off."""

import asyncio
import hashlib
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from fault_proxy import FaultProxy
from image_processor.errors import ConflictError, ImageProcessorError, Retry
from image_processor.s3_images import S3ImageUploadRequest, S3UploadException
from s3_images.studio import OTHER_PICTURE, PICTURE, SESSION, GatedStorage, run

SHA256 = hashlib.sha256(PICTURE).hexdigest()


def test_an_original_is_stored_and_answered_with_an_address(studio):
    said = S3ImageUploadRequest(
        filename="leaf.jpg",
        content_type="image/jpeg",
        session_id=SESSION,
        file_size_bytes=len(PICTURE),
        upload_source="mobile",
        metadata={"plot": 7, "at": [-33.4, -70.6], "note": "\x00 ñ"},
    )
    response = run(studio.service.upload_original(PICTURE, SESSION, said))
    assert (response.s3_bucket, response.s3_key_original) == (studio.original, "session-1/leaf.jpg")
    assert (response.content_type, response.file_size_bytes) == ("image/jpeg", len(PICTURE))
    assert (response.status, response.s3_key_thumbnail, response.sha256) == ("ready", None, SHA256)
    assert (response.upload_source, response.metadata) == ("mobile", said.metadata)
    assert abs(response.created_at - datetime.now(UTC)) < timedelta(minutes=5)
    assert timedelta(hours=23) < response.expires_at - datetime.now(UTC) <= timedelta(hours=24)
    got = httpx.get(response.presigned_url)
    assert (got.content, got.headers["content-type"]) == (PICTURE, "image/jpeg")
    assert got.headers["cache-control"] == "private, max-age=3600"
    stored = studio.client.head_object(Bucket=studio.original, Key=response.s3_key_original)
    assert stored["Metadata"] == {"image-id": response.image_id, "sha256": SHA256}
    row = studio.repository.get(response.image_id)
    assert (row.session_id, row.filename, row.kind) == (SESSION, "leaf.jpg", "original")
    assert studio.repository.in_session(SESSION) == [row]


def test_a_visualization_goes_to_its_own_bucket(studio):
    session = uuid.uuid4()
    response = run(studio.service.upload_visualization(OTHER_PICTURE, session, "heat map.png"))
    assert response.s3_bucket == studio.visualization
    assert response.s3_key_original.startswith(f"{session}/viz_heat-map--")
    assert response.s3_key_original.endswith(".png")
    assert (response.filename, response.content_type) == ("heat map.png", "image/png")
    assert studio.content(response.s3_key_original, studio.visualization) == OTHER_PICTURE
    plain = run(studio.service.upload_visualization(OTHER_PICTURE, session, "leaf.png"))
    assert plain.s3_key_original == f"{session}/viz_leaf.png"


def test_the_same_bytes_again_are_the_same_image(studio):
    first = studio.upload()
    second = studio.upload(metadata={"ignored": True})
    assert (second.image_id, second.created_at) == (first.image_id, first.created_at)
    assert len(studio.rows()) == 1


def test_other_bytes_under_a_name_are_refused_and_nothing_is_lost(studio):
    first = studio.upload()
    with pytest.raises(ConflictError, match="another image of this name") as refused:
        studio.upload(OTHER_PICTURE)
    assert (refused.value.details["image_id"], refused.value.retry) == (first.image_id, Retry.NEVER)
    assert studio.content(first.s3_key_original) == PICTURE


def test_an_object_that_was_lost_is_stored_again_under_its_id(studio):
    first = studio.upload()
    studio.client.delete_object(Bucket=studio.original, Key=first.s3_key_original)
    assert studio.upload().image_id == first.image_id
    assert studio.content(first.s3_key_original) == PICTURE


def test_an_upload_that_fails_is_not_seen_and_can_be_made_again_at_once(studio):
    with FaultProxy(studio.server.port, mode="refuse") as proxy:
        service = studio.another(studio.places_at(f"http://127.0.0.1:{proxy.port}"))
        with pytest.raises(S3UploadException, match="could not be uploaded") as failed:
            run(service.upload_original(PICTURE, SESSION, {"filename": "leaf.jpg"}))
    assert isinstance(failed.value, ImageProcessorError)
    assert (failed.value.retry, failed.value.status) == (Retry.UNAVAILABLE, 503)
    assert failed.value.details["cause"] == "storage_down"
    assert studio.repository.in_session(SESSION) == []
    assert [image.status for image in studio.repository.abandoned()] == ["uploading"]
    assert studio.content(studio.upload(OTHER_PICTURE).s3_key_original) == OTHER_PICTURE
    assert len(studio.rows()) == 1


def test_while_one_uploads_the_same_key_is_refused_for_a_while(studio):
    hold = studio.hold(SHA256)
    for content in (PICTURE, OTHER_PICTURE):
        with pytest.raises(S3UploadException, match="uploading in this session just now") as refused:
            studio.upload(content)
        assert 0 < refused.value.retry_after_seconds <= 300
    assert studio.repository.mark_ready(hold).image_id == studio.upload().image_id


def test_what_a_dead_upload_left_is_cleared_away_by_the_next(studio):
    hold = studio.hold(SHA256)
    studio.client.put_object(Bucket=studio.original, Key=hold.image.s3_key_original, Body=PICTURE)
    studio.end_leases()
    response = studio.upload(OTHER_PICTURE)
    assert studio.content(response.s3_key_original) == OTHER_PICTURE
    assert response.image_id != hold.image.image_id
    assert studio.repository.mark_ready(hold) is None  # it was not dead after all, and hears of it


def test_an_upload_that_lost_its_name_says_so(studio):
    places = studio.places_at(studio.server.url, kind=GatedStorage)
    slow = studio.another(places)
    with ThreadPoolExecutor() as threads:
        upload = threads.submit(run, slow.upload_original(PICTURE, SESSION, {"filename": "leaf.jpg"}))
        assert places.original.has_put.wait(60)
        studio.end_leases()
        response = studio.upload(OTHER_PICTURE)
        places.original.go_on.set()
        with pytest.raises(S3UploadException, match="took too long"):
            upload.result(60)
    assert studio.content(response.s3_key_original) == OTHER_PICTURE


@pytest.mark.slow
def test_many_at_once_under_one_name_make_one_image(studio):
    contents = [PICTURE, OTHER_PICTURE] * 5

    async def at_once():
        uploads = [
            studio.service.upload_original(content, SESSION, {"filename": "leaf.jpg"}) for content in contents
        ]
        return await asyncio.gather(*uploads, return_exceptions=True)

    answers = run(at_once())
    stored = {answer.image_id: answer for answer in answers if not isinstance(answer, Exception)}
    assert len(stored) == len(studio.rows()) == 1
    (response,) = stored.values()
    assert hashlib.sha256(studio.content(response.s3_key_original)).hexdigest() == response.sha256
    refusals = [answer for answer in answers if isinstance(answer, Exception)]
    assert refusals
    assert all(isinstance(refusal, (ConflictError, S3UploadException)) for refusal in refusals)


def test_a_cancelled_upload_comes_to_its_end(studio):
    places = studio.places_at(studio.server.url, kind=GatedStorage)
    service = studio.another(places)

    async def cancelled():
        task = asyncio.create_task(service.upload_original(PICTURE, SESSION, {"filename": "leaf.jpg"}))
        assert await asyncio.to_thread(places.original.has_put.wait, 60)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        places.original.go_on.set()

    run(cancelled())  # its end waits for the threads
    (image,) = studio.repository.in_session(SESSION)
    assert studio.content(image.s3_key_original) == PICTURE


def test_the_event_loop_goes_on_meanwhile(studio):
    places = studio.places_at(studio.server.url, kind=GatedStorage)
    service = studio.another(places)

    async def meanwhile():
        upload = asyncio.create_task(service.upload_original(PICTURE, SESSION, {"filename": "leaf.jpg"}))
        assert await asyncio.to_thread(places.original.has_put.wait, 60)
        assert not upload.done()
        places.original.go_on.set()
        return await upload

    assert run(meanwhile()).status == "ready"


def test_a_folder_that_takes_no_file_fails_the_upload(studio, tmp_path):
    service = studio.another(scratch=tmp_path / "absent")
    with pytest.raises(S3UploadException, match="cannot be written on its way"):
        run(service.upload_original(PICTURE, SESSION, {"filename": "leaf.jpg"}))
    assert studio.keys() == []


def test_a_database_that_fails_after_the_object_is_there_loses_nothing(studio):
    places = studio.places_at(studio.server.url, kind=GatedStorage)
    slow = studio.another(places)
    with ThreadPoolExecutor() as threads:
        upload = threads.submit(run, slow.upload_original(PICTURE, SESSION, {"filename": "leaf.jpg"}))
        assert places.original.has_put.wait(60)
        studio.execute("alter table s3_images rename to s3_images_away")
        places.original.go_on.set()
        with pytest.raises(ImageProcessorError, match="database"):
            upload.result(60)
    studio.execute("alter table s3_images_away rename to s3_images")
    assert [row["status"] for row in studio.rows()] == ["uploading"]
    studio.end_leases()
    assert studio.content(studio.upload().s3_key_original) == PICTURE
