"""What boto3 and the connection below it say, in our words; and the one client of a process."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import urllib3
from botocore import exceptions

from image_processor.errors import (
    BucketMissingError,
    ConfigurationError,
    ImageProcessorError,
    InvalidKeyError,
    InvalidRequestError,
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
from image_processor.storage import S3Storage
from image_processor.storage.s3 import S3Options, WriteTerms
from image_processor.storage.s3.client import BY_CODE, client_for, forget_client, translated

OPTIONS = S3Options(
    region="eu-central-1",
    endpoint_url="http://127.0.0.1:9",
    access_key_id="key",
    secret_access_key="secret",
    max_attempts=1,
)
ANSWERS = [
    ("NoSuchKey", 404, NotFoundError),
    ("404", 404, NotFoundError),
    ("NoSuchBucket", 404, BucketMissingError),
    ("InvalidBucketName", 400, BucketMissingError),
    ("NoSuchUpload", 404, StorageError),
    ("AccessDenied", 403, StorageDeniedError),
    ("403", 403, StorageDeniedError),
    ("SomethingNew", 403, StorageDeniedError),
    ("InvalidAccessKeyId", 403, StorageCredentialsError),
    ("SignatureDoesNotMatch", 403, StorageCredentialsError),
    ("ExpiredToken", 400, StorageCredentialsError),
    ("RequestTimeTooSkewed", 403, StorageClockError),
    ("SlowDown", 503, StorageThrottledError),
    ("TooManyRequests", 429, StorageThrottledError),
    ("503", 503, StorageThrottledError),
    ("ServiceUnavailable", 503, StorageDownError),
    ("InternalError", 500, StorageDownError),
    ("", 502, StorageDownError),
    ("RequestTimeout", 400, StorageTimeoutError),
    ("XMinioStorageFull", 507, StorageFullError),
    ("BadDigest", 400, StorageDamageError),
    ("PreconditionFailed", 412, StorageDamageError),
    ("InvalidRange", 416, StorageDamageError),
    ("MalformedXML", 400, StorageError),
]
FAILURES = [
    (exceptions.ConnectTimeoutError(endpoint_url="x"), StorageTimeoutError),
    (exceptions.ReadTimeoutError(endpoint_url="x"), StorageTimeoutError),
    (TimeoutError(), StorageTimeoutError),
    (exceptions.EndpointConnectionError(endpoint_url="x"), StorageDownError),
    (exceptions.ConnectionClosedError(endpoint_url="x"), StorageDownError),
    (exceptions.SSLError(endpoint_url="x", error="x"), StorageDownError),
    (exceptions.ProxyConnectionError(proxy_url="x"), StorageDownError),
    (exceptions.NoCredentialsError(), StorageCredentialsError),
    (exceptions.PartialCredentialsError(provider="x", cred_var="y"), StorageCredentialsError),
    (exceptions.IncompleteReadError(actual_bytes=1, expected_bytes=2), StorageDamageError),
    (exceptions.FlexibleChecksumError(error_msg="x"), StorageDamageError),
    (
        exceptions.ResponseStreamingError(
            error=urllib3.exceptions.ProtocolError("broken", urllib3.exceptions.IncompleteRead(1, 2))
        ),
        StorageDamageError,
    ),
    (
        exceptions.ResponseStreamingError(
            error=urllib3.exceptions.ProtocolError("broken", ConnectionResetError())
        ),
        StorageDownError,
    ),
    (exceptions.ParamValidationError(report="x"), StorageError),
]


def answer(code, status, **headers):
    return exceptions.ClientError(
        {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": headers}},
        "GetObject",
    )


def raised(error):
    with pytest.raises(ImageProcessorError) as caught, translated("read 'a'"):
        raise error
    assert caught.value.__cause__ is error
    return caught.value


@pytest.mark.parametrize(("code", "status", "expected"), ANSWERS)
def test_an_answer_has_its_error(code, status, expected):
    assert type(raised(answer(code, status))) is expected


@pytest.mark.parametrize(
    ("failure", "expected"), FAILURES, ids=lambda value: getattr(value, "__name__", None)
)
def test_a_failure_has_its_error(failure, expected):
    assert type(raised(failure)) is expected


def test_every_code_makes_a_sentence_that_does_not_charge_for_outages():
    for code, made in BY_CODE.items():
        error = made("read 'a'")
        assert error.message.endswith("."), code
        assert not isinstance(error, StorageDownError) or error.retry is Retry.UNAVAILABLE


def test_the_storage_may_say_when_to_come_back():
    assert raised(answer("SlowDown", 503, **{"retry-after": "40"})).retry_after_seconds == 40
    assert raised(answer("InternalError", 500, **{"retry-after": "9" * 30})).retry_after_seconds == 300
    for odd in ("soon", "-1", "²"):
        error = raised(answer("SlowDown", 503, **{"retry-after": odd}))
        assert error.retry_after_seconds == StorageThrottledError.retry_after_seconds


def test_equal_options_share_a_client():
    with ThreadPoolExecutor(4) as pool:
        clients = set(pool.map(lambda _: client_for(replace(OPTIONS)), range(8)))
    assert len(clients) == 1
    assert client_for(replace(OPTIONS, region="eu-west-1")) not in clients
    forget_client(OPTIONS)
    assert client_for(OPTIONS) not in clients


def test_a_forked_process_has_its_own(monkeypatch):
    inherited = client_for(OPTIONS)
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert client_for(OPTIONS) is not inherited


def test_secrets_are_not_shown():
    assert "secret" not in repr(replace(OPTIONS, session_token="secret"))


@pytest.mark.parametrize(
    ("endpoint", "checksums", "mode"),
    [
        ("", "auto", "when_supported"),
        ("http://127.0.0.1:9", "auto", "when_required"),
        ("http://127.0.0.1:9", "when_supported", "when_supported"),
    ],
)
def test_checksums_of_boto3_are_for_aws_unless_asked_for(endpoint, checksums, mode):
    config = client_for(replace(OPTIONS, endpoint_url=endpoint, checksums=checksums)).meta.config
    assert config.request_checksum_calculation == config.response_checksum_validation == mode


def test_a_storage_needs_a_bucket_and_a_place():
    with pytest.raises(ConfigurationError, match="name of its bucket"):
        S3Storage("", options=OPTIONS)
    with pytest.raises(ConfigurationError, match="make no client"):
        S3Storage("pictures", options=replace(OPTIONS, endpoint_url="nonsense"))


def test_its_region_stands_above_that_of_the_options():
    storage = S3Storage("pictures", region="ap-south-1", options=OPTIONS)
    assert storage.options.region == storage.client.meta.region_name == "ap-south-1"
    assert S3Storage("pictures", options=OPTIONS).client.meta.region_name == "eu-central-1"


def test_its_addresses_are_signed_or_as_one_says():
    assert "X-Amz-Signature" in S3Storage("pictures", options=OPTIONS).url("a/b.webp")
    own = S3Storage("pictures", options=OPTIONS, address=lambda key: f"https://cdn.example/{key}")
    assert own.url("a/b.webp") == "https://cdn.example/a/b.webp"
    with pytest.raises(InvalidKeyError):
        own.url("../b.webp")


@pytest.mark.parametrize(
    "headers",
    [
        {"content_type": "image/webp\r\nX-Evil: 1"},
        {"content_type": "bild/ä"},
        {"content_type": "image/webp", "cache_control": "no-store\n"},
        {"content_type": "image/webp", "metadata": {"sha256": "0" * 64}},
        {"content_type": "image/webp", "metadata": {"a\r\nb": "c"}},
        {"content_type": "image/webp", "metadata": {"note": "x" * 3000}},
    ],
)
def test_headers_that_cannot_be_sent_are_refused_before_anything_is(tmp_path, headers):
    source = tmp_path / "source"
    source.write_bytes(b"x")
    with pytest.raises(InvalidRequestError):
        S3Storage("pictures", options=OPTIONS).put("a/b.webp", source, **headers)


def test_nobody_there_is_an_outage(tmp_path):
    source = tmp_path / "source"
    source.write_bytes(bytes(6 * 1024 * 1024))
    storage = S3Storage(
        "pictures", options=OPTIONS, terms=WriteTerms(multipart_threshold_bytes=5 * 1024 * 1024)
    )
    calls = (
        lambda: storage.put("a/b.webp", source, content_type="image/webp"),
        lambda: storage.open("a/b.webp"),
        lambda: storage.stat("a/b.webp"),
        lambda: storage.delete("a/b.webp"),
        lambda: list(storage.keys("")),
        storage.check,
    )
    for call in calls:
        with pytest.raises(StorageDownError):
            call()
    assert threading.active_count() < 20


WITHOUT_BOTO3 = """
import sys
sys.modules.update(dict.fromkeys(("boto3", "botocore", "s3transfer")))
from image_processor.errors import MissingExtraError
from image_processor.storage import LocalStorage, MemoryStorage, S3Storage, Storage
try:
    S3Storage("pictures")
except MissingExtraError as error:
    print(error)
"""


def test_without_boto3_the_rest_can_be_used():
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_BOTO3], capture_output=True, text=True, check=False, timeout=60
    )
    assert "image-processor[s3]" in done.stdout, done.stderr


def test_a_disk_loads_no_boto3():
    code = "import sys; from image_processor.storage import LocalStorage; print('boto3' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "False"
