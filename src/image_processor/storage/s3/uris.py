"""What callers name objects by: an `s3://` URI of any bucket, or a key of the storage's own."""

import re
from dataclasses import dataclass

from image_processor.errors import InvalidRequestError
from image_processor.storage.keys import check_bucket

MAX_KEY_BYTES = 1024
"""Of S3; keys that others wrote need not be within our own grammar."""

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_OBJECT = re.compile(r"s3://(?P<bucket>[^/]*)/(?P<key>.+)", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True)
class S3Uri:
    """One object, whoever wrote it."""

    bucket: str
    key: str

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


def parse_uri(text: str, own_bucket: str) -> S3Uri:
    """
    The object that `s3://bucket/key` names, or a key alone in one's own bucket. Nothing is decoded.

    Raises InvalidRequestError.
    """
    if not _SCHEME.match(text):
        return S3Uri(own_bucket, check_foreign_key(text))
    parts = _OBJECT.fullmatch(text)
    if parts is None:
        raise InvalidRequestError(
            "An object is named by its key, or by s3://, a bucket, a slash and a key, as in s3://photos/a.jpg."
        )
    return S3Uri(check_bucket(parts["bucket"]), check_foreign_key(parts["key"]))


def check_foreign_key(key: str) -> str:
    """
    The key itself, if S3 can have it: 1 to 1024 bytes of UTF-8, whoever wrote it; raises InvalidRequestError.

    Segments `.` and `..` are refused, since clients and servers on the way may resolve them.
    """
    if not key or len(key.encode("utf-8", "replace")) > MAX_KEY_BYTES or not key.isprintable():
        raise InvalidRequestError(
            f"A key in S3 has 1 to {MAX_KEY_BYTES} bytes and no control characters.", parameter="key"
        )
    if {".", ".."} & set(key.split("/")):
        raise InvalidRequestError("A key with . or .. between its slashes is not read.", parameter="key")
    return key
