"""What every front calls: take an upload in, tell how it goes, hand the result out, delete it."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from image_processor.cdn import Cdn, NoCdn
from image_processor.errors import (
    ConflictError,
    FileTooLargeError,
    ImageProcessorError,
    InvalidRequestError,
    JobFailedError,
    NotFoundError,
    ResultNotReadyError,
    StorageFullError,
    UnavailableError,
    UnsupportedFormatError,
)
from image_processor.intake.json_text import parse_metadata
from image_processor.intake.probe import check_limits
from image_processor.intake.stage import MIB, Stage, StagedOriginal, StagingFile
from image_processor.jobs.dispatch import DispatchRepository
from image_processor.jobs.images import ImageRepository
from image_processor.jobs.rate_limits import RateLimitRepository
from image_processor.jobs.repository import JobRepository
from image_processor.jobs.states import Reason, Status
from image_processor.jobs.values import (
    Idempotency,
    Image,
    Job,
    NewJob,
    Priority,
    RateLimit,
    Receipt,
    StoredVariant,
)
from image_processor.pipeline import ImageFormat, Limits, Preset
from image_processor.placement import is_elsewhere, variant_url
from image_processor.storage.base import Storage
from image_processor.storage.keys import check_bucket
from image_processor.telemetry import emit
from image_processor.transports.base import Transport

MAX_IDEMPOTENCY_KEY = 255
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
    priority: Priority = Priority.NORMAL
    callback_url: str = ""
    """Told when the job has come to rest; empty for none."""
    reuse_completed: bool = False
    """Whether a result that is there already will do."""
    idempotency_key: str = ""
    """The same key with the same request gives the same job; empty for none."""


@dataclass(frozen=True, kw_only=True)
class Intake:
    """What uploads may be, and how their jobs are to run."""

    accepts: tuple[ImageFormat, ...]
    limits: Limits
    presets: dict[str, Preset]
    rate_limit: RateLimit
    job_ttl_seconds: float
    max_retries: int
    idempotency_seconds: float
    joins_duplicates: bool
    check_callback: Callable[[str], str]
    """The address in the form in which it is kept, or an error where it may not be called."""


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A job that has completed, with its image."""

    job: Job
    image: Image


@dataclass(frozen=True, kw_only=True)
class Tracked:
    """An image with its job, wherever that is; read one after the other, so the job may be further on."""

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
    dispatch: DispatchRepository
    intake: Intake
    cdn: Cdn = field(default_factory=NoCdn)

    @property
    def limits(self) -> Limits:
        """What every upload must be within."""
        return self.intake.limits

    def limits_for(self, preset: str) -> Limits:
        """What an upload for this preset must be within: the tighter of its limits and those of all."""
        ours, its = self.intake.limits, self.intake.presets[preset].limits
        tightest = {
            name: (max if name.startswith("min_") else min)(getattr(ours, name), getattr(its, name))
            for name in Limits.model_fields
        }
        return Limits(**tightest)

    def open_upload(
        self, user_id: str, idempotency_key: str = "", limits: Limits | None = None
    ) -> StagingFile:
        """
        A file to write an upload to, if the user may upload and there is room.

        Raises RateLimitError, StorageFullError, UnavailableError.
        """
        self.check_quota(user_id, idempotency_key)
        return self.open_file(limits)

    def check_quota(self, user_id: str, idempotency_key: str = "") -> None:
        """
        Raise RateLimitError where the user may upload no more.

        Who repeats a request that was answered may do so also when the quota is used up.
        """
        if not (idempotency_key and self.jobs.answered(user_id, idempotency_key)):
            self.rate_limits.check(user_id, self.intake.rate_limit)

    def open_file(self, limits: Limits | None = None) -> StagingFile:
        """A file to write an upload to, if there is room, whosever it is. Raises StorageFullError."""
        return self.stage.open(self.intake.accepts, limits or self.intake.limits)

    def submit(self, original: StagedOriginal, submission: Submission) -> Receipt:
        """
        Make a staged original durable as a job; when this returns, it will not be lost.

        Where it is refused, and where an older job answers, the original is removed from the stage. Where the
        database does not answer, a job may have come of it all the same: then the sweeper decides.
        Raises InvalidRequestError, UnsupportedFormatError, ImageTooLargeError, ImageTooSmallError,
        IdempotencyError, RateLimitError, UnavailableError, StorageError.
        """
        try:
            job = self._checked(original, submission)
        except ImageProcessorError:
            self.discard(original)
            raise
        self.stage.share(original)
        try:
            receipt = self.submit_job(job)
        except ImageProcessorError as error:
            if not _may_have_happened(error):
                self._unshare(original)
            raise
        if receipt.joined:
            self._unshare(original)
        return receipt

    def discard(self, original: StagedOriginal) -> None:
        """Remove an original that was never submitted."""
        self.stage.discard(original.name)

    def _unshare(self, original: StagedOriginal) -> None:
        try:
            self.stage.remove(original.name)
        except ImageProcessorError as error:  # the answer stands; the sweeper tries again
            emit("stage.remove.failed", error=str(error))

    def submit_job(self, job: NewJob) -> Receipt:
        """
        Make a job durable and hint at it; when this returns, it will not be lost.

        Raises IdempotencyError, RateLimitError, UnavailableError.
        """
        job = job if self.intake.joins_duplicates else replace(job, dedupe_key=None)
        receipt = self.jobs.submit(job, self.intake.rate_limit)
        # What is repeated may have died before its hint.
        if receipt.replayed or not receipt.joined:
            self._announce(receipt.job_id, job.priority)
        emit("job.submitted", job_id=receipt.job_id, image_id=receipt.image_id, joined=receipt.joined)
        return receipt

    def _announce(self, job_id: str, priority: Priority) -> None:
        if self.transport.publish(job_id, priority) or self.transport.is_polling:
            return  # workers that poll need no hint
        try:
            self.dispatch.put_back([job_id])  # the sweeper tells the workers once the broker is back
        except ImageProcessorError as error:  # it has timers for this too; the job is safe either way
            emit("job.put_back.failed", job_id=job_id, error=str(error))

    def _checked(self, original: StagedOriginal, submission: Submission) -> NewJob:
        preset = self._preset(submission)
        check_accepted(original, preset)
        request = self._fingerprint(original, submission, preset)
        return NewJob(
            user_id=submission.user_id,
            bucket=check_bucket(submission.bucket),
            preset=submission.preset,
            pipeline=preset.pipeline,
            key_template=preset.key_template,
            source_format=original.format,
            source_bytes=original.size_bytes,
            sha256=original.sha256,
            staging_path=original.name,
            callback_url=self._callback(submission),
            metadata=parse_metadata(submission.metadata),
            priority=submission.priority,
            ttl_seconds=self.intake.job_ttl_seconds,
            max_retries=self.intake.max_retries,
            dedupe_key=request,
            reuse_completed=submission.reuse_completed,
            idempotency=self.idempotency(submission.idempotency_key, request),
        )

    def check_fields(self, submission: Submission) -> None:
        """Raise InvalidRequestError where what stands beside the file is refused, whatever the file is."""
        self._preset(submission)
        check_bucket(submission.bucket)
        parse_metadata(submission.metadata)
        self._callback(submission)

    def _preset(self, submission: Submission) -> Preset:
        preset = self.intake.presets.get(submission.preset)
        if preset is None:
            known = sorted(self.intake.presets)
            raise InvalidRequestError(
                f"There is no preset {submission.preset[:80]!r}; there are {', '.join(known)}.", known=known
            )
        return preset

    def _callback(self, submission: Submission) -> str | None:
        return self.intake.check_callback(submission.callback_url) if submission.callback_url else None

    def _fingerprint(self, original: StagedOriginal, submission: Submission, preset: Preset) -> str:
        """What makes two uploads of a user the same: the bytes, and all that shapes the answer."""
        parts = (
            *(original.sha256, preset.pipeline.model_dump_json(), preset.key_template),
            *(submission.bucket, submission.metadata.strip(), submission.callback_url),
        )
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def charge(self, user_id: str) -> None:
        """Take one upload of the user's quota for what is none, and costs as much. Raises RateLimitError."""
        self.rate_limits.use(user_id, self.intake.rate_limit)

    def idempotency(self, key: str, fingerprint: str) -> Idempotency | None:
        """What is kept of a client's key; None for no key. Raises InvalidRequestError."""
        if not key:
            return None
        return Idempotency(
            key=check_idempotency_key(key),
            fingerprint=fingerprint,
            ttl_seconds=self.intake.idempotency_seconds,
        )

    def retry(self, user_id: str, job_id: str) -> Job:
        """
        Begin a failed job anew, with all its attempts and a new time to live.

        It takes one upload of the rate limit. Raises NotFoundError, ConflictError, RateLimitError.
        """
        job = self.job(user_id, job_id)
        # What did not fail is told so, also where nothing is left of the limit.
        if job.status is not Status.FAILED or not self._replay(job):
            raise ConflictError(_why_not_retried(self.job(user_id, job_id)), status=job.status)
        self._announce(job_id, job.priority)
        emit("job.replayed", job_id=job_id)
        return self.job(user_id, job_id)

    def _replay(self, job: Job) -> bool:
        return self.jobs.replay(
            job.job_id,
            user_id=job.user_id,
            ttl_seconds=self.intake.job_ttl_seconds,
            rate_limit=self.intake.rate_limit,
        )

    def cancel(self, user_id: str, job_id: str) -> Job:
        """
        End a job that waits, and ask for the end of one that runs; the job as it is then.

        Asking again is fine. Raises NotFoundError; ConflictError for a job that has come to rest otherwise.
        """
        job = self.jobs.cancel(job_id, user_id)
        if job is None:
            raise NotFoundError("There is no such job.")
        if not job.is_live and job.reason is not Reason.CANCELLED:
            raise ConflictError(f"The job is {job.status} already.", status=job.status)
        return job

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

    def tracked_image(self, user_id: str, image_id: str) -> Tracked:
        """The image, however far it is, with its job. Raises NotFoundError."""
        image = self.image_rows.image(image_id, user_id)
        if image is None:
            raise NotFoundError("There is no such image.")
        return Tracked(job=self.job(user_id, image.job_id), image=image)

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
        keys = [variant.key for variant in image.variants.values() if not is_elsewhere(variant)]
        try:
            for key in keys:
                self.storage.delete(key)
            self.cdn.invalidate(keys)
        except ImageProcessorError as error:  # nobody can reach it any more, and the sweeper comes later
            emit("image.removal.failed", image_id=image_id, error=str(error))

    def url(self, variant: StoredVariant) -> str:
        """The address of a variant's bytes."""
        return variant_url(variant, self.storage)


def _may_have_happened(error: ImageProcessorError) -> bool:
    """Whether a commit may have succeeded though its answer did not come."""
    return isinstance(error, UnavailableError) and not isinstance(error, StorageFullError)


def _why_not_retried(job: Job) -> str:
    if job.status is not Status.FAILED:
        return f"Only a job that failed can be retried; this one is {job.status}."
    if job.reason is Reason.CANCELLED:
        return "A job that was cancelled is not retried; submit it again."
    if job.reason is Reason.REJECTED:
        return "The uploaded picture was refused and is not kept; a retry would end the same way."
    return "The same job runs again already, or what it stored is being removed just now."


def check_idempotency_key(key: str) -> str:
    """The key, if it is 1 to 255 printable ASCII characters; else InvalidRequestError."""
    if not (0 < len(key) <= MAX_IDEMPOTENCY_KEY and key.isascii() and key.isprintable()):
        raise InvalidRequestError(
            f"An Idempotency-Key is 1 to {MAX_IDEMPOTENCY_KEY} printable ASCII characters."
        )
    return key


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
