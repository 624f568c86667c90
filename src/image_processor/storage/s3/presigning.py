"""
Addresses that carry their own permission, signed here for S3: to read, and to upload.

Signing asks no server, so it needs no breaker. What is signed with temporary credentials ends with them, even
where a later end was asked for.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol
from urllib.parse import quote

from image_processor.errors import InvalidRequestError
from image_processor.storage.base import UploadAddress
from image_processor.storage.keys import check_key
from image_processor.storage.s3.client import S3Options, public_client_for, translated
from image_processor.storage.s3.uris import check_foreign_key

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

HOUR_SECONDS = 3600
MAX_EXPIRY_SECONDS = 7 * 24 * HOUR_SECONDS
"""What signature version 4 allows."""

_SIGNING = "sign an address"
_AWS = re.compile(r"\.amazonaws\.com(\.cn)?(:\d+)?$")


class Bucketed(Protocol):
    """One bucket of a place, such as an `S3Storage`."""

    @property
    def bucket(self) -> str:
        """Its name."""

    @property
    def options(self) -> S3Options:
        """Which place."""


@dataclass(frozen=True)
class Presigning:
    """
    Signs addresses in one bucket, with the host that clients see (`S3Options.public_endpoint_url`).

    Every method raises InvalidRequestError for an expiry outside of 1 second to 7 days,
    StorageCredentialsError where there is nothing to sign with, and what `client_for` raises.
    """

    bucket: str
    options: S3Options

    def get(
        self,
        key: str,
        *,
        expires_in_seconds: int = HOUR_SECONDS,
        content_type: str | None = None,
        download_name: str | None = None,
    ) -> str:
        """
        The address to read an object under, whether or not there is one.

        `content_type` replaces the one that was stored; with `download_name`, a browser saves the file under
        that name instead of showing it. The key may be any of S3's, and not only of our grammar.
        """
        wanted = {
            "ResponseContentType": content_type and _header("content_type", content_type),
            "ResponseContentDisposition": download_name and _attachment(download_name),
        }
        given = {name: value for name, value in wanted.items() if value}
        return self._url("get_object", check_foreign_key(key), given, expires_in_seconds)

    def put(
        self,
        key: str,
        *,
        content_type: str,
        size_bytes: int | None = None,
        expires_in_seconds: int = HOUR_SECONDS,
    ) -> UploadAddress:
        """
        How to upload with PUT: the headers are signed, and so have to be sent as they are.

        With `size_bytes`, exactly so many bytes go through, as Content-Length is signed too. Without it,
        nothing bounds the size but S3 itself (5 GB): who takes the object over has to look at it.
        """
        headers = {"Content-Type": _header("content_type", content_type)}
        given: dict[str, Any] = {"ContentType": content_type}
        if size_bytes is not None:
            headers["Content-Length"] = str(_size(size_bytes))
            given["ContentLength"] = size_bytes
        url = self._url("put_object", check_key(key), given, expires_in_seconds)
        return UploadAddress(method="PUT", url=url, headers=headers)

    def post(
        self, key: str, *, content_type: str, max_bytes: int, expires_in_seconds: int = HOUR_SECONDS
    ) -> UploadAddress:
        """
        How to upload with a form: for this key and content type, and 1 to `max_bytes` bytes.

        S3 itself refuses everything else; the file has to be the form's last field.
        """
        fields = {"Content-Type": _header("content_type", content_type)}
        with translated(_SIGNING):
            signed = self._client.generate_presigned_post(
                self.bucket,
                check_key(key),
                Fields=fields,
                Conditions=[fields, ["content-length-range", 1, _size(max_bytes)]],
                ExpiresIn=check_expiry(expires_in_seconds),
            )
        return UploadAddress(method="POST", url=signed["url"], fields=signed["fields"])

    def _url(
        self,
        operation: Literal["get_object", "put_object"],
        key: str,
        given: Mapping[str, Any],
        expires_in_seconds: int,
    ) -> str:
        params = {"Bucket": self.bucket, "Key": key, **given}
        with translated(_SIGNING):
            return self._client.generate_presigned_url(
                operation, Params=params, ExpiresIn=check_expiry(expires_in_seconds)
            )

    @property
    def _client(self) -> "S3Client":
        """With AWS, boto3's `auto` signs for the global host, which redirects, and so breaks signatures."""
        client = public_client_for(self.options)
        if self.options.addressing_style == "auto" and _AWS.search(client.meta.endpoint_url):
            return public_client_for(replace(self.options, addressing_style="virtual"))
        return client


@dataclass(frozen=True)
class PresignedUploads:
    """
    Upload addresses in a storage's bucket (`storage.base.UploadAddresses`).

    With `post`, S3 bounds the size. `put` is for servers without POST policies, such as R2: it takes exactly
    `max_bytes`, as a signature can fix a length and not bound it.
    """

    storage: Bucketed
    method: Literal["post", "put"] = "post"

    def upload_address(
        self, key: str, *, content_type: str, max_bytes: int, expires_in_seconds: int
    ) -> UploadAddress:
        """See `UploadAddresses.upload_address`; raises as `Presigning`."""
        signing = Presigning(self.storage.bucket, self.storage.options)
        if self.method == "put":
            address = signing.put(
                key, content_type=content_type, size_bytes=max_bytes, expires_in_seconds=expires_in_seconds
            )
            # Every client sends the length by itself, and browsers let nobody set it.
            return replace(address, headers={"Content-Type": content_type})
        return signing.post(
            key, content_type=content_type, max_bytes=max_bytes, expires_in_seconds=expires_in_seconds
        )


def check_expiry(seconds: int) -> int:
    """The seconds themselves, from 1 to 7 days; raises InvalidRequestError."""
    if not 1 <= seconds <= MAX_EXPIRY_SECONDS:
        raise InvalidRequestError(
            f"A signed address is valid for 1 to {MAX_EXPIRY_SECONDS} seconds (7 days).",
            parameter="expires_in",
        )
    return int(seconds)


def _size(size_bytes: int) -> int:
    if size_bytes < 1:
        raise InvalidRequestError("A size is at least 1 byte.", parameter="size")
    return size_bytes


def _header(parameter: str, value: str) -> str:
    if not value.isascii() or not value.isprintable():
        raise InvalidRequestError(f"{parameter} is printable ASCII.", parameter=parameter)
    return value


def _attachment(name: str) -> str:
    """RFC 6266: the name in ASCII for old clients, and as it is for all others."""
    plain = "".join(letter if letter.isalnum() and letter.isascii() else "_" for letter in name)
    stem, dot, extension = name.rpartition(".")
    if dot and extension.isascii() and extension.isalnum():
        plain = plain[: len(stem)] + dot + extension
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
