"""S3ImageService: its five calls, which check what they are given and leave the work to threads."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Self
from uuid import UUID

from image_processor.s3_images.exceptions import S3PresignException, ValidationException, failing_as
from image_processor.s3_images.files import check_size, digest, media_type
from image_processor.s3_images.names import check_session, image_key
from image_processor.s3_images.places import S3ImagePlaces, S3ImageTerms
from image_processor.s3_images.repository import S3ImageRepository
from image_processor.s3_images.rows import ImageKind, NewImage, S3Image
from image_processor.s3_images.schemas import (
    PresignedUrlRequest,
    PresignedUrlResponse,
    S3ImageResponse,
    S3ImageUploadRequest,
    validated,
)
from image_processor.s3_images.transfers import Transfers
from image_processor.settings import Settings, load_settings
from image_processor.storage.s3.presigning import Presigning

VISUALIZATION = "viz_"
"""What the file names of visualizations begin with in their keys."""


class S3ImageService:
    """
    Stores, reads and deletes the pictures of sessions, in two buckets of S3 and a table of the database.

    Nothing blocks the event loop. A call whose task is cancelled comes to its end in its thread: what was
    begun is then wholly there, or wholly gone. Any number of services, processes and machines may share the
    buckets and the table.

    Where `places` or `terms` are not given, they are those of the settings (ConfigurationError for wrong
    ones, MissingExtraError without the extra `s3`). Methods raise ValidationException for their arguments,
    UnavailableError where the database does not answer, and what else they name.
    """

    def __init__(
        self,
        repository: S3ImageRepository,
        places: S3ImagePlaces | None = None,
        terms: S3ImageTerms | None = None,
    ) -> None:
        if places is None or terms is None:
            settings = load_settings()
            places = places or S3ImagePlaces.from_settings(settings)
            terms = terms or S3ImageTerms.from_settings(settings)
        self._repository = repository
        self._places = places
        self._terms = terms
        self._transfers = Transfers(repository, places, terms)

    @classmethod
    def from_settings(cls, settings: Settings | None = None) -> Self:
        """
        The service of these settings, or of the environment's, with a database of its own.

        Use it as `async with`, or `close` it. Blocks while the database is opened, and its tables are made.
        """
        settings = settings or load_settings()
        places = S3ImagePlaces.from_settings(settings)
        repository = S3ImageRepository.open(settings.database_url or settings.database)
        return cls(repository, places, S3ImageTerms.from_settings(settings))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.close)

    def close(self) -> None:
        """Close the repository's connections. The client of S3 is the process's, and stays."""
        self._repository.close()

    @property
    def repository(self) -> S3ImageRepository:
        """The rows; its methods block."""
        return self._repository

    async def upload_original(
        self,
        file_bytes: bytes,
        session_id: str | UUID,
        upload_request: S3ImageUploadRequest | Mapping[str, Any],
    ) -> S3ImageResponse:
        """
        Store an image of 1 byte to 500 MiB under `{session_id}/{filename}`, and answer with an address of it.

        The same bytes under the same name again give the image that is there; other bytes raise
        ConflictError, since one of the two would be lost. Also raises S3UploadException.
        """
        return await asyncio.to_thread(self._upload_original, file_bytes, session_id, upload_request)

    async def upload_visualization(
        self, file_bytes: bytes, session_id: str | UUID, filename: str
    ) -> S3ImageResponse:
        """
        Store what was drawn of an image, under `{session_id}/viz_{filename}`, in the other bucket.

        As `upload_original` in all else.
        """
        return await asyncio.to_thread(self._upload_visualization, file_bytes, session_id, filename)

    async def download_original(self, s3_key: str, bucket: str) -> bytes:
        """
        The bytes of an object in one of the service's buckets, compared with their SHA-256 if it has a row.

        Raises NotFoundError where there is none, FileTooLargeError above 500 MiB, S3DownloadException.
        """
        request = validated(PresignedUrlRequest, {"s3_key": s3_key, "bucket": bucket})
        return await asyncio.to_thread(self._transfers.download, request.s3_key, request.bucket)

    async def generate_presigned_url(self, s3_key: str, bucket: str, expiry_hours: int | None = None) -> str:
        """
        An address under which whoever has it reads the object for 1 to 168 hours (by the settings: 24).

        Signed here, without asking S3 whether there is such an object, or being kept from it by the breaker.
        With temporary credentials it ends when they do. Raises S3PresignException without any credentials.
        """
        given = {"s3_key": s3_key, "bucket": bucket, "expiry_hours": expiry_hours}
        return (await self.presign(given)).presigned_url

    async def presign(self, request: PresignedUrlRequest | Mapping[str, Any]) -> PresignedUrlResponse:
        """The same with when it ends."""
        asked = validated(PresignedUrlRequest, request)
        # Signing asks nobody, but the credentials to sign with may have to be fetched first.
        return await asyncio.to_thread(self._presign, asked)

    async def delete_image(self, image_id: str | UUID) -> bool:
        """
        Remove the image and its thumbnail from S3, and its row; False where there is no such image.

        Readers stop finding it first. Where S3 fails it stays hidden, and the same call, or `sweep`, goes on.
        Raises S3DeleteException, also while the image is being uploaded, or deleted by another call.
        """
        try:
            canonical = str(UUID(str(image_id)))
        except ValueError:
            return False
        return await asyncio.to_thread(self._transfers.delete, canonical)

    async def sweep(self, *, limit: int = 100) -> int:
        """
        Remove what failed or interrupted uploads and deletions left behind; the number of images.

        To be called now and then, such as once an hour. Raises S3DeleteException.
        """
        return await asyncio.to_thread(self._transfers.sweep, limit)

    def _upload_original(
        self,
        content: bytes,
        session_id: str | UUID,
        upload_request: S3ImageUploadRequest | Mapping[str, Any],
    ) -> S3ImageResponse:
        request = validated(S3ImageUploadRequest, upload_request)
        check_size(content, self._terms.max_file_bytes)
        session = check_session(session_id)
        _check_agrees("session_id", request.session_id, session)
        _check_agrees("file_size_bytes", request.file_size_bytes, len(content))
        image = NewImage(
            session_id=session,
            kind=ImageKind.ORIGINAL,
            s3_bucket=self._places.original.bucket,
            s3_key_original=image_key(session, request.filename),
            filename=request.filename,
            content_type=media_type(content, request.content_type),
            file_size_bytes=len(content),
            sha256=digest(content),
            details=request.model_dump(include={"upload_source", "metadata"}),
        )
        return self._response(self._transfers.upload(image, content))

    def _upload_visualization(self, content: bytes, session_id: str | UUID, filename: str) -> S3ImageResponse:
        check_size(content, self._terms.max_file_bytes)
        session = check_session(session_id)
        image = NewImage(
            session_id=session,
            kind=ImageKind.VISUALIZATION,
            s3_bucket=self._places.visualization.bucket,
            s3_key_original=image_key(session, filename, before=VISUALIZATION),
            filename=filename,
            content_type=media_type(content, None),
            file_size_bytes=len(content),
            sha256=digest(content),
            details={},
        )
        return self._response(self._transfers.upload(image, content))

    def _response(self, image: S3Image) -> S3ImageResponse:
        asked = PresignedUrlRequest(s3_key=image.s3_key_original, bucket=image.s3_bucket)
        return S3ImageResponse.of(image, self._presign(asked))

    def _presign(self, request: PresignedUrlRequest) -> PresignedUrlResponse:
        storage = self._places.readable_bucket(request.bucket, self._terms.other_buckets)
        hours = request.expiry_hours or self._terms.expiry_hours
        ends_at = datetime.now(UTC) + timedelta(hours=hours)
        with failing_as(S3PresignException, "No address could be signed"):
            url = Presigning(storage.bucket, storage.options).get(
                request.s3_key, expires_in_seconds=hours * 3600
            )
        return PresignedUrlResponse(
            s3_key=request.s3_key,
            bucket=request.bucket,
            presigned_url=url,
            expiry_hours=hours,
            expires_at=ends_at,
        )


def _check_agrees(parameter: str, said: object, actual: object) -> None:
    if said not in (None, actual):
        raise ValidationException(f"{parameter} is not what was given beside it.", parameter=parameter)
