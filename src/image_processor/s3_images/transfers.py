"""
The order of work of uploads, downloads and deletions, each a call that blocks until it is done or undone.

The row goes first and comes last: held before anything is written or removed in S3, ready or gone after it.
What is cut off in between leaves a row that no reader sees, and that the next call, or a sweep, goes on from.
"""

import io
import math

from image_processor.errors import (
    FileTooLargeError,
    ImageProcessorError,
    NotFoundError,
    StorageDamageError,
)
from image_processor.s3_images.exceptions import (
    S3DeleteException,
    S3DeleteUnavailableException,
    S3DownloadException,
    S3UploadException,
    S3UploadUnavailableException,
    failing_as,
)
from image_processor.s3_images.files import as_file, digest
from image_processor.s3_images.places import CACHE_CONTROL, S3ImagePlaces, S3ImageTerms
from image_processor.s3_images.repository import S3ImageRepository
from image_processor.s3_images.rows import Hold, ImageStatus, InUse, NewImage, S3Image
from image_processor.storage.s3 import S3Storage
from image_processor.telemetry import emit

LEAST_UPLOAD_LEASE_SECONDS = 300.0
SLOWEST_BYTES_PER_SECOND = 100_000
"""An upload at this pace still ends within its lease."""
HOLD_ATTEMPTS = 5
"""Between two of them, somebody else has finished, cleared away or deleted what was in the way."""
PARTS_KEPT_SECONDS = 86_400.0
"""So old are the parts of uploads that a sweep takes for abandoned."""

UPLOAD_FAILED = "The image could not be uploaded"
DOWNLOAD_FAILED = "The image could not be downloaded"
DELETE_FAILED = "The image could not be deleted"


def upload_lease_seconds(size_bytes: int) -> float:
    """How long an upload holds its key against all others."""
    return LEAST_UPLOAD_LEASE_SECONDS + size_bytes / SLOWEST_BYTES_PER_SECOND


class Transfers:
    """The service's work; safe for threads."""

    def __init__(self, repository: S3ImageRepository, places: S3ImagePlaces, terms: S3ImageTerms) -> None:
        self._repository = repository
        self._places = places
        self._terms = terms

    def upload(self, image: NewImage, content: bytes) -> S3Image:
        """
        The image, ready; the one that is there already where its bytes are the same.

        Raises ConflictError where others are there, S3UploadException for what fails.
        """
        held = self._hold(image)
        return held if isinstance(held, S3Image) else self._write(held, content)

    def _hold(self, image: NewImage) -> Hold | S3Image:
        lease_seconds = upload_lease_seconds(image.file_size_bytes)
        for _ in range(HOLD_ATTEMPTS):
            found = self._repository.hold_for_upload(image, lease_seconds=lease_seconds)
            if isinstance(found, InUse):
                self._clear_away(found)
                continue
            if isinstance(found, Hold) or self._is_stored(found):
                return found
            again = self._repository.hold_again(found, lease_seconds=lease_seconds)
            if again is not None:
                return again
        raise S3UploadUnavailableException("Several others upload and delete under this name just now.")

    def _clear_away(self, found: InUse) -> None:
        """Finish what was cut off under the key; raises S3UploadException while somebody works there."""
        if found.seconds_left > 0:
            raise S3UploadUnavailableException(
                f"An image of this name is {found.image.status} in this session just now; try again later.",
                retry_after_seconds=math.ceil(found.seconds_left),
            )
        with failing_as(S3UploadException, UPLOAD_FAILED):
            self._finish(found.image.image_id)

    def _is_stored(self, image: S3Image) -> bool:
        storage = self._places.bucket(image.s3_bucket)
        with failing_as(S3UploadException, UPLOAD_FAILED):
            try:
                stored = self._places.breaker.call(storage.stat, image.s3_key_original)
            except NotFoundError:
                return False
        return stored.size_bytes == image.file_size_bytes

    def _write(self, hold: Hold, content: bytes) -> S3Image:
        image = hold.image
        try:
            with failing_as(S3UploadException, UPLOAD_FAILED), as_file(content, self._terms.scratch) as path:
                self._places.breaker.call(
                    self._places.bucket(image.s3_bucket).put,
                    image.s3_key_original,
                    path,
                    content_type=image.content_type,
                    metadata={"image-id": image.image_id},
                    cache_control=CACHE_CONTROL,
                )
            ready = self._repository.mark_ready(hold)
        except BaseException:
            self._release(hold)
            raise
        if ready is None:
            raise S3UploadUnavailableException("The upload took too long, and its name is in use by another.")
        emit("s3_image.uploaded", image_id=ready.image_id, kind=ready.kind, size_bytes=ready.file_size_bytes)
        return ready

    def download(self, s3_key: str, bucket: str) -> bytes:
        """
        All bytes of one object, compared with their SHA-256 where the object has a row.

        Raises NotFoundError for what is not there, not ready yet or being deleted, FileTooLargeError, and
        S3DownloadException for what fails.
        """
        storage = self._places.readable_bucket(bucket, self._terms.other_buckets)
        image = self._repository.find(bucket, s3_key)
        if image is not None and image.status is not ImageStatus.READY:
            raise NotFoundError(f"There is no such object: {s3_key!r}.")
        sha256 = image.sha256 if image is not None and image.s3_key_original == s3_key else None
        with failing_as(S3DownloadException, DOWNLOAD_FAILED):
            return self._places.breaker.call(self._read, storage, s3_key, sha256)

    def _read(self, storage: S3Storage, s3_key: str, sha256: str | None) -> bytes:
        with storage.open(s3_key) as stream:
            size_bytes = stream.seek(0, io.SEEK_END)
            if size_bytes > self._terms.max_file_bytes:
                raise FileTooLargeError(
                    f"The object has {size_bytes} bytes; {self._terms.max_file_bytes} are read at once."
                )
            stream.seek(0)
            content = stream.read(size_bytes)
        if sha256 not in (None, digest(content)):
            raise StorageDamageError("The storage holds other bytes than were uploaded.")
        return content

    def delete(self, image_id: str) -> bool:
        """
        Hide the image, remove its objects, then its row; False where there is none.

        Raises S3DeleteException for what fails, and while the image is being uploaded or deleted.
        """
        held = self._repository.hold_for_deletion(image_id)
        if held is None:
            return False
        if isinstance(held, InUse):
            raise S3DeleteUnavailableException(
                f"The image is {held.image.status} just now; try again later.",
                retry_after_seconds=math.ceil(held.seconds_left),
            )
        with failing_as(S3DeleteException, DELETE_FAILED):
            self._remove(held)
        return True

    def sweep(self, limit: int) -> int:
        """
        Remove what uploads and deletions left that were cut off; the number of images.

        Parts of large uploads that are a day old go too. Raises S3DeleteException for what fails.
        """
        with failing_as(S3DeleteException, DELETE_FAILED):
            removed = sum(self._finish(image.image_id) for image in self._repository.abandoned(limit=limit))
            for storage in (self._places.original, self._places.visualization):
                self._places.breaker.call(storage.sweep_incoming, PARTS_KEPT_SECONDS)
            return removed

    def _finish(self, image_id: str) -> bool:
        hold = self._repository.take_over(image_id)
        if hold is not None:
            self._remove(hold)
        return hold is not None

    def _remove(self, hold: Hold) -> None:
        image = hold.image
        storage = self._places.bucket(image.s3_bucket)
        try:
            for key in filter(None, (image.s3_key_original, image.s3_key_thumbnail)):
                self._places.breaker.call(storage.delete, key)
            self._repository.drop(hold)
        except BaseException:
            self._release(hold)
            raise
        emit("s3_image.deleted", image_id=image.image_id)

    def _release(self, hold: Hold) -> None:
        try:
            self._repository.release(hold)
        except ImageProcessorError as error:
            # What failed before this is what the caller has to hear of; the lease ends by itself.
            emit("s3_image.release.failed", image_id=hold.image.image_id, error=str(error))
