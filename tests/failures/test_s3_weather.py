"""
What a storage in S3 makes of bad weather, on a real server behind a proxy that stages it.

Each kind ends as an error of its own with a sentence and a retry decision, in bounded time, and no
half-written object ever shows.
"""

import datetime as dt
import random
import time
from dataclasses import dataclass

import botocore.auth
import pytest

from image_processor.errors import (
    BucketMissingError,
    NotFoundError,
    Retry,
    StorageClockError,
    StorageCredentialsError,
    StorageDamageError,
    StorageDeniedError,
    StorageDownError,
    StorageError,
    StorageFullError,
    StorageThrottledError,
    StorageTimeoutError,
)
from image_processor.jobs import Status
from image_processor.jobs.retry import History, RetryPolicy
from image_processor.storage.base import Guards
from image_processor.storage.breaker import Breaker, BreakerState
from image_processor.storage.s3 import S3Options, S3Storage, reading
from image_processor.storage.s3.client import forget_client
from image_processor.storage.s3.writing import WriteTerms
from s3_server import OWNER, READER, REGION
from s3_weather import S3Weather, Weather

pytestmark = pytest.mark.slow

MIB = 1024 * 1024
READ_SECONDS = 2.0
SHORT_READ_SECONDS = 0.3
"""Where the answer is not to come."""
BOUND_SECONDS = 15.0
"""Far above what one call may take with that, and far below boto3's own minutes."""
TYPE = "application/octet-stream"
SMALL = random.Random(5).randbytes(300_000)
LARGE = random.Random(6).randbytes(6 * MIB)
"""Goes in two parts."""
EXPECTED_RETRY = {
    NotFoundError: Retry.NEVER,
    StorageError: Retry.TRANSIENT,
    StorageDamageError: Retry.TRANSIENT,
    StorageFullError: Retry.UNAVAILABLE,
    StorageDownError: Retry.UNAVAILABLE,
    StorageTimeoutError: Retry.UNAVAILABLE,
    StorageThrottledError: Retry.UNAVAILABLE,
    StorageDeniedError: Retry.UNAVAILABLE,
    StorageCredentialsError: Retry.UNAVAILABLE,
    StorageClockError: Retry.UNAVAILABLE,
    BucketMissingError: Retry.UNAVAILABLE,
}
DECISIONS = {
    Retry.NEVER: (Status.FAILED, False),
    Retry.TRANSIENT: (Status.RETRYING, False),
    Retry.UNAVAILABLE: (Status.RETRYING, True),
}
"""The next state after a first attempt, and whether that attempt is given back."""


@dataclass(frozen=True)
class Place:
    """A bucket behind the weather, and a plain look at it that no weather touches."""

    sky: S3Weather
    bucket: str
    outside: object

    def visible(self):
        """The keys and sizes that the bucket shows."""
        listing = self.outside.list_objects_v2(Bucket=self.bucket)
        return {entry["Key"]: entry["Size"] for entry in listing.get("Contents", ())}

    def open_uploads(self):
        return self.outside.list_multipart_uploads(Bucket=self.bucket).get("Uploads", [])

    def bytes_of(self, key):
        with self.outside.get_object(Bucket=self.bucket, Key=key)["Body"] as body:
            return body.read()


@pytest.fixture(scope="module")
def sky(s3):
    s3.start()
    with S3Weather(s3.port) as sky:
        yield sky


@pytest.fixture(scope="module")
def place(s3, sky):
    """One bucket for all: the first put of a bucket is slow here, as the server makes its volumes."""
    outside = s3.client()
    bucket = s3.new_bucket()
    outside.put_object(Bucket=bucket, Key="small", Body=SMALL)
    outside.put_object(Bucket=bucket, Key="large", Body=LARGE)
    yield Place(sky, bucket, outside)
    outside.close()


@pytest.fixture
def weather(place):
    """Stages a storm, until the test ends."""
    return place.sky.stage


@pytest.fixture(autouse=True)
def clear_skies(place):
    yield
    place.sky.clear()


@pytest.fixture(scope="module")
def storage_of(sky):
    """Makes storages whose requests go through the weather; those with equal options share a client."""
    made = {}

    def make(bucket, *, credentials=OWNER, guards=None, **options):
        own = {"max_attempts": 1, "read_timeout_seconds": READ_SECONDS, **options}
        options = S3Options(
            region=REGION,
            endpoint_url=sky.url,
            access_key_id=credentials["aws_access_key_id"],
            secret_access_key=credentials["aws_secret_access_key"],
            connect_timeout_seconds=2,
            **own,
        )
        terms = WriteTerms(multipart_threshold_bytes=5 * MIB)
        made[options] = S3Storage(bucket, options=options, terms=terms, guards=guards)
        return made[options]

    yield make
    for options, storage in made.items():
        storage.client.close()
        forget_client(options)


@pytest.fixture
def storage(storage_of, place):
    return storage_of(place.bucket)


@pytest.fixture
def impatient(storage_of, place):
    return storage_of(place.bucket, read_timeout_seconds=SHORT_READ_SECONDS)


@pytest.fixture
def source_of(tmp_path):
    """Makes files to store."""

    def write(content):
        path = tmp_path / "source"
        path.write_bytes(content)
        return path

    return write


@pytest.fixture
def small(source_of):
    return source_of(SMALL)


def read(storage, key="small"):
    with storage.open(key) as file:
        return file.read()


CALLS = {
    "put": lambda storage, source: storage.put("unwritten", source, content_type=TYPE),
    "open": lambda storage, _source: read(storage),
    "stat": lambda storage, _source: storage.stat("small"),
    "delete": lambda storage, _source: storage.delete("small"),
    "list": lambda storage, _source: list(storage.keys("")),
    "check": lambda storage, _source: storage.check(),
}


def failure(error, call, *arguments):
    """The error of a call, checked for its class, its words, its retry decision and its time."""
    began = time.monotonic()
    with pytest.raises(error) as caught:
        call(*arguments)
    assert time.monotonic() - began < BOUND_SECONDS
    found = caught.value
    assert type(found) is error, "a class of its own"
    sentence = str(found)
    assert sentence.endswith(".")
    assert sentence[0].isupper()
    for secret in (*OWNER.values(), *READER.values(), "127.0.0.1", "Staged"):
        assert secret not in sentence
    assert found.retry is EXPECTED_RETRY[error]
    decision = RetryPolicy().decide(found, History(attempt=1, max_retries=3))
    assert (decision.status, decision.refunds_attempt) == DECISIONS[found.retry]
    return found


# What is wrong with what is asked, or with who asks


@pytest.mark.parametrize("call", ["open", "stat"])
def test_a_missing_object(storage_of, place, s3, small, call):
    empty = storage_of(s3.new_bucket())
    failure(NotFoundError, CALLS[call], empty, small)
    assert empty.delete("small") is False


@pytest.mark.parametrize("call", CALLS)
def test_a_denied_one(storage_of, place, small, call):
    failure(StorageDeniedError, CALLS[call], storage_of(place.bucket, credentials=READER), small)


@pytest.mark.parametrize("call", ["put", "delete"])
def test_one_that_may_be_read_and_not_written(storage_of, s3, place, small, call):
    bucket = s3.new_bucket("readable")
    place.outside.put_object(Bucket=bucket, Key="small", Body=SMALL)
    readable = storage_of(bucket, credentials=READER)
    assert read(readable) == SMALL
    assert list(readable.keys("")) == ["small"]
    readable.check()
    failure(StorageDeniedError, CALLS[call], readable, small)


@pytest.mark.parametrize("call", CALLS)
def test_a_missing_bucket(storage_of, place, small, call):
    failure(BucketMissingError, CALLS[call], storage_of("no-such-bucket-at-all"), small)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    "changed", [{"aws_access_key_id": "nobody"}, {"aws_secret_access_key": "wrong"}], ids=["key", "secret"]
)
def test_wrong_credentials(storage_of, place, small, call, changed):
    stranger = storage_of(place.bucket, credentials={**OWNER, **changed})
    found = failure(StorageCredentialsError, CALLS[call], stranger, small)
    assert "nobody" not in str(found)


@pytest.mark.parametrize("call", CALLS)
def test_a_clock_that_is_an_hour_late(storage, small, monkeypatch, call):
    """Ours, where requests are signed: the server's answer is its own."""

    def an_hour_ago(*, remove_tzinfo=True):
        moment = dt.datetime.now(dt.UTC) - dt.timedelta(hours=1)
        return moment.replace(tzinfo=None) if remove_tzinfo else moment

    monkeypatch.setattr(botocore.auth, "get_current_datetime", an_hour_ago)
    failure(StorageClockError, CALLS[call], storage, small)


# What the server answers when it is not well


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ((500, "InternalError"), StorageDownError),
        ((503, "SlowDown"), StorageThrottledError),
        ((429, "TooManyRequests"), StorageThrottledError),
        ((400, "RequestTimeout"), StorageTimeoutError),
        ((403, "AccessDenied"), StorageDeniedError),
        ((403, "SignatureDoesNotMatch"), StorageCredentialsError),
        ((400, "ExpiredToken"), StorageCredentialsError),
        ((403, "RequestTimeTooSkewed"), StorageClockError),
        ((404, "NoSuchBucket"), BucketMissingError),
        ((507, "XMinioStorageFull"), StorageFullError),
        ((501, "NotImplemented"), StorageDownError),
        ((418, "SomethingElse"), StorageError),
    ],
    ids=lambda value: value[1] if isinstance(value, tuple) else "",
)
def test_an_answer_that_is_an_error(storage, place, small, answer, error):
    before = place.visible()
    status, code = answer
    place.sky.stage(Weather.ANSWER, status=status, code=code)
    for call in CALLS.values():
        failure(error, call, storage, small)
    assert place.visible() == before
    assert place.open_uploads() == []


@pytest.mark.parametrize("call", CALLS)
def test_a_server_that_is_not_available(storage, weather, small, call):
    """S3 tells a HEAD no reason for its 503, and the usual one is that there are too many requests."""
    weather(Weather.ANSWER, status=503, code="ServiceUnavailable")
    error = StorageThrottledError if call in {"stat", "delete"} else StorageDownError
    failure(error, CALLS[call], storage, small)


def test_throttling_waits_longer_than_another_outage():
    policy, history = RetryPolicy(), History(attempt=1, max_retries=3)
    down = policy.decide(StorageDownError("Down."), history).delay_seconds
    throttled = policy.decide(StorageThrottledError("Slow down."), history).delay_seconds
    assert 0 < down < throttled


# Connections


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("kind", [Weather.DROP, Weather.RESET])
def test_a_connection_that_ends_without_an_answer(storage, weather, small, call, kind):
    weather(kind)
    failure(StorageDownError, CALLS[call], storage, small)


@pytest.mark.parametrize("call", ["open", "stat", "list", "check"])
def test_a_connection_that_falls_silent(impatient, weather, small, call):
    weather(Weather.SILENCE)
    failure(StorageTimeoutError, CALLS[call], impatient, small)


@pytest.mark.parametrize("call", ["put", "open", "stat", "list", "check"])
def test_one_failure_is_weathered_by_the_second_try_inside_a_call(storage_of, place, weather, small, call):
    patient = storage_of(place.bucket, max_attempts=2)
    before = place.sky.requests.total()
    weather(Weather.RESET, times=1)
    CALLS[call](patient, small)
    assert place.sky.requests.total() >= before + 2
    patient.delete("unwritten")


def test_a_slow_server_is_waited_for(storage, weather, small):
    weather(Weather.DELAY, seconds=0.2)
    assert read(storage) == SMALL
    assert storage.put("slow", small, content_type=TYPE).size_bytes == len(SMALL)


# Bodies that come wrongly


@pytest.mark.parametrize("key", ["small", "large"])
def test_a_body_that_ends_too_early(storage, weather, key):
    weather(Weather.TRUNCATE, method="GET")
    failure(StorageDamageError, read, storage, key)


@pytest.mark.parametrize("key", ["small", "large"])
def test_a_body_that_stalls(impatient, weather, key):
    weather(Weather.STALL, method="GET")
    failure(StorageTimeoutError, read, impatient, key)


def test_a_body_that_drips(storage, weather, monkeypatch):
    monkeypatch.setattr(reading, "PATIENCE_SECONDS", 0.5)
    monkeypatch.setattr(reading, "FIRST_BYTES", 16)
    weather(Weather.DRIP, method="GET", seconds=0.02)
    failure(StorageTimeoutError, read, storage, "large")


def test_a_body_that_breaks_off_once_is_gone_on_with(storage, weather, place):
    before = place.sky.count("GET", "/large")
    weather(Weather.TRUNCATE, method="GET", times=1)
    assert read(storage, "large") == LARGE
    assert place.sky.count("GET", "/large") == before + 2


@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["in one", "in parts"])
def test_a_body_with_another_byte_is_not_taken_for_the_object(storage, weather, source_of, content):
    storage.put("summed", source_of(content), content_type=TYPE)
    weather(Weather.CORRUPT, method="GET", times=1)
    failure(StorageDamageError, read, storage, "summed")
    assert read(storage, "summed") == content


# Puts on the way


FAILING_PUTS = {
    Weather.DROP: StorageDownError,
    Weather.RESET: StorageDownError,
    Weather.HALF_SENT: StorageDownError,
    Weather.CHANGED: StorageDamageError,
    Weather.ANSWER: StorageDownError,
}


@pytest.mark.parametrize("kind", FAILING_PUTS)
@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["in one", "in parts"])
def test_a_put_that_fails_leaves_what_was_there(storage, place, source_of, kind, content):
    storage.put("kept", source_of(b"older"), content_type=TYPE)
    before = place.visible()
    place.sky.stage(kind, method="PUT")
    for key in ("kept", "fresh"):
        failure(FAILING_PUTS[kind], lambda key=key: storage.put(key, source_of(content), content_type=TYPE))
    assert place.visible() == before
    assert place.open_uploads() == []
    assert place.bytes_of("kept") == b"older"
    place.sky.clear()
    storage.put("kept", source_of(content), content_type=TYPE)
    assert place.bytes_of("kept") == content


@pytest.mark.parametrize(
    ("kind", "error"),
    [(Weather.LOST_REPLY, StorageDownError), (Weather.SILENCE, StorageTimeoutError)],
    ids=str,
)
def test_a_put_whose_reply_is_lost_is_there_whole_and_a_retry_is_harmless(
    storage_of, place, small, kind, error
):
    impatient = storage_of(place.bucket, read_timeout_seconds=SHORT_READ_SECONDS)
    place.sky.stage(kind, method="PUT", times=1)
    failure(error, lambda: impatient.put(kind, small, content_type=TYPE))
    assert place.bytes_of(kind) == SMALL
    patient = storage_of(place.bucket)
    assert patient.put(kind, small, content_type=TYPE).sha256 == patient.stat(kind).sha256
    assert place.bytes_of(kind) == SMALL


@pytest.mark.parametrize(("method", "within"), [("PUT", "partNumber=2"), ("POST", "uploadId=")])
def test_a_put_in_parts_whose_reply_is_lost_is_completed_by_the_second_try(
    storage_of, place, source_of, method, within
):
    storage = storage_of(place.bucket, max_attempts=2)
    place.sky.stage(Weather.LOST_REPLY, method=method, within=within, times=1)
    assert storage.put(method, source_of(LARGE), content_type=TYPE).size_bytes == len(LARGE)
    assert place.bytes_of(method) == LARGE
    assert place.open_uploads() == []


def test_parts_that_cannot_be_taken_back_in_the_storm_stay_hidden_until_they_are_swept(
    storage, weather, place, source_of
):
    before = place.visible()
    weather(Weather.ANSWER, method="PUT", status=503, code="ServiceUnavailable")
    weather(Weather.DROP, method="DELETE")
    failure(StorageDownError, lambda: storage.put("hidden", source_of(LARGE), content_type=TYPE))
    assert place.visible() == before
    assert [upload["Key"] for upload in place.open_uploads()] == ["hidden"]
    place.sky.clear()
    assert storage.sweep_incoming(3600) == 0, "it is younger than that"
    assert storage.sweep_incoming(-3600) == 1
    assert place.open_uploads() == []


# With the breaker


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_five_failures_open_the_breaker_and_the_server_is_left_alone(storage_of, weather, place, small):
    clock = Clock()
    guards = Guards(reading=Breaker("reading", clock=clock), writing=Breaker("writing", clock=clock))
    guarded = storage_of(place.bucket, guards=guards)
    for _ in range(8):
        with pytest.raises(NotFoundError):
            guarded.open("absent")
    weather(Weather.ANSWER, method="GET", within="/small", status=503, code="ServiceUnavailable")
    for _ in range(5):
        failure(StorageDownError, read, guarded)
    asked = place.sky.requests.total()
    refused = failure(StorageDownError, read, guarded)
    assert refused.retry_after_seconds == 60
    assert "left alone" in str(refused)
    assert place.sky.requests.total() == asked
    assert guards.writing.state is BreakerState.CLOSED, "what is written fails apart from what is read"
    clock.now += 60
    failure(StorageDownError, read, guarded)
    assert guards.reading.state is BreakerState.OPEN
    clock.now += 60
    place.sky.clear()
    assert read(guarded) == SMALL
    assert guards.reading.state is BreakerState.CLOSED


def test_missing_and_denied_objects_never_open_it(storage_of, place, s3):
    guards = Guards(reading=Breaker("reading"), writing=Breaker("writing"))
    present, denied = (
        storage_of(place.bucket, guards=guards),
        storage_of(place.bucket, credentials=READER, guards=guards),
    )
    for _ in range(8):
        with pytest.raises(NotFoundError):
            present.stat("absent")
        with pytest.raises(StorageDeniedError):
            denied.stat("small")
    assert guards.reading.state is BreakerState.CLOSED
    assert guards.reading.failures == 0
    assert read(present) == SMALL


def test_one_object_that_always_breaks_off_shuts_nobody_out(storage_of, weather, place):
    """What its place answers before that is well: only what is down as a whole is left alone."""
    guards = Guards(reading=Breaker("reading"), writing=Breaker("writing"))
    guarded = storage_of(place.bucket, guards=guards)
    weather(Weather.TRUNCATE, method="GET", within="/large")
    for _ in range(8):
        failure(StorageDamageError, read, guarded, "large")
    assert guards.reading.state is BreakerState.CLOSED
    assert read(guarded) == SMALL
