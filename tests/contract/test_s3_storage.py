"""The storage contract over a real S3 server, and what only a storage in S3 promises."""

import hashlib
import io
import random
from contextlib import contextmanager
from dataclasses import replace

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from moto import mock_aws

from image_processor.errors import (
    BucketMissingError,
    NotFoundError,
    StorageCredentialsError,
    StorageDamageError,
    StorageDeniedError,
    StorageError,
)
from image_processor.storage import S3Storage
from image_processor.storage.s3 import S3Options, WriteTerms
from image_processor.telemetry import subscribe
from image_processor.testing.storage_contract import StorageContract
from s3_server import OWNER, READER, REGION

pytestmark = pytest.mark.slow

MIB = 1024 * 1024
KEY = "pictures/large.webp"


def options_for(s3, credentials, **others):
    return S3Options(
        region=REGION,
        endpoint_url=s3.url,
        access_key_id=credentials["aws_access_key_id"],
        secret_access_key=credentials["aws_secret_access_key"],
        addressing_style="path",
        **others,
    )


@pytest.fixture(scope="module")
def bucket(s3):
    """One for all tests here, as this server has room for few."""
    s3.start()
    return s3.new_bucket("contract")


@pytest.fixture
def plain(s3):
    """A client that looks at things from outside."""
    client = s3.client()
    yield client
    client.close()


@pytest.fixture
def options(s3):
    return options_for(s3, OWNER)


@pytest.fixture
def storage(s3, bucket, plain, options):
    s3.start()
    for key in names(plain, bucket):
        plain.delete_object(Bucket=bucket, Key=key)
    return S3Storage(bucket, options=options)


@pytest.fixture
def source(tmp_path):
    """Writes a file with this content."""

    def write(content):
        path = tmp_path / f"{len(content)}.source"
        path.write_bytes(content)
        return path

    return write


def names(client, bucket):
    return [entry["Key"] for entry in client.list_objects_v2(Bucket=bucket).get("Contents", ())]


def picture(size):
    return random.Random(size).randbytes(size)


@contextmanager
def listening(storage, event, listener):
    """Calls the listener at an event of boto3's; it may change what is sent."""
    client = storage.client
    client.meta.events.register(event, listener)
    try:
        yield
    finally:
        client.meta.events.unregister(event, listener)


@contextmanager
def requests_of(storage):
    """The requests that are sent, as `GET`, or `GET bytes=5-`."""
    sent = []

    def note(request, **_):
        part = request.headers.get("Range", b"")
        sent.append(f"{request.method} {part.decode() if isinstance(part, bytes) else part}".strip())

    with listening(storage, "before-send.s3", note):
        yield sent


class TestS3Storage(StorageContract):
    """The contract itself."""


class TestPut:
    def test_stores_headers_and_metadata(self, storage, plain, source):
        terms = WriteTerms(cache_control="public, max-age=60", sse=True, storage_class="STANDARD_IA")
        strict = S3Storage(storage.bucket, options=storage.options, terms=terms)
        for size in (7, 6 * MIB):
            strict.put(
                KEY, source(picture(size)), content_type="image/webp", metadata={"Original_Size": "1.2 MB"}
            )
            found = plain.head_object(Bucket=storage.bucket, Key=KEY)
            assert found["ContentType"] == "image/webp"
            assert found["CacheControl"] == "public, max-age=60"
            assert found["ServerSideEncryption"] == "AES256"
            assert found["StorageClass"] == "STANDARD_IA"
            digest = hashlib.sha256(picture(size)).hexdigest()
            assert found["Metadata"] == {"original_size": "1.2 MB", "sha256": digest}

    def test_a_put_has_the_last_word_on_its_cache_control(self, storage, plain, source):
        terms = WriteTerms(cache_control="public, max-age=60")
        S3Storage(storage.bucket, options=storage.options, terms=terms).put(
            KEY, source(b"x"), content_type="image/webp", cache_control="no-store"
        )
        assert plain.head_object(Bucket=storage.bucket, Key=KEY)["CacheControl"] == "no-store"

    @pytest.mark.parametrize("checksums", ["when_required", "when_supported"])
    def test_what_is_large_goes_in_parts(self, storage, plain, source, checksums):
        parted = S3Storage(
            storage.bucket,
            options=replace(storage.options, checksums=checksums),
            terms=WriteTerms(multipart_threshold_bytes=5 * MIB),
        )
        content = picture(11 * MIB)
        put = parted.put(KEY, source(content), content_type="image/webp")
        assert put.sha256 == hashlib.sha256(content).hexdigest()
        assert parted.stat(KEY) == put
        assert plain.head_object(Bucket=storage.bucket, Key=KEY)["ETag"].endswith('-3"')
        with parted.open(KEY) as opened:
            assert opened.read() == content

    @pytest.mark.parametrize("checksums", ["when_required", "when_supported"])
    @pytest.mark.parametrize("size", [5, 9 * MIB])
    def test_a_body_that_was_damaged_on_the_way_is_refused(self, storage, source, checksums, size):
        careful = S3Storage(storage.bucket, options=replace(storage.options, checksums=checksums))

        def damage(params, **_):
            params["body"] = b"!" * size

        with (
            listening(careful, "before-call.s3.PutObject", damage),
            pytest.raises(StorageDamageError),
        ):
            careful.put(KEY, source(picture(size)), content_type="image/webp")
        assert list(careful.keys("")) == []

    @pytest.mark.parametrize("event", ["UploadPart", "CompleteMultipartUpload"])
    def test_a_failing_put_in_parts_leaves_nothing(self, storage, plain, source, event):
        storage.put(KEY, source(b"before"), content_type="image/webp")
        parted = with_parts(storage)

        def damage(params, **_):
            if params["query_string"].get("partNumber") in {2, "2", None}:
                params["body"] = b"damaged"

        with (
            listening(parted, f"before-call.s3.{event}", damage),
            pytest.raises(StorageError),
        ):
            parted.put(KEY, source(picture(11 * MIB)), content_type="image/webp")
        assert "Uploads" not in plain.list_multipart_uploads(Bucket=storage.bucket)
        with storage.open(KEY) as opened:
            assert opened.read() == b"before"

    def test_a_file_that_is_changed_meanwhile_is_not_stored(self, storage, plain, source):
        parted = with_parts(storage)
        path = source(picture(11 * MIB))

        def change(**_):
            with path.open("ab") as file:
                file.write(b"more")

        with (
            listening(parted, "before-call.s3.CreateMultipartUpload", change),
            pytest.raises(StorageError, match="changed"),
        ):
            parted.put(KEY, path, content_type="image/webp")
        assert list(storage.keys("")) == []
        assert "Uploads" not in plain.list_multipart_uploads(Bucket=storage.bucket)

    def test_what_vanishes_after_a_put_is_noticed(self, storage, plain, source):
        def remove(**_):
            plain.delete_object(Bucket=storage.bucket, Key=KEY)

        with (
            listening(storage, "after-call.s3.PutObject", remove),
            pytest.raises(StorageDamageError, match="just taken"),
        ):
            storage.put(KEY, source(b"x"), content_type="image/webp")

    def test_a_size_that_is_not_what_was_sent_is_noticed(self, storage, source):
        def shorten(parsed, **_):
            parsed["ContentLength"] -= 1

        with (
            listening(storage, "after-call.s3.HeadObject", shorten),
            pytest.raises(StorageDamageError, match="other bytes"),
        ):
            storage.put(KEY, source(b"picture"), content_type="image/webp")

    def test_abandoned_parts_are_swept(self, storage, plain):
        for number in range(3):
            plain.create_multipart_upload(Bucket=storage.bucket, Key=f"{number}.webp")

        def one_by_one(params, **_):
            params["MaxUploads"] = 1

        with listening(storage, "provide-client-params.s3.ListMultipartUploads", one_by_one):
            assert storage.sweep_incoming(3600) == 0
            # This server's pages do not follow on each other; what one sweep misses the next one finds.
            assert sum(iter(lambda: storage.sweep_incoming(-60), 0)) == 3
        assert "Uploads" not in plain.list_multipart_uploads(Bucket=storage.bucket)


def with_parts(storage):
    terms = WriteTerms(multipart_threshold_bytes=5 * MIB)
    return S3Storage(storage.bucket, options=storage.options, terms=terms)


class TestOpen:
    @pytest.fixture
    def content(self):
        return picture(5 * MIB + 17)

    @pytest.fixture
    def stored(self, storage, source, content):
        storage.put(KEY, source(content), content_type="image/webp")
        return storage

    def test_one_request_streams_it_all(self, stored, content):
        with requests_of(stored) as sent, stored.open(KEY) as opened:
            pieces = list(iter(lambda: opened.read(300_000), b""))
            assert b"".join(pieces) == content
        assert sent == ["GET"]

    def test_a_seek_costs_one_more(self, stored, content):
        with requests_of(stored) as sent, stored.open(KEY) as opened:
            assert opened.read(10) == content[:10]
            opened.seek(1000)
            assert opened.read(10) == content[1000:1010]
            opened.seek(4 * MIB)
            assert opened.read() == content[4 * MIB :]
            opened.seek(0, io.SEEK_END)
            assert opened.read() == b""
        assert sent == ["GET", f"GET bytes={4 * MIB}-"]

    def test_reads_as_a_file_does(self, stored, content):
        dice = random.Random(7)
        twin = io.BytesIO(content)
        with stored.open(KEY) as opened:
            for _ in range(60):
                offset = dice.choice((dice.randrange(len(content) + 9), twin.tell() + dice.randrange(5000)))
                assert opened.seek(offset) == twin.seek(offset)
                size = dice.choice((0, 1, 100, 70_000, 700_000))
                assert opened.read(size) == twin.read(size)
                assert opened.tell() == twin.tell()

    def test_an_object_that_is_replaced_meanwhile_is_no_mixture(self, stored, source, content):
        with stored.open(KEY) as opened:
            opened.read(10)
            stored.put(KEY, source(bytes(len(content))), content_type="image/webp")
            opened.seek(4 * MIB)
            with pytest.raises(StorageDamageError, match="replaced"):
                opened.read()

    def test_an_object_that_is_deleted_meanwhile_is_not_found(self, stored):
        with stored.open(KEY) as opened:
            stored.delete(KEY)
            opened.seek(4 * MIB)
            with pytest.raises(NotFoundError):
                opened.read(1)

    def test_a_server_that_knows_no_ranges_is_no_mixture_either(self, stored):
        def forget(request, **_):
            del request.headers["Range"]

        with listening(stored, "before-sign.s3.GetObject", once(forget, after=1)), stored.open(KEY) as opened:
            opened.seek(4 * MIB)
            with pytest.raises(StorageDamageError, match="another part"):
                opened.read(1)

    def test_other_bytes_than_were_stored_are_noticed_at_the_end(self, storage, plain, content):
        digest = hashlib.sha256(b"something else").hexdigest()
        plain.put_object(Bucket=storage.bucket, Key=KEY, Body=content, Metadata={"sha256": digest})
        with storage.open(KEY) as opened:
            assert opened.read(MIB) == content[:MIB]
            with pytest.raises(StorageDamageError, match="other bytes"):
                opened.read()

    def test_what_other_hands_stored_has_no_digest(self, storage, plain):
        plain.put_object(Bucket=storage.bucket, Key=KEY, Body=b"x", Metadata={"sha256": "none"})
        assert storage.stat(KEY).sha256 is None
        with storage.open(KEY) as opened:
            assert opened.read() == b"x"


class TestListing:
    def test_goes_on_over_pages(self, storage, source):
        keys = [f"a/{number}.webp" for number in range(8)]
        for key in keys:
            storage.put(key, source(b"x"), content_type="image/webp")

        def by_threes(params, **_):
            params["MaxKeys"] = 3

        with (
            listening(storage, "provide-client-params.s3.ListObjectsV2", by_threes),
            requests_of(storage) as sent,
        ):
            listing = storage.keys("a/")
            assert sent == []
            assert next(listing) == keys[0]
            assert sent == ["GET"]
            assert list(listing) == keys[1:]
        assert sent == ["GET"] * 3

    def test_passes_over_what_is_no_key(self, storage, plain):
        for name in ("a/..b", "with space", "folder/", "ä.webp", "good.webp"):
            plain.put_object(Bucket=storage.bucket, Key=name, Body=b"x")
        assert list(storage.keys("")) == ["good.webp"]

    def test_a_key_may_run_through_another(self, storage, source):
        for key in ("a/b", "a", "a/b/c"):
            storage.put(key, source(key.encode()), content_type="image/webp")
        storage.delete("a/b")
        assert sorted(storage.keys("")) == ["a", "a/b/c"]


class TestVersions:
    @pytest.fixture
    def versioned(self, storage, s3, plain):
        bucket = s3.new_bucket("versioned")
        plain.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        return S3Storage(bucket, options=storage.options)

    def test_a_delete_removes_them_all_and_spares_what_comes_meanwhile(self, versioned, plain, source):
        for content in (b"1", b"22", b"333"):
            versioned.put(KEY, source(content), content_type="image/webp")
        versioned.put(f"{KEY}2", source(b"x"), content_type="image/webp")
        assert versioned.delete(KEY) is True
        assert versions(plain, versioned) == [f"{KEY}2"]

        def put_again(**_):
            versioned.put(KEY, source(b"new"), content_type="image/webp")

        versioned.put(KEY, source(b"old"), content_type="image/webp")
        with listening(versioned, "after-call.s3.DeleteObject", once(put_again)):
            assert versioned.delete(KEY) is True
        assert versions(plain, versioned) == [KEY, f"{KEY}2"]
        with versioned.open(KEY) as opened:
            assert opened.read() == b"new"
        assert versioned.delete(KEY) is True
        assert versioned.delete(KEY) is False

    def test_versions_that_we_may_not_list_stay_hidden(self, versioned, plain, source):
        heard = []
        versioned.put(KEY, source(b"1"), content_type="image/webp")
        stop_listening = subscribe(lambda event, fields: heard.append((event, fields["error"])))
        try:
            with listening(versioned, "before-send.s3.ListObjectVersions", deny):
                assert versioned.delete(KEY) is True
        finally:
            stop_listening()
        assert heard == [("storage.versions.kept", "storage_denied")]
        assert versions(plain, versioned) == [KEY, KEY]
        assert list(versioned.keys("")) == []

    def test_a_delete_that_was_stopped_is_brought_to_its_end(self, monkeypatch, source):
        """SeaweedFS does not tell of delete markers, as S3 does."""
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        with mock_aws():
            plain = boto3.client("s3", region_name=REGION)
            plain.create_bucket(Bucket="versioned")
            plain.put_bucket_versioning(Bucket="versioned", VersioningConfiguration={"Status": "Enabled"})
            versioned = S3Storage("versioned", options=S3Options(region=REGION, read_timeout_seconds=21))
            for content in (b"1", b"22"):
                versioned.put(KEY, source(content), content_type="image/webp")
            with (
                listening(versioned, "before-call.s3.ListObjectVersions", once(stop)),
                pytest.raises(KeyboardInterrupt),
            ):
                versioned.delete(KEY)
            assert versions(plain, versioned) == [KEY] * 3
            assert versioned.delete(KEY) is False
            assert "Versions" not in plain.list_object_versions(Bucket="versioned")


def deny(request, **_):
    """S3's answer where a policy does not allow this one thing; SeaweedFS knows no such policies."""
    body = b"<Error><Code>AccessDenied</Code></Error>"
    return AWSResponse(request.url, 403, {}, RawBody(body))


class RawBody(io.BytesIO):
    def stream(self, **_):
        yield self.read()


def stop(**_):
    raise KeyboardInterrupt


def versions(client, storage):
    found = client.list_object_versions(Bucket=storage.bucket)
    return sorted(entry["Key"] for entry in (*found.get("Versions", ()), *found.get("DeleteMarkers", ())))


def once(work, after=0):
    """Work that is done at one call alone, the first if not so many are to pass."""
    calls = iter(range(1_000_000))

    def call(**event):
        if next(calls) == after:
            work(**event)

    return call


class TestRefusals:
    def test_a_missing_bucket_is_told_from_a_missing_key(self, options, source):
        storage = S3Storage("no-such-bucket", options=options)
        calls = (
            lambda: storage.put(KEY, source(b"x"), content_type="image/webp"),
            lambda: storage.open(KEY),
            lambda: storage.stat(KEY),
            lambda: storage.delete(KEY),
            lambda: list(storage.keys("")),
            storage.check,
        )
        for call in calls:
            with pytest.raises(BucketMissingError):
                call()

    def test_wrong_credentials_have_their_own_error(self, s3, storage, source):
        strangers = {"aws_access_key_id": "nobody", "aws_secret_access_key": "nothing"}
        liars = {**OWNER, "aws_secret_access_key": "guessed"}
        for credentials in (strangers, liars):
            other = S3Storage(storage.bucket, options=options_for(s3, credentials))
            with pytest.raises(StorageCredentialsError):
                other.check()
            with pytest.raises(StorageCredentialsError):
                other.stat(KEY)
            with pytest.raises(StorageCredentialsError):
                other.delete(KEY)
            with pytest.raises(StorageCredentialsError):
                other.put(KEY, source(b"x"), content_type="image/webp")

    def test_what_we_may_not_do_is_denied(self, s3, storage, source):
        storage.put(KEY, source(b"x"), content_type="image/webp")
        reader = S3Storage(storage.bucket, options=options_for(s3, READER))
        calls = (lambda: reader.stat(KEY), lambda: reader.open(KEY), lambda: reader.delete(KEY), reader.check)
        for call in calls:
            with pytest.raises(StorageDeniedError):
                call()

    def test_credentials_are_found_anew_after_a_refusal(self, s3, storage, tmp_path, monkeypatch):
        file = tmp_path / "credentials"
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
            monkeypatch.delenv(name, raising=False)

        def write(secret):
            key = OWNER["aws_access_key_id"]
            file.write_text(f"[default]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n")

        write("from-yesterday")
        found = S3Storage(
            storage.bucket, options=replace(storage.options, access_key_id="", secret_access_key="")
        )
        with pytest.raises(StorageCredentialsError):
            found.check()
        write(OWNER["aws_secret_access_key"])
        found.check()
