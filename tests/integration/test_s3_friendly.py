"""What a program does with an S3Storage by hand, on a real server; its addresses used by a plain client."""

import hashlib
import io
import re

import httpx
import pytest

from image_processor import ImageProcessor
from image_processor.errors import (
    ConflictError,
    FileTooLargeError,
    InvalidKeyError,
    InvalidRequestError,
    NotFoundError,
    StorageDeniedError,
    StorageError,
)
from image_processor.storage import S3Options, S3Storage
from image_processor.storage.keys import KeyFields
from image_processor.storage.s3.presigning import PresignedUploads, Presigning
from image_processor.storage.s3.writing import WriteTerms
from image_processor.testing import sample_images
from s3_server import OWNER, READER

PICTURE = b"not every byte is a picture"
DIGEST = hashlib.sha256(PICTURE).hexdigest()
MIB = 1024 * 1024


def options(s3, credentials=OWNER):
    return S3Options(
        region="us-east-1",
        endpoint_url=s3.url,
        access_key_id=credentials["aws_access_key_id"],
        secret_access_key=credentials["aws_secret_access_key"],
    )


@pytest.fixture
def new_storage(s3, s3_bucket):
    def new(template="{hash}.{ext}", **given):
        return S3Storage(**({"bucket": s3_bucket, "options": options(s3), "path_template": template} | given))

    return new


@pytest.fixture
def storage(new_storage):
    return new_storage()


def key_of(uri, storage):
    return uri.removeprefix(f"s3://{storage.bucket}/")


@pytest.mark.slow
class TestUpload:
    def test_takes_bytes_a_path_an_open_file_and_a_result(self, storage, tmp_path):
        path = tmp_path / "photo.PNG"
        path.write_bytes(PICTURE)
        opened = io.BytesIO(b"behind us" + PICTURE)
        opened.seek(9)
        for image in (PICTURE, bytearray(PICTURE), memoryview(PICTURE), path, str(path), opened):
            assert storage.upload(image, format="png") == f"s3://{storage.bucket}/{DIGEST}.png"
        assert storage.download(f"{DIGEST}.png") == PICTURE
        assert list(storage.keys("")) == [f"{DIGEST}.png"]
        assert storage.upload(path).endswith(".png")
        result = ImageProcessor().convert(sample_images.photo(20, 10), format="webp")
        uri = storage.upload(result)
        assert storage.download(uri) == result.data
        assert storage.stat(key_of(uri, storage)).content_type == "image/webp"
        for image in (None, 7, io.StringIO("text")):
            with pytest.raises(InvalidRequestError):
                storage.upload(image, format="png")
        with pytest.raises(NotFoundError, match="absent"):
            storage.upload(tmp_path / "absent.png")

    @pytest.mark.parametrize(
        ("given", "extension", "content_type"),
        [
            ({"format": "WEBP"}, "webp", "image/webp"),
            ({"format": "jpg"}, "jpg", "image/jpeg"),
            ({"format": "image/jpeg"}, "jpg", "image/jpeg"),
            ({"original_name": "a/b.TIFF"}, "tif", "image/tiff"),
            ({"original_name": "photo.jpg", "format": "webp"}, "webp", "image/webp"),
        ],
    )
    def test_names_the_format(self, storage, given, extension, content_type):
        uri = storage.upload(PICTURE, **given)
        assert uri.endswith(f"{DIGEST}.{extension}")
        assert storage.stat(key_of(uri, storage)).content_type == content_type

    def test_what_no_format_is_told_of_has_no_extension(self, storage, new_storage):
        for given in ({}, {"original_name": "readme.txt"}):
            with pytest.raises(InvalidRequestError, match=r"\{ext\}"):
                storage.upload(PICTURE, **given)
        with pytest.raises(InvalidRequestError, match="no image format"):
            storage.upload(PICTURE, format="exe")
        plain = new_storage("{hash}")
        plain.upload(PICTURE)
        assert plain.stat(DIGEST).content_type == "application/octet-stream"

    def test_fills_every_field_it_is_given(self, new_storage):
        storage = new_storage("{user_id}/{session_id}/{original_name}/{size}-{date}-{image_id}.{ext}")
        known = KeyFields(user_id="../ada", session_id="s 1", size="thumb")
        uris = [
            storage.upload(PICTURE, original_name="../../etc/Ä b.php.png", fields=known) for _ in range(2)
        ]
        assert len(set(uris)) == 2
        for uri in uris:
            assert re.fullmatch(
                r"ada--[0-9a-f]{16}/s-1--[0-9a-f]{16}/A-b-php/thumb-\d{4}-\d\d-\d\d-[0-9a-f-]{36}\.png",
                key_of(uri, storage),
            )
        with pytest.raises(InvalidRequestError, match=r"\{user_id\}"):
            storage.upload(PICTURE, format="png", original_name="a")

    def test_never_replaces_other_bytes(self, new_storage):
        storage = new_storage("{original_name}.{ext}")
        uri = storage.upload(PICTURE, original_name="a.png")
        assert storage.upload(PICTURE, original_name="b/a.png") == uri
        with pytest.raises(ConflictError):
            storage.upload(b"another", original_name="a.png")
        assert storage.download(uri) == PICTURE

    @pytest.mark.parametrize("theirs", [PICTURE, b"another"])
    def test_who_comes_second_at_the_same_instant_replaces_nothing(
        self, s3, new_storage, monkeypatch, theirs
    ):
        storage = new_storage("{original_name}.{ext}")

        def too_early(*_):
            """The answer to the first look, after which somebody else is faster."""
            monkeypatch.undo()
            s3.client().put_object(
                Bucket=storage.bucket,
                Key="a.png",
                Body=theirs,
                Metadata={"sha256": hashlib.sha256(theirs).hexdigest()},
            )
            raise NotFoundError("There is none.")

        monkeypatch.setattr("image_processor.storage.s3.friendly.head", too_early)
        if theirs == PICTURE:
            assert storage.upload(PICTURE, original_name="a.png").endswith("/a.png")
        else:
            with pytest.raises(ConflictError):
                storage.upload(PICTURE, original_name="a.png")
        assert storage.download("a.png") == theirs

    def test_a_file_that_changes_meanwhile_is_not_left_under_the_wrong_hash(
        self, storage, tmp_path, monkeypatch
    ):
        path = tmp_path / "a.png"
        path.write_bytes(PICTURE)
        digests = iter(["f" * 64])
        monkeypatch.setattr(
            "image_processor.storage.s3.pictures.hashlib.file_digest", lambda *_: _Digest(next(digests))
        )
        with pytest.raises(StorageError, match="changed"):
            storage.upload(path)
        assert list(storage.keys("")) == []

    def test_metadata_comes_back_as_it_was(self, storage):
        metadata = {"Original_Size": "1.2MB", "title": "Bär, 100 %", "note": " two\nlines ", "raw": "=?x?="}
        uri = storage.upload(PICTURE, format="png", metadata=metadata, cache_control="max-age=5")
        assert storage.user_metadata(uri) == {name.lower(): value for name, value in metadata.items()}
        answer = httpx.get(storage.presigned_url(uri))
        assert answer.headers["Cache-Control"] == "max-age=5"
        assert answer.headers["x-amz-meta-original_size"] == "1.2MB"

    @pytest.mark.parametrize(
        "metadata",
        [
            {"a": "x" * 2048},
            {"a b": "x"},
            {"": "x"},
            {"a\r\nx": "y"},
            {"sha256": "x"},
            {"a": 5},
            {"a": "x", "A": "y"},
        ],
    )
    def test_metadata_that_cannot_be_kept_is_refused(self, storage, metadata):
        with pytest.raises(InvalidRequestError):
            storage.upload(PICTURE, format="png", metadata=metadata)
        assert list(storage.keys("")) == []


class _Digest:
    def __init__(self, digest):
        self._digest = digest

    def hexdigest(self):
        return self._digest


@pytest.mark.slow
class TestDownload:
    def test_reads_keys_of_other_hands_and_other_buckets(self, s3, storage):
        other = s3.new_bucket()
        key = "uploads/Mein Bild (1) +ä?&#.jpg"
        s3.client().put_object(Bucket=other, Key=key, Body=PICTURE)
        uri = f"s3://{other}/{key}"
        assert storage.download(uri) == PICTURE
        assert storage.exists(uri)
        assert httpx.get(storage.presigned_url(uri)).content == PICTURE
        assert not storage.exists(f"s3://{other}/absent")
        assert not storage.exists("absent")

    def test_what_is_not_there_or_too_large_is_said(self, storage, tmp_path):
        for uri in ("absent.jpg", f"s3://{storage.bucket}/absent.jpg"):
            with pytest.raises(NotFoundError):
                storage.download(uri)
            with pytest.raises(NotFoundError):
                storage.download_to(uri, tmp_path / "a")
        for uri in ("", "s3://", "s3://bucket", "s3://bucket/", "https://a/b", "s3://B/a", "a/../b"):
            with pytest.raises(InvalidRequestError):
                storage.download(uri)
        uri = storage.upload(PICTURE, format="png")
        assert storage.download(uri, max_bytes=len(PICTURE)) == PICTURE
        with pytest.raises(FileTooLargeError):
            storage.download(uri, max_bytes=len(PICTURE) - 1)
        assert list(tmp_path.iterdir()) == []

    def test_a_bucket_that_is_closed_to_us_is_not_mistaken_for_a_missing_object(self, s3, storage):
        uri = storage.upload(PICTURE, format="png")
        stranger = S3Storage("readable-own", options=options(s3, READER))
        with pytest.raises(StorageDeniedError):
            stranger.download(uri)
        with pytest.raises(StorageDeniedError):
            stranger.exists(uri)

    def test_a_file_is_there_whole_or_not_at_all(self, storage, tmp_path):
        uri = storage.upload(PICTURE, format="png")
        target = tmp_path / "a.png"
        target.write_bytes(b"before")
        assert storage.download_to(uri, target) == target
        assert target.read_bytes() == PICTURE
        with pytest.raises(StorageError):
            storage.download_to(uri, tmp_path / "absent" / "a.png")
        assert list(tmp_path.iterdir()) == [target]


@pytest.mark.slow
class TestCopy:
    def test_comes_from_another_bucket_with_what_belongs_to_it(self, s3, storage):
        source = S3Storage(s3.new_bucket(), options=options(s3), path_template="{hash}.{ext}")
        uri = source.upload(PICTURE, format="png", metadata={"title": "Bär"}, cache_control="max-age=5")
        copied = storage.copy(uri)
        assert copied == f"s3://{storage.bucket}/{DIGEST}.png"
        assert storage.copy(uri) == copied
        assert storage.download(copied) == PICTURE
        assert storage.user_metadata(copied) == {"title": "Bär"}
        assert storage.stat(f"{DIGEST}.png").sha256 == DIGEST
        answer = httpx.get(storage.presigned_url(copied))
        assert answer.headers["Content-Type"] == "image/png"
        assert answer.headers["Cache-Control"] == "max-age=5"

    def test_replaces_nothing_and_keeps_to_our_keys(self, s3, storage):
        s3.client().put_object(Bucket=storage.bucket, Key="taken", Body=b"other")
        s3.client().put_object(Bucket=storage.bucket, Key="Bild 1.jpg", Body=PICTURE)
        with pytest.raises(ConflictError):
            storage.copy("Bild 1.jpg", "taken")
        with pytest.raises(InvalidKeyError):
            storage.copy("Bild 1.jpg")
        assert storage.copy("Bild 1.jpg", "copies/bild-1.jpg").endswith("/copies/bild-1.jpg")
        with pytest.raises(NotFoundError):
            storage.copy("absent", "b")
        assert storage.download("taken") == b"other"

    def test_goes_in_parts_where_it_is_large(self, s3, storage, monkeypatch, tmp_path):
        monkeypatch.setattr("image_processor.storage.s3.copying.PART_BYTES", 5 * MIB)
        source = S3Storage(s3.new_bucket(), options=options(s3), terms=WriteTerms(sse=True))
        path = tmp_path / "large.tif"
        path.write_bytes(bytes(range(256)) * (12 * MIB // 256))
        uri = source.upload(path, metadata={"title": "Bär"})
        copied = storage.copy(uri, "large.tif")
        found = s3.client().head_object(Bucket=storage.bucket, Key="large.tif")
        assert found["ETag"].endswith('-3"')
        assert (found["ContentType"], storage.user_metadata(copied)) == ("image/tiff", {"title": "Bär"})
        assert hashlib.sha256(storage.download(copied)).hexdigest() == storage.stat("large.tif").sha256


def post(address, content, content_type):
    """A form as a browser sends it: the fields, and the file last."""
    file = {"file": ("a", content, content_type)}
    return httpx.post(address.url, data=dict(address.fields), files=file)


@pytest.mark.slow
class TestAddresses:
    def test_reading_works_until_it_is_tampered_with(self, storage):
        uri = storage.upload(PICTURE, format="png")
        url = storage.presigned_url(uri, 60, content_type="text/plain", download_name="Bär.png")
        answer = httpx.get(url)
        assert (answer.status_code, answer.content) == (200, PICTURE)
        assert answer.headers["Content-Type"] == "text/plain"
        assert "filename*=UTF-8''B%C3%A4r.png" in answer.headers["Content-Disposition"]
        assert httpx.get(url.replace("X-Amz-Expires=60", "X-Amz-Expires=61")).status_code == 403
        assert httpx.get(url.replace(DIGEST[:8], "0" * 8)).status_code == 403
        assert httpx.put(url, content=b"other").status_code == 403
        assert httpx.get(url.partition("?")[0]).status_code == 403

    def test_reading_ends_with_the_expiry(self, storage, monkeypatch):
        uri = storage.upload(PICTURE, format="png")
        monkeypatch.setattr("botocore.auth.get_current_datetime", _two_minutes_ago)
        url = storage.presigned_url(uri, expires_in=60)
        monkeypatch.undo()
        assert httpx.get(url).status_code == 403

    def test_a_form_takes_one_key_one_type_and_so_many_bytes(self, storage):
        uploads = PresignedUploads(storage)

        def address(max_bytes: int):
            return uploads.upload_address(
                "INCOMING/1", content_type="image/png", max_bytes=max_bytes, expires_in_seconds=60
            )

        assert post(address(len(PICTURE) - 1), PICTURE, "image/png").status_code == 400
        assert post(address(100), b"", "image/png").status_code == 400
        form = address(len(PICTURE))
        for change in ({"key": "INCOMING/2"}, {"Content-Type": "text/html"}):
            changed = type(form)(method="POST", url=form.url, fields={**form.fields, **change})
            assert post(changed, PICTURE, "image/png").status_code == 403
        assert list(storage.keys("")) == []
        assert post(form, PICTURE, "image/png").status_code == 204
        assert storage.stat("INCOMING/1").content_type == "image/png"

    def test_a_put_takes_what_its_headers_say(self, storage):
        address = storage.presigned_put("a.png", content_type="image/png", size_bytes=len(PICTURE))
        wrong_type = {"Content-Type": "text/html"}
        assert httpx.put(address.url, content=PICTURE, headers=wrong_type).status_code == 403
        assert httpx.put(address.url, content=b"x", headers={"Content-Type": "image/png"}).status_code == 403
        assert list(storage.keys("")) == []
        assert httpx.put(address.url, content=PICTURE, headers=dict(address.headers)).status_code == 200
        assert storage.stat("a.png").content_type == "image/png"

    def test_nothing_is_asked_of_a_server(self, s3_bucket):
        """Port 9 of this machine takes no connections: any attempt would fail."""
        away = S3Options(
            region="us-east-1", endpoint_url="http://127.0.0.1:9", access_key_id="a", secret_access_key="b"
        )
        assert Presigning(s3_bucket, away).get("a").startswith("http://127.0.0.1:9/")
        assert S3Storage(s3_bucket, options=away).presigned_url("a").startswith("http://127.0.0.1:9/")


def _two_minutes_ago(*_):
    import datetime as dt  # noqa: PLC0415

    return dt.datetime.now(dt.UTC).replace(tzinfo=None) - dt.timedelta(minutes=2)
