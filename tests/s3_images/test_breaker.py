"""The breaker before S3: five outages open it, a minute later one call tries."""

import pytest

from fault_proxy import FaultProxy
from image_processor.errors import NotFoundError
from image_processor.s3_images import (
    S3DeleteException,
    S3DownloadException,
    S3UploadException,
    ValidationException,
)
from image_processor.storage.breaker import BreakerState
from s3_images.studio import PICTURE, SESSION, run


@pytest.fixture
def where(sqlite_where):
    return sqlite_where


@pytest.fixture
def weather(studio):
    with FaultProxy(studio.server.port) as proxy:
        studio.service = studio.another(studio.places_at(f"http://127.0.0.1:{proxy.port}"))
        yield proxy


def fail(studio, times):
    for number in range(times):
        with pytest.raises(S3UploadException):
            studio.upload(filename=f"{number}.jpg")


def test_five_failures_open_it_and_one_success_after_a_minute_closes_it(studio, weather):
    weather.mode = "refuse"
    fail(studio, 4)
    assert studio.breaker.state is BreakerState.CLOSED
    fail(studio, 1)
    assert studio.breaker.state is BreakerState.OPEN
    weather.mode = "pass"
    came = weather.accepted
    with pytest.raises(S3UploadException, match="left alone for now") as refused:
        studio.upload()
    assert refused.value.retry_after_seconds == 60
    assert weather.accepted == came
    studio.clock.now += 59
    with pytest.raises(S3UploadException):
        studio.upload()
    studio.clock.now += 1
    assert studio.upload().status == "ready"
    assert studio.breaker.state is BreakerState.CLOSED


def test_a_trial_that_fails_opens_it_for_another_minute(studio, weather):
    weather.mode = "refuse"
    fail(studio, 5)
    studio.clock.now += 60
    fail(studio, 1)
    weather.mode = "pass"
    studio.clock.now += 59
    with pytest.raises(S3UploadException, match="left alone"):
        studio.upload()


def test_missing_keys_and_refused_arguments_neither_count_nor_hide(studio, weather):
    for _ in range(6):
        with pytest.raises(NotFoundError):
            run(studio.service.download_original("session-1/none.jpg", studio.original))
        with pytest.raises(ValidationException):
            run(studio.service.upload_original(b"", SESSION, {"filename": "a.jpg"}))
    assert (studio.breaker.state, studio.breaker.failures) == (BreakerState.CLOSED, 0)
    weather.mode = "refuse"
    fail(studio, 4)
    weather.mode = "pass"
    with pytest.raises(NotFoundError):
        run(studio.service.download_original("session-1/none.jpg", studio.original))
    weather.mode = "refuse"
    fail(studio, 1)
    assert studio.breaker.state is BreakerState.OPEN


def test_uploads_downloads_and_deletions_count_together_and_signing_goes_on(studio, weather):
    response = studio.upload()
    key = response.s3_key_original
    weather.mode = "refuse"
    fail(studio, 2)
    for _ in range(2):
        with pytest.raises(S3DownloadException):
            run(studio.service.download_original(key, studio.original))
    with pytest.raises(S3DeleteException):
        run(studio.service.delete_image(response.image_id))
    assert studio.breaker.state is BreakerState.OPEN
    assert run(studio.service.generate_presigned_url(key, studio.original)).startswith("http")
    weather.mode = "pass"
    for refused in (
        studio.service.upload_visualization(PICTURE, SESSION, "a.jpg"),
        studio.service.delete_image(response.image_id),
    ):
        with pytest.raises((S3UploadException, S3DeleteException), match="left alone"):
            run(refused)
