"""Downloads and signed addresses."""

import time
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from fault_proxy import FaultProxy
from image_processor.errors import FileTooLargeError, NotFoundError, Retry
from image_processor.s3_images import (
    PresignedUrlRequest,
    S3DownloadException,
    S3ImagePlaces,
    S3ImageService,
    S3PresignException,
    ValidationException,
)
from image_processor.storage.s3 import S3Options, S3Storage
from image_processor.storage.s3.presigning import Presigning
from s3_images.studio import PICTURE, run


@pytest.fixture
def where(sqlite_where):
    return sqlite_where


def test_what_was_uploaded_comes_back(studio):
    response = studio.upload()
    key, bucket = response.s3_key_original, response.s3_bucket
    assert run(studio.service.download_original(key, bucket)) == PICTURE


def test_what_others_put_into_the_buckets_can_be_read(studio):
    studio.client.put_object(Bucket=studio.visualization, Key="a/b/thumbnail.webp", Body=b"theirs")
    assert run(studio.service.download_original("a/b/thumbnail.webp", studio.visualization)) == b"theirs"


def test_a_missing_key_is_not_found(studio):
    with pytest.raises(NotFoundError):
        run(studio.service.download_original("session-1/none.jpg", studio.original))


def test_what_is_not_ready_is_not_found(studio):
    hold = studio.hold("f" * 64)
    studio.client.put_object(Bucket=studio.original, Key=hold.image.s3_key_original, Body=b"half")
    with pytest.raises(NotFoundError):
        run(studio.service.download_original(hold.image.s3_key_original, studio.original))


def test_other_bytes_than_were_uploaded_are_never_given_out(studio):
    response = studio.upload()
    studio.client.put_object(Bucket=studio.original, Key=response.s3_key_original, Body=b"another's")
    with pytest.raises(S3DownloadException, match="other bytes than were uploaded") as failed:
        run(studio.service.download_original(response.s3_key_original, studio.original))
    assert failed.value.details["cause"] == "storage_damage"


def test_an_object_that_does_not_fit_into_memory_is_refused(studio):
    response = studio.upload()
    with pytest.raises(FileTooLargeError):
        run(studio.another(max_file_bytes=100).download_original(response.s3_key_original, studio.original))


def test_a_storage_that_does_not_answer_fails_a_download(studio):
    response = studio.upload()
    with FaultProxy(studio.server.port, mode="reset") as proxy:
        service = studio.another(studio.places_at(f"http://127.0.0.1:{proxy.port}"))
        with pytest.raises(S3DownloadException) as failed:
            run(service.download_original(response.s3_key_original, studio.original))
    assert failed.value.retry is Retry.UNAVAILABLE


def test_the_bucket_of_somebody_else_is_refused(studio):
    theirs = studio.server.new_bucket("theirs")
    studio.client.put_object(Bucket=theirs, Key="a/secret.jpg", Body=b"secret")
    for refused in (
        studio.service.download_original("a/secret.jpg", theirs),
        studio.service.generate_presigned_url("a/secret.jpg", theirs),
    ):
        with pytest.raises(ValidationException, match="none of the service's"):
            run(refused)
    trusting = studio.another(other_buckets=frozenset({theirs}))
    assert run(trusting.download_original("a/secret.jpg", theirs)) == b"secret"


def test_an_address_is_read_by_any_client_until_it_expires(studio):
    response = studio.upload()
    key, bucket = response.s3_key_original, response.s3_bucket
    url = run(studio.service.generate_presigned_url(key, bucket, 1))
    assert parse_qs(urlsplit(url).query)["X-Amz-Expires"] == ["3600"]
    assert httpx.get(url).content == PICTURE
    assert httpx.get(url.replace("leaf.jpg", "other.jpg")).status_code == 403


@pytest.mark.slow
def test_an_expired_address_is_refused(studio):
    response = studio.upload()
    signing = Presigning(studio.original, studio.places.original.options)
    url = signing.get(response.s3_key_original, expires_in_seconds=1)
    ends_at = time.monotonic() + 60
    while (answer := httpx.get(url)).status_code == 200 and time.monotonic() < ends_at:
        time.sleep(0.2)  # only the server's clock can tell
    assert answer.status_code == 403


def test_the_settings_say_how_long_where_nobody_else_does(studio):
    service = studio.another(expiry_hours=168)
    request = PresignedUrlRequest(s3_key="a/b.jpg", bucket=studio.original)
    response = run(service.presign(request))
    assert (response.expiry_hours, response.s3_key, response.bucket) == (168, "a/b.jpg", studio.original)
    assert parse_qs(urlsplit(response.presigned_url).query)["X-Amz-Expires"] == ["604800"]
    assert abs(response.expires_at - datetime.now(UTC) - timedelta(hours=168)) < timedelta(minutes=5)


def test_signing_asks_nobody(studio):
    with FaultProxy(studio.server.port, mode="refuse") as proxy:
        service = studio.another(studio.places_at(f"http://127.0.0.1:{proxy.port}"))
        assert run(service.generate_presigned_url("a/b.jpg", studio.original)).startswith("http://127.0.0.1")
        assert proxy.accepted == 0


def test_without_credentials_nothing_is_signed(studio, monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    storage = S3Storage(
        studio.original, options=S3Options(endpoint_url=studio.server.url, region="eu-west-3")
    )
    places = S3ImagePlaces(original=storage, visualization=storage, breaker=studio.breaker)
    with pytest.raises(S3PresignException, match="No address could be signed") as failed:
        run(
            S3ImageService(studio.repository, places, studio.terms).generate_presigned_url(
                "a/b", studio.original
            )
        )
    assert failed.value.retry is Retry.UNAVAILABLE
