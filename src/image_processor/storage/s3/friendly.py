"""
What programs do with an `S3Storage` by hand: by `s3://` URIs, reading any bucket, writing to its own alone.

The service itself uses none of it. Other buckets are read without the storage's guards, so that one which is
down or closed to us does not count against our own.
"""

import os
import secrets
import uuid
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from image_processor.errors import (
    ConflictError,
    FileTooLargeError,
    NotFoundError,
    StorageError,
    StorageFullError,
    is_disk_full,
)
from image_processor.storage.base import UploadAddress
from image_processor.storage.keys import KeyFields, KeyTemplate, check_key
from image_processor.storage.s3.buckets import regions
from image_processor.storage.s3.client import S3Options
from image_processor.storage.s3.copying import copy_object
from image_processor.storage.s3.metadata import decode_metadata, encode_metadata
from image_processor.storage.s3.pictures import Picture, PictureFile, format_named, format_of, picture_file
from image_processor.storage.s3.place import Place
from image_processor.storage.s3.presigning import HOUR_SECONDS, Presigning
from image_processor.storage.s3.reading import CHUNK_BYTES, SHA256, head, open_object
from image_processor.storage.s3.uris import S3Uri, parse_uri
from image_processor.storage.s3.writing import (
    LEAST_PART_BYTES,
    WriteTerms,
    delete_object,
    headers,
    put_object,
)

if TYPE_CHECKING:
    from image_processor.pipeline import ImageFormat

UNKNOWN_TYPE = "application/octet-stream"
UNIQUE_FIELDS = frozenset({"hash", "image_id", "upload_id"})
"""With one of these in its template, a key belongs to one content, or to one upload, alone."""


class Friendly:
    """The methods that `S3Storage` has beyond the storage protocol."""

    template: KeyTemplate
    terms: WriteTerms
    _place: Place

    def download(self, uri: str, *, max_bytes: int | None = None) -> bytes:
        """
        The bytes under `s3://bucket/key`, of any bucket and region that the credentials read, or a key.

        Raises NotFoundError, FileTooLargeError for more than `max_bytes`, StorageDownError and those below
        it, StorageDamageError.
        """
        place, key = self._find(uri)
        with open_object(place, key) as file:
            content = file.read() if max_bytes is None else file.read(max_bytes + 1)
        if max_bytes is not None and len(content) > max_bytes:
            raise FileTooLargeError(f"The object has more than {max_bytes} bytes.", max_bytes=max_bytes)
        return content

    def download_to(self, uri: str, path: str | os.PathLike[str]) -> Path:
        """
        The same as a file, which is there whole or not at all and replaces one that is; gives its path.

        Takes 1 MiB of memory, however large the object is. Raises StorageFullError and StorageError for the
        file besides.
        """
        target = Path(path)
        unfinished = target.parent / f".{secrets.token_hex(8)}.unfinished"
        place, key = self._find(uri)
        try:
            with open_object(place, key) as file, unfinished.open("xb") as copy:
                while chunk := file.read(CHUNK_BYTES):
                    copy.write(chunk)
            unfinished.replace(target)
        except OSError as error:
            if is_disk_full(error):
                raise StorageFullError(f"There is no room left for {target.name}.") from error
            raise StorageError(f"{target.name} cannot be written: {error.strerror}.") from error
        finally:
            unfinished.unlink(missing_ok=True)
        return target

    def upload(  # noqa: PLR0913 (the seed's four, and a word for each thing that can differ)
        self,
        image: Picture,
        *,
        original_name: str | None = None,
        format: str | None = None,  # noqa: A002 - the word of the interface that this answers
        metadata: Mapping[str, str] | None = None,
        cache_control: str | None = None,
        fields: KeyFields | None = None,
    ) -> str:
        """
        Store a picture under the key that the storage's template makes of it; gives its `s3://` URI.

        The format is the one given, or that of a result, or the extension of the name. `{hash}` is all 64
        digits of the bytes' SHA-256, `{date}` today in UTC, `{image_id}` and `{upload_id}` are random;
        `fields` has what else the template asks for. Where it has none of `{hash}`, `{image_id}` and
        `{upload_id}`, nothing is ever replaced: the same bytes may be there already, others may not.

        `metadata` is text by name, 2 KB in all, and is read with `user_metadata`; what is not ASCII is sent
        as RFC 2047 has it. `cache_control` stands above that of the storage.

        Raises:
            InvalidRequestError: an unknown format, a field that is not known, metadata that S3 cannot keep.
            ConflictError: something else is under this key.
            NotFoundError: there is no file at the path.
            StorageDownError, StorageFullError, StorageError: S3 did not take it.
        """
        image_format = format_named(format) if format else format_of(image, original_name)
        content_type = image_format.media_type if image_format else UNKNOWN_TYPE
        stored = headers(self.terms, content_type, encode_metadata(metadata or {}), cache_control)
        with picture_file(image) as picture:
            known = _known(picture.sha256, original_name, image_format, fields or KeyFields())
            key = self.template.render(known)
            if self.template.fields() & UNIQUE_FIELDS:
                self._store(key, picture, stored)
            else:
                self._store_new(key, picture, stored)
        return str(S3Uri(self._place.bucket, key))

    def presigned_url(
        self,
        uri: str,
        expires_in: int = HOUR_SECONDS,
        *,
        content_type: str | None = None,
        download_name: str | None = None,
    ) -> str:
        """
        An address that anybody can read the object under for 1 second to 7 days; see `Presigning.get`.

        Nothing is asked of S3 for the storage's own bucket, nor whether the object exists; of another bucket,
        the region is asked once.
        """
        found = parse_uri(uri, self._place.bucket)
        return Presigning(found.bucket, self._options_of(found.bucket)).get(
            found.key, expires_in_seconds=expires_in, content_type=content_type, download_name=download_name
        )

    def presigned_put(
        self, key: str, *, content_type: str, size_bytes: int | None = None, expires_in: int = HOUR_SECONDS
    ) -> UploadAddress:
        """How anybody can upload to one key of this bucket with PUT; see `Presigning.put`."""
        return Presigning(self._place.bucket, self._place.options).put(
            key, content_type=content_type, size_bytes=size_bytes, expires_in_seconds=expires_in
        )

    def presigned_post(
        self, key: str, *, content_type: str, max_bytes: int, expires_in: int = HOUR_SECONDS
    ) -> UploadAddress:
        """How anybody can upload to one key of this bucket with a form; see `Presigning.post`."""
        return Presigning(self._place.bucket, self._place.options).post(
            key, content_type=content_type, max_bytes=max_bytes, expires_in_seconds=expires_in
        )

    def exists(self, uri: str) -> bool:
        """Whether there is such an object. Raises as `download` where that cannot be found out."""
        try:
            head(*self._find(uri))
        except NotFoundError:
            return False
        return True

    def user_metadata(self, uri: str) -> dict[str, str]:
        """What `upload` was given as metadata, names in lower case. Raises as `download`."""
        return decode_metadata(head(*self._find(uri))["Metadata"])

    def copy(self, source_uri: str, key: str | None = None) -> str:
        """
        Copy an object of any bucket and region into this one, by S3 itself; gives its new `s3://` URI.

        Type, metadata and cache headers come along; large objects go in parts. Without a `key`, it keeps the
        one it has. What is under that key already is never replaced, unless it is the same.

        Raises ConflictError, InvalidKeyError where the key is outside of our grammar, and as `download`.
        """
        place, source = self._find(source_uri)
        target = check_key(source if key is None else key)
        copy_object((place, source), (self._place, target), self.terms)
        return str(S3Uri(self._place.bucket, target))

    def _find(self, uri: str) -> tuple[Place, str]:
        """boto3 follows a bucket to its region by itself."""
        found = parse_uri(uri, self._place.bucket)
        if found.bucket == self._place.bucket:
            return self._place, found.key
        return Place(bucket=found.bucket, options=self._place.options), found.key

    def _options_of(self, bucket: str) -> S3Options:
        own = self._place.options
        return own if bucket == self._place.bucket else regions.options_for(bucket, own)

    def _is_there(self, key: str, picture: PictureFile) -> bool:
        try:
            found = head(self._place, key)
        except NotFoundError:
            return False
        if found["Metadata"].get(SHA256) == picture.sha256:
            return True
        raise ConflictError(f"Something else is already stored under the key {key!r}.")

    def _store_new(self, key: str, picture: PictureFile, stored: dict[str, Any]) -> None:
        """Only what goes at once can be made to fail where others were faster."""
        if self._is_there(key, picture):
            return
        goes_at_once = picture.path.stat().st_size < LEAST_PART_BYTES
        try:
            self._store(key, picture, stored | ({"IfNoneMatch": "*"} if goes_at_once else {}))
        except StorageError:
            if not self._is_there(key, picture):
                raise

    def _store(self, key: str, picture: PictureFile, stored: dict[str, Any]) -> None:
        put = put_object(self._place, key, picture.path, stored, self.terms.multipart_threshold_bytes)
        if put.sha256 != picture.sha256:
            delete_object(self._place, key)
            raise StorageError(f"{picture.path.name} was changed while it was uploaded.")


def _known(
    sha256: str, original_name: str | None, image_format: "ImageFormat | None", fields: KeyFields
) -> KeyFields:
    return replace(
        fields,
        hash=sha256,
        date=fields.date or datetime.now(UTC).date(),
        original_name=original_name or fields.original_name,
        format=image_format and image_format.value,
        ext=image_format and image_format.extension,
        image_id=fields.image_id or str(uuid.uuid4()),
        upload_id=fields.upload_id or str(uuid.uuid4()),
    )
