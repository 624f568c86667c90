"""Deletions: the cascade, what is cut off, and who is in the way."""

import threading
import uuid

import pytest

from fault_proxy import FaultProxy
from image_processor.errors import ConflictError, NotFoundError, Retry
from image_processor.s3_images import S3DeleteException, S3UploadException, ValidationException
from image_processor.s3_images.rows import Hold
from image_processor.storage.s3 import S3Storage
from s3_images.studio import OTHER_PICTURE, PATIENCE_SECONDS, PICTURE, SESSION, run

THUMBNAIL = f"{SESSION}/thumbnails/leaf.webp"


def with_thumbnail(studio):
    response = studio.upload()
    studio.client.put_object(Bucket=studio.original, Key=THUMBNAIL, Body=b"small")
    assert studio.repository.set_thumbnail(response.image_id, THUMBNAIL)
    return response


def test_a_deletion_takes_both_objects_and_the_row(studio):
    response = with_thumbnail(studio)
    assert studio.repository.get(response.image_id).s3_key_thumbnail == THUMBNAIL
    assert run(studio.service.delete_image(uuid.UUID(response.image_id))) is True
    assert (studio.keys(), studio.rows()) == ([], [])
    assert run(studio.service.delete_image(response.image_id)) is False


def test_an_image_whose_object_is_gone_can_be_deleted(studio):
    response = studio.upload()
    studio.client.delete_object(Bucket=studio.original, Key=response.s3_key_original)
    assert run(studio.service.delete_image(response.image_id)) is True
    assert studio.rows() == []


@pytest.mark.parametrize("image_id", ["462fdf2b-781f-4153-b96f-93b08b693ec7", "none", "", "a\x00b", None])
def test_there_is_no_such_image(studio, image_id):
    assert run(studio.service.delete_image(image_id)) is False


def test_the_name_of_a_deleted_image_is_free(studio):
    first = studio.upload()
    run(studio.service.delete_image(first.image_id))
    second = studio.upload(OTHER_PICTURE)
    assert second.s3_key_original == first.s3_key_original
    assert studio.content(second.s3_key_original) == OTHER_PICTURE


def test_a_deletion_that_fails_hides_the_image_and_goes_on_when_it_is_called_again(studio):
    response = with_thumbnail(studio)
    with FaultProxy(studio.server.port, mode="refuse") as proxy:
        service = studio.another(studio.places_at(f"http://127.0.0.1:{proxy.port}"))
        with pytest.raises(S3DeleteException, match="could not be deleted") as failed:
            run(service.delete_image(response.image_id))
    assert failed.value.retry is Retry.UNAVAILABLE
    assert studio.repository.get(response.image_id) is None
    for key in (response.s3_key_original, THUMBNAIL):
        with pytest.raises(NotFoundError):
            run(studio.service.download_original(key, studio.original))
    assert run(studio.service.delete_image(response.image_id)) is True
    assert (studio.keys(), studio.rows()) == ([], [])


def test_a_deletion_between_its_objects_and_its_row_goes_on(studio):
    response = with_thumbnail(studio)
    dead = studio.repository.hold_for_deletion(response.image_id)
    assert isinstance(dead, Hold)
    studio.client.delete_object(Bucket=studio.original, Key=response.s3_key_original)
    with pytest.raises(S3DeleteException, match="deleting just now") as refused:
        run(studio.service.delete_image(response.image_id))
    assert 0 < refused.value.retry_after_seconds <= 900
    with pytest.raises(S3UploadException, match="deleting in this session just now"):
        studio.upload(OTHER_PICTURE)
    studio.end_leases()
    assert studio.content(studio.upload(OTHER_PICTURE).s3_key_original) == OTHER_PICTURE
    assert studio.content(THUMBNAIL) is None
    studio.repository.drop(dead)  # it was not dead after all, and takes nothing from the new image
    assert len(studio.repository.in_session(SESSION)) == 1


def test_an_image_that_is_being_uploaded_is_not_deleted(studio):
    hold = studio.hold("f" * 64)
    with pytest.raises(S3DeleteException, match="uploading just now"):
        run(studio.service.delete_image(hold.image.image_id))
    studio.end_leases()
    assert run(studio.service.delete_image(hold.image.image_id)) is True


class GatedDeletes(S3Storage):
    """Waits before each delete until it is let go."""

    asked, go_on = threading.Event(), threading.Event()

    def delete(self, key: str) -> bool:
        self.asked.set()
        assert self.go_on.wait(PATIENCE_SECONDS)
        return super().delete(key)


def test_a_slow_deletion_never_takes_an_image_that_came_after_it(studio):
    response = studio.upload()
    GatedDeletes.asked.clear()
    GatedDeletes.go_on.clear()
    slow = studio.another(studio.places_at(studio.server.url, kind=GatedDeletes))
    answers = []
    thread = threading.Thread(target=lambda: answers.append(run(slow.delete_image(response.image_id))))
    thread.start()
    assert GatedDeletes.asked.wait(PATIENCE_SECONDS)
    with pytest.raises(S3DeleteException):
        run(studio.service.delete_image(response.image_id))
    with pytest.raises(S3UploadException):
        studio.upload()
    GatedDeletes.go_on.set()
    thread.join(PATIENCE_SECONDS)
    assert answers == [True]
    assert studio.content(studio.upload().s3_key_original) == PICTURE


def test_a_sweep_removes_what_was_cut_off_and_nothing_else(studio):
    kept = studio.upload(filename="kept.jpg")
    dead_upload = studio.hold("f" * 64, "dead.jpg")
    studio.client.put_object(Bucket=studio.original, Key=dead_upload.image.s3_key_original, Body=b"half")
    deleted = studio.upload(filename="deleted.jpg")
    studio.repository.hold_for_deletion(deleted.image_id)
    assert run(studio.service.sweep()) == 0
    studio.end_leases()
    late = studio.hold("f" * 64, "late.jpg")
    assert run(studio.service.sweep()) == 2
    assert studio.keys() == [kept.s3_key_original]
    assert {row["image_id"] for row in studio.rows()} == {kept.image_id, late.image.image_id}


def test_what_came_to_its_end_after_all_is_not_taken_over(studio):
    hold = studio.hold("f" * 64)
    studio.end_leases()
    assert studio.repository.mark_ready(hold) is not None
    assert studio.repository.take_over(hold.image.image_id) is None
    assert studio.repository.get(hold.image.image_id) is not None


def test_a_thumbnail_can_never_be_an_image(studio):
    response = studio.upload()
    for key in ("session-1/other.jpg", "leaf.webp", "../a/b/c", "INCOMING/a/b"):
        with pytest.raises(ValidationException):
            studio.repository.set_thumbnail(response.image_id, key)
    assert not studio.repository.set_thumbnail(str(uuid.uuid4()), THUMBNAIL)


def test_two_images_never_share_a_thumbnail(studio):
    first, second = with_thumbnail(studio), studio.upload(filename="second.jpg")
    with pytest.raises(ConflictError):
        studio.repository.set_thumbnail(second.image_id, THUMBNAIL)
    assert studio.repository.set_thumbnail(first.image_id, THUMBNAIL)
