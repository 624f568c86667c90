"""What every front calls: take an upload in, tell how it goes, hand the result out, delete it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from image_processor.errors import (
    FileTooLargeError,
    ImageProcessorError,
    InvalidRequestError,
    JobFailedError,
    NotFoundError,
    ResultNotReadyError,
    UnsupportedFormatError,
)
from image_processor.intake.probe import check_limits
from image_processor.intake.stage import MIB, Stage, StagedOriginal, StagingFile
from image_processor.jobs.images import ImageRepository
from image_processor.jobs.rate_limits import RateLimitRepository
from image_processor.jobs.repository import JobRepository
from image_processor.jobs.states import Status
from image_processor.jobs.values import Image, Job, NewUpload, Priority, RateLimit, Receipt, StoredVariant
from image_processor.pipeline import ImageFormat, Limits, Preset
from image_processor.storage.base import Storage
from image_processor.storage.keys import check_bucket
from image_processor.telemetry import emit
from image_processor.transports.base import Transport

MAX_METADATA_BYTES = 16 * 1024
MAX_METADATA_DEPTH = 32
"""Objects and lists inside one another; what writes the answers gives up at 255."""
DEFAULT_PRESET = "web"
DEFAULT_SIZE = "medium"


@dataclass(frozen=True, kw_only=True)
class Submission:
    """What a user asks for, beside the file."""

    user_id: str
    bucket: str
    metadata: str = ""
    """A JSON object as text; empty for none."""
    preset: str = DEFAULT_PRESET


@dataclass(frozen=True, kw_only=True)
class Intake:
    """What uploads may be, and how their jobs are to run."""

    accepts: tuple[ImageFormat, ...]
    limits: Limits
    presets: dict[str, Preset]
    rate_limit: RateLimit
    job_ttl_seconds: float
    max_retries: int


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A job that has completed, with its image."""

    job: Job
    image: Image


@dataclass(frozen=True, kw_only=True)
class ImageService:
    """The use cases of the service; all ids belong to the user that is given, or do not exist."""

    jobs: JobRepository
    image_rows: ImageRepository
    rate_limits: RateLimitRepository
    stage: Stage
    storage: Storage
    transport: Transport
    intake: Intake

    @property
    def limits(self) -> Limits:
        """What every upload must be within."""
        return self.intake.limits

    def open_upload(self, user_id: str) -> StagingFile:
        """
        A file to write an upload to, if the user may upload and there is room.

        Raises RateLimitError, StorageFullError, UnavailableError.
        """
        self.rate_limits.check(user_id, self.intake.rate_limit)
        return self.stage.open(self.intake.accepts, self.intake.limits)

    def submit(self, original: StagedOriginal, submission: Submission) -> Receipt:
        """
        Make a staged original durable as a job; when this returns, it will not be lost.

        Whatever is raised, the original is removed from the stage. Raises InvalidRequestError,
        UnsupportedFormatError, ImageTooLargeError, ImageTooSmallError, RateLimitError, UnavailableError.
        """
        try:
            receipt = self.jobs.submit(self._checked(original, submission), self.intake.rate_limit)
        except BaseException:
            self.stage.remove(original.name)
            raise
        self.transport.publish(receipt.job_id, Priority.NORMAL)
        emit("job.submitted", job_id=receipt.job_id, image_id=receipt.image_id, bytes=original.size_bytes)
        return receipt

    def _checked(self, original: StagedOriginal, submission: Submission) -> NewUpload:
        preset = self.intake.presets.get(submission.preset)
        if preset is None:
            known = sorted(self.intake.presets)
            raise InvalidRequestError(
                f"There is no preset {submission.preset[:80]!r}; there are {', '.join(known)}.", known=known
            )
        check_accepted(original, preset)
        return NewUpload(
            user_id=submission.user_id,
            bucket=check_bucket(submission.bucket),
            preset=submission.preset,
            pipeline=preset.pipeline,
            key_template=preset.key_template,
            source_format=original.format,
            source_bytes=original.size_bytes,
            sha256=original.sha256,
            staging_path=original.name,
            metadata=parse_metadata(submission.metadata),
            ttl_seconds=self.intake.job_ttl_seconds,
            max_retries=self.intake.max_retries,
        )

    def job(self, user_id: str, job_id: str) -> Job:
        """The user's job. Raises NotFoundError."""
        job = self.jobs.job(job_id, user_id)
        if job is None:
            raise NotFoundError("There is no such job.")
        return job

    def result(self, user_id: str, job_id: str) -> Finished:
        """The job with its image. Raises NotFoundError, ResultNotReadyError, JobFailedError."""
        job = self.job(user_id, job_id)
        return Finished(job=job, image=self._finished(job))

    def finished_image(self, user_id: str, image_id: str) -> Finished:
        """The same, by the image's id."""
        image = self.image_rows.image(image_id, user_id)
        if image is None:
            raise NotFoundError("There is no such image.")
        return self.result(user_id, image.job_id)

    def _finished(self, job: Job) -> Image:
        if job.status is Status.FAILED:
            raise JobFailedError(
                job.error or "The image could not be processed.",
                job_id=job.job_id,
                reason=job.reason,
                code=job.error_code,
            )
        if job.status is not Status.COMPLETED:
            raise ResultNotReadyError(
                "The image has not been processed yet.", job_id=job.job_id, status=job.status
            )
        image = self.image_rows.image(job.image_id, job.user_id)
        if image is None:
            raise NotFoundError("There is no such image.")
        return image

    def images(self, user_id: str, image_ids: Sequence[str]) -> list[Image]:
        """Those of the images that are the user's and have completed, in the order asked for."""
        found = self.image_rows.images(image_ids, user_id)
        wanted = [found[image_id] for image_id in dict.fromkeys(image_ids) if image_id in found]
        return [image for image in wanted if image.status is Status.COMPLETED]

    def delete(self, user_id: str, image_id: str) -> None:
        """
        Remove an image with all its variants; at once for every reader, on disk as far as can be.

        A job that runs is cancelled; what its worker may still write is removed later. Raises NotFoundError.
        """
        image = self.image_rows.delete(image_id, user_id)
        if image is None:
            raise NotFoundError("There is no such image.")
        emit("image.deleted", image_id=image_id)
        try:
            for variant in image.variants.values():
                self.storage.delete(variant.key)
        except ImageProcessorError as error:  # nobody can reach it any more, and the sweeper comes later
            emit("image.removal.failed", image_id=image_id, error=str(error))

    def url(self, variant: StoredVariant) -> str:
        """The address of a variant's bytes; made when read, so that it can change without the rows."""
        return self.storage.url(variant.key)


def choose_variant(image: Image, size: str | None) -> tuple[str, StoredVariant]:
    """
    The variant of that name; without a name `medium`, or the first where there is no such.

    Raises NotFoundError that names those there are.
    """
    name = size or (DEFAULT_SIZE if DEFAULT_SIZE in image.variants else next(iter(image.variants)))
    variant = image.variants.get(name)
    if variant is None:
        known = list(image.variants)
        raise NotFoundError(f"The image has no size {name[:80]!r}; it has {', '.join(known)}.", known=known)
    return name, variant


def check_accepted(original: StagedOriginal, preset: Preset) -> None:
    """Raise unless the preset takes this original."""
    if original.format not in preset.accepts:
        accepted = [accepted.media_type for accepted in preset.accepts]
        raise UnsupportedFormatError(
            f"This preset does not take {original.format.label} images.", accepted=accepted
        )
    if original.size_bytes > preset.limits.max_bytes:
        raise FileTooLargeError(
            f"The file is larger than {preset.limits.max_bytes / MIB:g} MB, the most that this preset takes.",
            max_bytes=preset.limits.max_bytes,
        )
    check_limits(original.header, preset.limits)


def parse_metadata(text: str) -> dict[str, Any]:
    """
    The JSON object in `text`; an empty text is an empty object.

    Raises InvalidRequestError for anything else, and for what could not be handed back as it came.
    """
    if not text.strip():
        return {}
    if len(text.encode()) > MAX_METADATA_BYTES:
        raise InvalidRequestError(f"The metadata is longer than {MAX_METADATA_BYTES} bytes.")
    try:
        metadata = json.loads(text, parse_constant=_no_constant)
        json.dumps(metadata, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError) as error:
        raise InvalidRequestError("The metadata is not valid JSON.") from error
    if not isinstance(metadata, dict):
        raise InvalidRequestError("The metadata is JSON, but not an object.")
    if not _is_within(metadata, MAX_METADATA_DEPTH):
        raise InvalidRequestError(f"The metadata nests more than {MAX_METADATA_DEPTH} levels deep.")
    return metadata


def _is_within(value: Any, depth: int) -> bool:
    """Whether objects and lists stand at most so deep inside one another."""
    if not isinstance(value, dict | list):
        return True
    items = value.values() if isinstance(value, dict) else value
    return depth > 0 and all(_is_within(item, depth - 1) for item in items)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
