"""What is read of a bucket: objects as files that stream, what is known of them, and listings."""

import hashlib
import io
import math
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any, BinaryIO

from image_processor.errors import (
    InvalidKeyError,
    NotFoundError,
    StorageDamageError,
    StorageDeniedError,
    StorageDownError,
    StorageError,
    StorageTimeoutError,
)
from image_processor.storage.base import ListedObject, StoredObject
from image_processor.storage.keys import check_key
from image_processor.storage.s3.client import S3Options
from image_processor.storage.s3.place import Place

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer
    from botocore.response import StreamingBody
    from types_boto3_s3.type_defs import GetObjectOutputTypeDef, HeadObjectOutputTypeDef, ObjectTypeDef

BUFFER_BYTES = 256 * 1024
CHUNK_BYTES = 1024 * 1024
"""The most that is asked of a connection at once."""
FIRST_BYTES = 4096
"""What is asked of a connection that is new or slow: nobody hears anything before all of it has come."""
SLOW_SECONDS = 1.0
PATIENCE_SECONDS = 20.0
LEAST_BYTES_PER_SECOND = 4096
"""A body that comes more slowly for so long keeps a worker from its other jobs."""
SKIPPED_BYTES = 1024 * 1024
"""So far ahead one reads on, as that costs less than another request."""
BUCKET_SECONDS = 10.0
"""So long a bucket that has answered is taken to be there; strangers ask for any number of missing keys."""
UNKNOWN_TYPE = "binary/octet-stream"
"""What S3 itself says of objects that were stored without a type."""
SHA256 = "sha256"
"""The name of the metadata that holds the digest of the bytes."""

_DIGEST = re.compile(r"[0-9a-f]{64}")


class _Pace:
    """How much is asked of a body at once, and whether it comes fast enough to be waited for."""

    def __init__(self) -> None:
        self.amount = FIRST_BYTES
        self._received = 0
        self._waited = 0.0

    def note(self, received: int, seconds: float) -> None:
        """So much has come in that time. Raises StorageTimeoutError."""
        self.amount = FIRST_BYTES if seconds > SLOW_SECONDS else min(2 * self.amount, CHUNK_BYTES)
        self._received += received
        self._waited += seconds
        if self._waited > max(PATIENCE_SECONDS, self._received / LEAST_BYTES_PER_SECOND):
            raise StorageTimeoutError("The storage sends the object too slowly.")


def open_object(place: Place, key: str) -> BinaryIO:
    """The bytes of an object as a seekable file; see `_Object`."""
    return io.BufferedReader(_Object(place, key), BUFFER_BYTES)


class _Object(io.RawIOBase):
    """
    An object as a file: one request streams it from end to end, another follows where a seek leaves that.

    All are pinned to one ETag: an object that is replaced meanwhile is a StorageDamageError, never a mixture.
    So is a body that ends too early, or, where it was read from the first byte to the last, that has another
    SHA-256 than was stored with it. A connection that breaks is resumed once from where it was.
    """

    def __init__(self, place: Place, key: str) -> None:
        super().__init__()
        self._place = place
        self._key = key
        self._what = f"read {key!r}"
        self._body: StreamingBody | None = None
        self._body_position = 0
        self._position = 0
        self._has_resumed = False
        self._pace = _Pace()
        answer = self._get()
        self._body = answer["Body"]
        check_told(answer, "ContentLength", "ETag")
        self._size = answer["ContentLength"]
        self._etag = answer["ETag"]
        self._sha256 = stored_sha256(answer)
        self._hash = hashlib.sha256()
        self._hashed = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Where the next read begins; nothing is asked of the place before that."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if start + offset < 0:
            raise ValueError("An object has nothing before its first byte.")
        self._position = start + offset
        return self._position

    def readinto(self, buffer: "WriteableBuffer") -> int:
        """Fill the buffer as far as one chunk goes; 0 at the end."""
        view = memoryview(buffer).cast("B")
        piece = self._piece(len(view))
        view[: len(piece)] = piece
        return len(piece)

    def readall(self) -> bytes:
        """All the rest."""
        return b"".join(iter(lambda: self._piece(CHUNK_BYTES), b""))

    def close(self) -> None:
        """Let go of the connection."""
        self._drop()
        super().close()

    def _piece(self, limit: int) -> bytes:
        """The next bytes, at most so many; none at the end alone."""
        wanted = min(limit, self._size - self._position, CHUNK_BYTES)
        if wanted <= 0:
            return b""
        piece = self._persistently(wanted)
        self._check(piece)
        self._position += len(piece)
        return piece

    def _persistently(self, wanted: int) -> bytes:
        try:
            return self._next(wanted)
        except (StorageDamageError, StorageDownError) as error:
            was_on_the_way = self._body is not None
            self._drop()
            if self._has_resumed or not was_on_the_way or isinstance(error, StorageTimeoutError):
                raise
        self._has_resumed = True
        return self._next(wanted)

    def _next(self, wanted: int) -> bytes:
        """What comes at the position, from the body at hand or from another one."""
        if not 0 <= self._position - self._body_position <= SKIPPED_BYTES:
            self._drop()
        if self._body is None:
            self._body = self._get_rest()
            self._body_position = self._position
        while self._body_position < self._position:
            self._receive(self._body, self._position - self._body_position)
        return self._receive(self._body, wanted)

    def _receive(self, body: "StreamingBody", wanted: int) -> bytes:
        began_at = time.monotonic()
        piece = self._place.call(
            self._what, self._place.guards.reading, lambda: body.read(min(wanted, self._pace.amount))
        )
        if not piece:
            raise StorageDamageError("The storage sent fewer bytes than it said.")
        self._body_position += len(piece)
        self._pace.note(len(piece), time.monotonic() - began_at)
        if self._body_position == self._size:
            # boto3 checks what it knows of the whole only when it meets the end.
            self._place.call(self._what, self._place.guards.reading, lambda: body.read(1))
        return piece

    def _check(self, piece: bytes) -> None:
        """Hash what follows on what was hashed before, and compare at the end."""
        known = self._hashed - self._position
        if self._sha256 is None or not 0 <= known < len(piece):
            return
        self._hash.update(memoryview(piece)[known:])
        self._hashed += len(piece) - known
        if self._hashed == self._size and self._hash.hexdigest() != self._sha256:
            raise StorageDamageError("The storage sent other bytes than were stored.")

    def _get_rest(self) -> "StreamingBody":
        answer = self._get(Range=f"bytes={self._position}-", IfMatch=self._etag)
        begins_right = answer.get("ContentRange", "").startswith(f"bytes {self._position}-")
        if answer.get("ETag") == self._etag and begins_right:
            return answer["Body"]
        answer["Body"].close()
        raise StorageDamageError("The storage sent another part, or another object, than it was asked for.")

    def _get(self, **terms: Any) -> "GetObjectOutputTypeDef":
        place, key = self._place, self._key
        return place.read(self._what, lambda client: client.get_object(Bucket=place.bucket, Key=key, **terms))

    def _drop(self) -> None:
        body, self._body = self._body, None
        if body is not None:
            body.close()


def stat_object(place: Place, key: str) -> StoredObject:
    """What is known of an object."""
    return stored_object(key, head(place, key))


def head(place: Place, key: str) -> "HeadObjectOutputTypeDef":
    """
    S3's own answer about an object.

    An error of this request comes without its reason: a missing bucket looks like a missing key. So the
    bucket is asked for it, though not again for each missing key: listing is what S3 charges most for.
    """
    try:
        answer = place.read(
            f"look at {key!r}", lambda client: client.head_object(Bucket=place.bucket, Key=key)
        )
    except (NotFoundError, StorageDeniedError, StorageError) as error:
        if not (isinstance(error, NotFoundError) and _has_just_answered(place)):
            with suppress(StorageDeniedError):
                check_bucket_answers(place)
                _answered_at[place.bucket, place.options] = time.monotonic()
        raise
    check_told(answer, "ContentLength", "ETag", "LastModified")
    return answer


_answered_at: dict[tuple[str, S3Options], float] = {}
"""When each bucket that this process looks into was last listed because of a missing key."""


def _has_just_answered(place: Place) -> bool:
    return time.monotonic() < _answered_at.get((place.bucket, place.options), -math.inf) + BUCKET_SECONDS


def check_told(answer: Mapping[str, Any], *names: str) -> None:
    """Nothing, if all of these are in the answer; raises StorageError, as from what is not quite S3."""
    missing = [name for name in names if name not in answer]
    if missing:
        raise StorageError(f"The storage does not answer as S3 does: it lacks {', '.join(missing)}.")


def check_bucket_answers(place: Place) -> None:
    """Nothing, if the bucket can be listed. A listing, unlike S3's HEAD, tells why it is refused."""
    place.read(
        "list the bucket", lambda client: client.list_objects_v2(Bucket=place.bucket, MaxKeys=1) and None
    )


def listed_objects(place: Place, prefix: str) -> Iterator[ListedObject]:
    """The objects below a prefix, page by page as they are asked for, without keys outside our grammar."""
    terms: dict[str, Any] = {"Bucket": place.bucket, "Prefix": prefix}
    while True:
        page = place.read("list the bucket", lambda client: client.list_objects_v2(**terms))
        yield from (_listed(entry) for entry in page.get("Contents", ()) if _is_key(entry["Key"]))
        if not page.get("IsTruncated"):
            return
        terms["ContinuationToken"] = page["NextContinuationToken"]


def stored_object(key: str, answer: "HeadObjectOutputTypeDef") -> StoredObject:
    """S3's answer in our words."""
    return StoredObject(
        key=key,
        size_bytes=answer["ContentLength"],
        sha256=stored_sha256(answer),
        content_type=answer.get("ContentType", UNKNOWN_TYPE),
        modified_at=_seconds(answer["LastModified"]),
    )


def stored_sha256(answer: "HeadObjectOutputTypeDef | GetObjectOutputTypeDef") -> str | None:
    """The digest that was stored with the object; None where other hands stored it."""
    claimed = answer.get("Metadata", {}).get(SHA256, "")
    return claimed if _DIGEST.fullmatch(claimed) else None


def _listed(entry: "ObjectTypeDef") -> ListedObject:
    return ListedObject(
        key=entry["Key"], size_bytes=entry["Size"], modified_at=_seconds(entry["LastModified"])
    )


def _seconds(moment: datetime) -> float:
    return moment.timestamp()


def _is_key(name: str) -> bool:
    try:
        check_key(name)
    except InvalidKeyError:
        return False
    return True
