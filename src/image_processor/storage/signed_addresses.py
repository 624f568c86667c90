"""Addresses of our own under which a client may put one object: signed, checked, and nothing stored here."""

import hashlib
import hmac
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil
from urllib.parse import quote, urlencode

from image_processor.errors import ConfigurationError, UploadAddressError
from image_processor.storage.base import UploadAddress

PURPOSE = b"image-processor: addresses of direct uploads, 1"
"""Makes the key of these signatures another one than that of everything else signed with the same secret."""
MAX_DIGITS = 15


@dataclass(frozen=True, kw_only=True)
class SignedUpload:
    """What an address allows."""

    name: str
    """The last segment of the object's key."""
    content_type: str
    max_bytes: int
    expires_at: int
    """Seconds since the epoch."""


class SignedAddresses:
    """
    Gives addresses `{base_path}/{name}/content?…` signed with HMAC-SHA256, and tells which hold.

    The name is the last segment of the key. `base_path` is a path of this service, so that clients complete
    it with the address under which they reach it. `secret` is any secret of the service: the key is derived
    from it. Raises ConfigurationError for an empty one.
    """

    def __init__(self, secret: bytes, base_path: str, *, now: Callable[[], float] = time.time) -> None:
        if not secret:
            raise ConfigurationError("Addresses of uploads cannot be signed: JWT_SECRET_KEY is not set.")
        self._key = hmac.digest(secret, PURPOSE, hashlib.sha256)
        self._base_path = base_path.rstrip("/")
        self._now = now

    def upload_address(
        self, key: str, *, content_type: str, max_bytes: int, expires_in_seconds: int
    ) -> UploadAddress:
        """Where to PUT the bytes; see `UploadAddresses.upload_address`."""
        upload = SignedUpload(
            name=key.rpartition("/")[2],
            content_type=content_type,
            max_bytes=max_bytes,
            expires_at=ceil(self._now()) + expires_in_seconds,
        )
        query = urlencode(
            {
                "content_type": upload.content_type,
                "max_bytes": upload.max_bytes,
                "expires_at": upload.expires_at,
                "signature": self._signature(upload),
            }
        )
        return UploadAddress(
            method="PUT",
            url=f"{self._base_path}/{quote(upload.name, safe='')}/content?{query}",
            headers={"Content-Type": content_type},
        )

    def verify(self, name: str, query: Mapping[str, str]) -> SignedUpload:
        """What the address with this name and query allows. Raises UploadAddressError."""
        upload = SignedUpload(
            name=name,
            content_type=query.get("content_type", ""),
            max_bytes=_number(query.get("max_bytes", "")),
            expires_at=_number(query.get("expires_at", "")),
        )
        given = query.get("signature", "").encode("utf-8", "replace")
        if not hmac.compare_digest(given, self._signature(upload).encode()):
            raise UploadAddressError("The address of the upload is not as it was given out.")
        if upload.expires_at <= self._now():
            raise UploadAddressError("The address of the upload has expired.")
        return upload

    def _signature(self, upload: SignedUpload) -> str:
        # As JSON, no two uploads have the same text: what one field ends with cannot pass for the next.
        said = ["PUT", upload.name, upload.content_type, upload.max_bytes, upload.expires_at]
        return hmac.new(self._key, json.dumps(said).encode(), hashlib.sha256).hexdigest()


def _number(text: str) -> int:
    """The whole number, or one that nothing is signed with."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= MAX_DIGITS else -1
