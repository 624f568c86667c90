"""Buckets other than our own: which may be named, and how one in another region is found and read."""

import threading
from contextlib import contextmanager

import pytest

from image_processor.errors import (
    BucketMissingError,
    ConfigurationError,
    InvalidRequestError,
    StorageDownError,
)
from image_processor.storage import S3Options, S3Storage
from image_processor.storage.buckets import Buckets
from image_processor.storage.memory import MemoryStorage
from image_processor.storage.s3.buckets import Regions, regions
from web_server import answer, serving

HERE = "us-east-1"
THERE = "eu-west-3"
TELLS = f"x-amz-bucket-region: {THERE}"
LISTENING = "Connection: close"


def options(server, region=HERE):
    return S3Options(
        region=region,
        endpoint_url=f"http://127.0.0.1:{server.port}",
        access_key_id="key",
        secret_access_key="secret",
        max_attempts=1,
    )


@contextmanager
def place(reply, path="/photos"):
    with serving({path: reply}) as server:
        yield server


@pytest.mark.parametrize(
    ("status", "headers", "region"),
    [
        ("200 OK", (TELLS,), THERE),
        ("301 Moved Permanently", (TELLS,), THERE),
        ("400 Bad Request", (TELLS,), THERE),
        ("403 Forbidden", (TELLS,), THERE),
        ("200 OK", (), HERE),
        ("403 Forbidden", (), HERE),
    ],
)
def test_a_bucket_tells_its_region_even_where_it_refuses_us(status, headers, region):
    known = Regions()
    with place(answer(b"", LISTENING, *headers, status=status)) as server:
        assert known.region_of("photos", options(server)) == region
        asked = len(server.requests)
        assert known.options_for("photos", options(server)).region == region
        assert len(server.requests) == asked


@pytest.mark.parametrize(
    ("status", "error"),
    [("404 Not Found", BucketMissingError), ("500 Internal Server Error", StorageDownError)],
)
def test_what_cannot_be_found_out_is_no_region_and_is_not_remembered(status, error):
    known = Regions()
    with place(answer(b"", LISTENING, status=status)) as server:
        for _ in range(2):
            with pytest.raises(error):
                known.region_of("photos", options(server))
        assert len(server.requests) == 2


def test_only_so_many_regions_are_remembered():
    known = Regions(max_known=1)
    found = answer(b"", LISTENING, TELLS)
    with serving({"/photos": found, "/scans": found}) as server:
        for bucket in ("photos", "photos", "scans", "scans", "photos"):
            known.region_of(bucket, options(server))
        assert len(server.requests) == 3


def only_there(connection, server):
    """A bucket elsewhere, as S3 answers for it: what is signed for another region is told where to go."""
    head = server.requests[-1]
    if f"/{THERE}/s3/aws4_request" in head:
        body = b"" if head.startswith("HEAD") else b"picture"
        headers = ('ETag: "1"', "Last-Modified: Sat, 21 Nov 2026 12:00:00 GMT", TELLS)
        connection.sendall(answer(body, LISTENING, *headers))
        return
    body = (
        "<Error><Code>AuthorizationHeaderMalformed</Code><Message>wrong</Message>"
        f"<Region>{THERE}</Region></Error>"
    )
    connection.sendall(answer(body.encode(), LISTENING, status="400 Bad Request"))


def test_a_bucket_in_another_region_is_read_and_signed_for():
    with serving({"/scans/a.jpg": only_there, "/scans": answer(b"", LISTENING, TELLS)}) as server:
        storage = S3Storage("photos", options=options(server))
        assert storage.download("s3://scans/a.jpg") == b"picture"
        asked = len(server.requests)
        assert f"%2F{THERE}%2Fs3%2F" in storage.presigned_url("s3://scans/a.jpg")
        assert f"%2F{HERE}%2Fs3%2F" in storage.presigned_url("a.jpg")
        assert len(server.requests) == asked + 1
        assert regions.region_of("scans", options(server)) == THERE


class TestBuckets:
    def test_gives_each_one_that_is_set_free_once(self):
        made = []

        def new(name):
            made.append(name)
            return MemoryStorage()

        buckets = Buckets(("photos", "scans"), ("own",), new)
        threads = [threading.Thread(target=buckets, args=("photos",)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert buckets("photos") is buckets("photos")
        assert buckets("scans") is not buckets("photos")
        assert made == ["photos", "scans"]

    def test_gives_no_other(self):
        buckets = Buckets(("photos",), ("own",), lambda _name: MemoryStorage())
        for name in ("own", "others", "", "Photos", "photos/"):
            with pytest.raises(InvalidRequestError, match="S3_JOB_BUCKETS"):
                buckets(name)
        with pytest.raises(InvalidRequestError, match="no buckets are set free"):
            Buckets((), ("own",), lambda _name: MemoryStorage())("photos")

    def test_the_services_own_cannot_be_set_free(self):
        with pytest.raises(ConfigurationError, match="own: jobs could"):
            Buckets(("photos", "own"), ("own",), lambda _name: MemoryStorage())
        with pytest.raises(ConfigurationError, match="is not a bucket name"):
            Buckets(("no/bucket",), (), lambda _name: MemoryStorage())
