"""What is refused, and how a name becomes a key."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from image_processor.errors import ImageProcessorError, InvalidRequestError, Retry
from image_processor.s3_images import S3ImageUploadRequest, ValidationException
from image_processor.s3_images.names import MAX_NAME_LENGTH, image_key
from image_processor.storage.keys import check_key
from image_processor.testing import sample_images
from s3_images.studio import PICTURE, SESSION, run

LONGEST = "n" * (MAX_NAME_LENGTH - 4) + ".jpg"


@pytest.fixture
def where(sqlite_where):
    return sqlite_where


@pytest.fixture
def empty_buckets(buckets):
    return buckets


@pytest.mark.parametrize(
    ("content", "said", "parameter"),
    [
        (b"", {}, "file_bytes"),
        (PICTURE + b"x" * 100_000, {}, "file_bytes"),
        (bytearray(PICTURE), {}, "file_bytes"),
        (None, {}, "file_bytes"),
        (b"%PDF-1.7 and more", {}, "file_bytes"),
        (b"<html><script>alert(1)</script></html>", {}, "file_bytes"),
        (sample_images.svg(), {}, "file_bytes"),
        (PICTURE, {"content_type": "image/png"}, "content_type"),
        (PICTURE, {"content_type": "text/html"}, "content_type"),
        (PICTURE, {"filename": ""}, "filename"),
        (PICTURE, {"filename": "../../etc/passwd"}, "filename"),
        (PICTURE, {"filename": "a\\b.jpg"}, "filename"),
        (PICTURE, {"filename": "a\x00.jpg"}, "filename"),
        (PICTURE, {"filename": "a\n.jpg"}, "filename"),
        (PICTURE, {"filename": ".."}, "filename"),
        (PICTURE, {"filename": "n" * 256}, "filename"),
        (PICTURE, {"filename": 7}, "filename"),
        (PICTURE, {"file_size_bytes": 5}, "file_size_bytes"),
        (PICTURE, {"session_id": "another"}, "session_id"),
        (PICTURE, {"upload_source": "<script>"}, "upload_source"),
        (PICTURE, {"metadata": {"a": "x" * 20_000}}, "metadata"),
        (PICTURE, {"metadata": {"a": float("nan")}}, "metadata"),
        (PICTURE, {"unknown": 1}, "unknown"),
    ],
)
def test_an_upload_is_refused(studio, content, said, parameter):
    service = studio.another(max_file_bytes=len(PICTURE) + 10)
    with pytest.raises(ValidationException) as refused:
        run(service.upload_original(content, SESSION, {"filename": "leaf.jpg", **said}))
    assert refused.value.details["parameter"].partition(".")[0] == parameter
    assert isinstance(refused.value, InvalidRequestError)
    assert isinstance(refused.value, ImageProcessorError)
    assert (refused.value.retry, refused.value.status) == (Retry.NEVER, 422)
    assert str(refused.value).endswith(".")
    assert studio.rows() == []


@pytest.mark.parametrize("said", [None, "leaf.jpg", 7, {}])
def test_what_is_no_request_is_refused(studio, said):
    with pytest.raises(ValidationException):
        run(studio.service.upload_original(PICTURE, SESSION, said))


@pytest.mark.parametrize("session_id", ["", "a/b", "..", "a\x00", "s" * 256, None, 7])
def test_a_session_that_is_none_is_refused(studio, session_id):
    with pytest.raises(ValidationException) as refused:
        run(studio.service.upload_original(PICTURE, session_id, {"filename": "leaf.jpg"}))
    assert refused.value.details == {"parameter": "session_id"}


def test_a_visualization_is_checked_alike(studio):
    for content, name in ((b"", "a.png"), (b"csv,data", "a.png"), (PICTURE, "../a.png")):
        with pytest.raises(ValidationException):
            run(studio.service.upload_visualization(content, SESSION, name))


def test_sizes_are_allowed_up_to_the_limit(studio):
    service = studio.another(max_file_bytes=len(PICTURE))
    response = run(service.upload_original(PICTURE, SESSION, {"filename": "leaf.jpg"}))
    assert response.file_size_bytes == len(PICTURE)
    assert studio.terms.max_file_bytes == 500 * 1024 * 1024


@pytest.mark.parametrize("hours", [0, 169, -1, 1.5, "24", True])
def test_an_expiry_out_of_its_range_is_refused(studio, hours):
    with pytest.raises(ValidationException, match="expiry_hours"):
        run(studio.service.generate_presigned_url("a/b.jpg", studio.original, hours))


@pytest.mark.parametrize("key", ["", "../b", "a/../b", "/etc/passwd", "a//b", "INCOMING/a.jpg", "a b", None])
def test_what_is_no_key_is_refused(studio, key):
    with pytest.raises(ValidationException, match="s3_key"):
        run(studio.service.generate_presigned_url(key, studio.original))
    with pytest.raises(ValidationException, match="s3_key"):
        run(studio.service.download_original(key, studio.original))


@pytest.mark.parametrize(
    ("session_id", "filename", "key"),
    [
        ("s1", "leaf.jpg", "s1/leaf.jpg"),
        ("6f1c-22", "IMG_0001.JPG", "6f1c-22/IMG_0001.JPG"),
        ("s1", "a.b.tar.gz", "s1/a.b.tar.gz"),
        ("s1", "noextension", "s1/noextension"),
    ],
)
def test_ordinary_names_stay_as_they_are(session_id, filename, key):
    assert image_key(session_id, filename) == key


@pytest.mark.parametrize("filename", ["IMG 0001.jpg", "hoja ñandú.jpg", "写真.jpg", ".hidden.jpg", LONGEST])
def test_other_names_become_safe_and_keep_their_extension(filename):
    key = image_key("s1", filename)
    assert key.startswith("s1/")
    assert key.endswith(".jpg")
    assert len(key) < 100


@pytest.mark.parametrize(
    ("content", "media_type"),
    [
        (sample_images.webp(16, 16), "image/webp"),
        (sample_images.gif(16, 16), "image/gif"),
        (sample_images.tiff(16, 16), "image/tiff"),
        (sample_images.bmp(16, 16), "image/bmp"),
    ],
)
def test_the_type_is_that_of_the_bytes(studio, content, media_type):
    response = studio.upload(content, f"{media_type[6:]}.bin", content_type="application/octet-stream")
    assert response.content_type == media_type


NAMES = st.text(min_size=1, max_size=40)


@given(st.tuples(NAMES, NAMES), st.tuples(NAMES, NAMES))
def test_two_names_never_share_a_key(first, second):
    keys = {}
    for session_id, filename in (first, second):
        try:
            key = image_key(session_id, filename)
        except ValidationException:
            continue
        assert check_key(key).count("/") == 1
        assert keys.setdefault(key, (session_id, filename)) == (session_id, filename)


def test_a_name_cannot_pose_as_the_safe_form_of_another():
    safe = image_key("s1", "a b.jpg").removeprefix("s1/")
    assert image_key("s1", safe) != f"s1/{safe}"


@pytest.mark.parametrize("depth", [300, 900, 5000])
def test_deep_metadata_is_refused_by_the_schema(depth):
    nested: dict = {}
    for _ in range(depth):
        nested = {"a": nested}
    with pytest.raises(ValueError, match="metadata"):
        S3ImageUploadRequest(filename="a.jpg", metadata=nested)
