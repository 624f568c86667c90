"""What changes a bucket: puts, in one request or in parts; deletes, with all versions."""

import base64
import hashlib
import os
import re
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from image_processor.errors import (
    ImageProcessorError,
    InvalidRequestError,
    NotFoundError,
    StorageDamageError,
    StorageDeniedError,
    StorageError,
)
from image_processor.storage.base import StoredObject
from image_processor.storage.s3.place import Place
from image_processor.storage.s3.reading import CHUNK_BYTES, SHA256, check_told, head, stored_object
from image_processor.telemetry import emit

if TYPE_CHECKING:
    from types_boto3_s3.type_defs import CompletedPartTypeDef, HeadObjectOutputTypeDef

MIB = 1024 * 1024
PART_BYTES = 8 * MIB
LEAST_PART_BYTES = 5 * MIB
"""S3 refuses smaller ones, but for the last."""
MAX_PARTS = 10_000
PARTS_IN_FLIGHT = 2

_HEADER = re.compile(r"(?:[!-~](?:[ -~]*[!-~])?)?")


@dataclass(frozen=True, kw_only=True)
class WriteTerms:
    """How objects are stored, unless a put says otherwise."""

    cache_control: str = ""
    """Empty for none."""
    sse: bool = False
    """Whether S3 encrypts with keys of its own (SSE-S3)."""
    storage_class: str = ""
    """Empty for the bucket's own."""
    multipart_threshold_bytes: int = 16 * MIB
    """Files of this size and larger go in parts, at most two of which are in memory; at least 5 MiB."""


@dataclass(frozen=True)
class _Source:
    """The open file, and what was found in it."""

    file: BinaryIO
    size_bytes: int
    sha256: bytes
    md5: bytes

    def read(self, size: int) -> bytes:
        with _readable():
            return self.file.read(size)


def headers(
    terms: WriteTerms, content_type: str, metadata: Mapping[str, str], cache_control: str | None
) -> dict[str, Any]:
    """
    What is stored beside the bytes, as boto3 names it; the metadata is encoded already.

    Raises InvalidRequestError for a header that cannot be sent.
    """
    stored = {
        "ContentType": _header("content type", content_type),
        "CacheControl": _header(
            "Cache-Control", terms.cache_control if cache_control is None else cache_control
        ),
        "StorageClass": terms.storage_class,
        "ServerSideEncryption": "AES256" if terms.sse else "",
    }
    return {"Metadata": dict(metadata), **{name: value for name, value in stored.items() if value}}


def put_object(
    place: Place, key: str, path: Path, stored: dict[str, Any], threshold_bytes: int
) -> StoredObject:
    """Store a file with these headers, whole and verified, or not at all."""
    with _opened(path) as source:
        stored = {**stored, "Metadata": {**stored["Metadata"], SHA256: source.sha256.hex()}}
        if source.size_bytes < max(threshold_bytes, LEAST_PART_BYTES):
            etag = _put_at_once(place, key, source, stored)
        else:
            etag = _put_in_parts(place, key, source, stored, min(threshold_bytes, PART_BYTES))
        return _verified(place, key, source, stored["ContentType"], etag)


def delete_object(place: Place, key: str) -> bool:
    """
    Remove the object; False where there was none.

    In a bucket that keeps versions, all that were there are removed too, if we may list them; a put that
    comes meanwhile stays. A delete that was stopped half-way is brought to its end by the next, where the
    server tells that the key is hidden.
    """
    try:
        found = head(place, key)
    except NotFoundError as error:
        if marker := _marker_over(error):
            _delete_versions(place, key, marker)
        return False
    answer = place.write(f"delete {key!r}", lambda client: client.delete_object(Bucket=place.bucket, Key=key))
    if found.get("VersionId") and answer.get("VersionId"):
        _delete_versions(place, key, answer["VersionId"])
    return True


def abort_uploads(place: Place, older_than_seconds: float) -> int:
    """End the uploads in parts that were begun so long ago and never completed; the number of them."""
    newest = time.time() - older_than_seconds
    abandoned = [(key, upload_id) for key, upload_id, begun_at in _open_uploads(place) if begun_at < newest]
    return sum(_abort(place, key, upload_id) for key, upload_id in abandoned)


def _put_at_once(place: Place, key: str, source: _Source, stored: dict[str, Any]) -> str:
    # From memory where that costs little: for a file, boto3 waits until the server asks for it.
    body: bytes | BinaryIO = source.read(PART_BYTES) if source.size_bytes <= PART_BYTES else source.file
    proof = _proof(place, source.sha256, source.md5)
    answer = place.write(
        f"store {key!r}",
        lambda client: client.put_object(Bucket=place.bucket, Key=key, Body=body, **stored, **proof),
    )
    return answer.get("ETag", "")


def _put_in_parts(place: Place, key: str, source: _Source, stored: dict[str, Any], part_bytes: int) -> str:
    what = f"store {key!r}"
    algorithm: dict[str, Any] = {"ChecksumAlgorithm": "SHA256"} if _sends_sha256(place) else {}
    begun = place.write(
        what,
        lambda client: client.create_multipart_upload(Bucket=place.bucket, Key=key, **stored, **algorithm),
    )
    upload: dict[str, Any] = {"Bucket": place.bucket, "Key": key, "UploadId": begun["UploadId"]}

    def send(number: int, content: bytes) -> "CompletedPartTypeDef":
        md5 = hashlib.md5(content, usedforsecurity=False).digest()
        proof = _proof(place, hashlib.sha256(content).digest(), md5)
        sent = place.write(
            what, lambda client: client.upload_part(**upload, PartNumber=number, Body=content, **proof)
        )
        check_told(sent, "ETag")
        part: CompletedPartTypeDef = {"PartNumber": number, "ETag": sent["ETag"]}
        if "ChecksumSHA256" in proof:
            part["ChecksumSHA256"] = proof["ChecksumSHA256"]
        return part

    try:
        parts = _in_flight(send, _pieces(source, part_bytes))
        done = place.write(
            what, lambda client: client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
        )
    except BaseException:
        _abort(place, key, begun["UploadId"])
        raise
    return done.get("ETag", "")


def _pieces(source: _Source, part_bytes: int) -> Iterator[bytes]:
    """The file in parts, as few of them as S3 takes; raises StorageError where it is not what was hashed."""
    size = max(part_bytes, LEAST_PART_BYTES, -(-source.size_bytes // MAX_PARTS))
    digest = hashlib.sha256()
    while piece := source.read(size):
        digest.update(piece)
        yield piece
    if digest.digest() != source.sha256:
        raise StorageError("The file to store was changed while it was read.")


def _in_flight(
    send: "Callable[[int, bytes], CompletedPartTypeDef]", pieces: Iterator[bytes]
) -> "list[CompletedPartTypeDef]":
    """Send all, a few at a time; a piece is read only when there is a place for it."""
    sent: list[CompletedPartTypeDef] = []
    pending: deque[Future[CompletedPartTypeDef]] = deque()
    with ThreadPoolExecutor(PARTS_IN_FLIGHT, thread_name_prefix="s3-part") as pool:
        for number, piece in enumerate(pieces, start=1):
            pending.append(pool.submit(send, number, piece))
            del piece
            if len(pending) == PARTS_IN_FLIGHT:
                sent.append(pending.popleft().result())
        sent.extend(future.result() for future in pending)
    return sent


def _abort(place: Place, key: str, upload_id: str) -> bool:
    """Have the parts removed; whether they are. What is left costs money until `abort_uploads` or a rule."""
    try:
        place.write(
            f"give up storing {key!r}",
            lambda client: client.abort_multipart_upload(Bucket=place.bucket, Key=key, UploadId=upload_id),
        )
    except ImageProcessorError as error:
        emit("storage.parts.lost", key=key, error=error.code)
        return False
    return True


def _open_uploads(place: Place) -> Iterator[tuple[str, str, float]]:
    """The key, the id, and the begin in seconds since the epoch, of each upload that is not completed."""
    terms: dict[str, Any] = {"Bucket": place.bucket}
    while True:
        page = place.read("list uploads", lambda client: client.list_multipart_uploads(**terms))
        uploads = page.get("Uploads", [])
        for upload in uploads:
            yield upload["Key"], upload["UploadId"], upload["Initiated"].timestamp()
        # Not every server says where its next page begins; some begin with the same one again.
        following = (
            {"KeyMarker": uploads[-1]["Key"], "UploadIdMarker": uploads[-1]["UploadId"]} if uploads else {}
        )
        if not page.get("IsTruncated") or not following or following.items() <= terms.items():
            return
        terms.update(following)


def _verified(place: Place, key: str, source: _Source, content_type: str, etag: str) -> StoredObject:
    """What the place has now; raises StorageDamageError where that is not what was sent."""
    try:
        found = head(place, key)
    except NotFoundError as error:
        raise StorageDamageError("The storage does not have what it has just taken.") from error
    kept = stored_object(key, found)
    if found["ETag"] != etag and kept.sha256 != source.sha256.hex():
        # Somebody else's put came after ours, which has its answer.
        return StoredObject(
            key=key,
            size_bytes=source.size_bytes,
            sha256=source.sha256.hex(),
            content_type=content_type,
            modified_at=kept.modified_at,
        )
    if kept.size_bytes != source.size_bytes or _has_other_checksum(found, source):
        raise StorageDamageError("The storage has other bytes than it was sent.")
    return replace(kept, sha256=source.sha256.hex())


def _has_other_checksum(found: "HeadObjectOutputTypeDef", source: _Source) -> bool:
    """Whether the place tells a SHA-256 of the whole, and not that of the bytes."""
    told = found.get("ChecksumSHA256", "")
    return bool(told) and "-" not in told and told != _base64(source.sha256)


def _marker_over(error: NotFoundError) -> str | None:
    """The version of the delete marker that hides the key, from S3's own words; None where none does."""
    answer: Any = getattr(error.__cause__, "response", {})
    told = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    return told.get("x-amz-version-id") if told.get("x-amz-delete-marker") == "true" else None


def _delete_versions(place: Place, key: str, marker: str) -> None:
    """Remove what lies below a delete marker, and last the marker, which hides it meanwhile."""
    try:
        while versions := _versions_below(place, key, marker):
            for version in versions:
                _delete_version(place, key, version)
        _delete_version(place, key, marker)
    except StorageDeniedError as error:
        emit("storage.versions.kept", key=key, error=error.code)


def _versions_below(place: Place, key: str, marker: str) -> list[str]:
    """A page of them; what was put after the marker is not among them."""
    page = place.read(
        f"list the versions of {key!r}",
        lambda client: client.list_object_versions(
            Bucket=place.bucket, Prefix=key, KeyMarker=key, VersionIdMarker=marker
        ),
    )
    entries = (*page.get("Versions", ()), *page.get("DeleteMarkers", ()))
    return [
        entry["VersionId"]
        for entry in entries
        if entry["Key"] == key and not entry["IsLatest"] and entry["VersionId"] != marker
    ]


def _delete_version(place: Place, key: str, version: str) -> None:
    place.write(
        f"delete a version of {key!r}",
        lambda client: client.delete_object(Bucket=place.bucket, Key=key, VersionId=version),
    )


def _sends_sha256(place: Place) -> bool:
    return place.options.checksum_mode == "when_supported"


def _proof(place: Place, sha256: bytes, md5: bytes) -> dict[str, Any]:
    """By which the server refuses a body that arrives damaged; all know MD5, not all a SHA-256."""
    return {"ChecksumSHA256": _base64(sha256)} if _sends_sha256(place) else {"ContentMD5": _base64(md5)}


def _base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


@contextmanager
def _opened(path: Path) -> Iterator[_Source]:
    """The file with its digests, at its begin."""
    with _readable():
        file = path.open("rb")
    with file:
        with _readable():
            sha256, md5, size_bytes = _digested(file)
            file.seek(os.SEEK_SET)
        yield _Source(file, size_bytes, sha256, md5)


def _digested(file: BinaryIO) -> tuple[bytes, bytes, int]:
    sha256, md5, size_bytes = hashlib.sha256(), hashlib.md5(usedforsecurity=False), 0
    while chunk := file.read(CHUNK_BYTES):
        sha256.update(chunk)
        md5.update(chunk)
        size_bytes += len(chunk)
    return sha256.digest(), md5.digest(), size_bytes


@contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(f"The file to store cannot be read: {error.strerror}.") from error


def _header(name: str, value: str) -> str:
    if len(value) <= 1024 and _HEADER.fullmatch(value):
        return value
    raise InvalidRequestError(
        f"The {name} of an object is printable ASCII without spaces around it, at most 1024 characters.",
        parameter=name,
    )
