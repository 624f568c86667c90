"""What the service answers, as frozen values. Fields that a newer service adds are passed over."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel

from image_processor.client.refusals import UnexpectedAnswerError
from image_processor.errors import ImageProcessorError

PriorityName = Literal["high", "normal", "low"]
JobState = Literal["pending", "processing", "retrying", "completed", "failed"]
PublicStatus = Literal["queued", "processing", "completed", "failed"]
ThumbnailState = Literal["pending", "processing", "complete", "failed"]
UploadStatus = Literal["open", "completed", "refused", "expired"]
DeliveryStatus = Literal["pending", "delivering", "retrying", "delivered", "failed"]
Item = TypeVar("Item")
BySize = Mapping[str, Mapping[str, Item]]
"""By size, then by format."""


class Answer(BaseModel):
    """Base of them all."""

    model_config = ConfigDict(frozen=True, extra="ignore")


Kind = TypeVar("Kind", bound=Answer)


class RateLimit(Answer):
    """How many uploads the user has in this window."""

    limit: int = Field(alias="x-ratelimit-limit")
    remaining: int = Field(alias="x-ratelimit-remaining")
    reset_at: datetime = Field(alias="x-ratelimit-reset")


class Receipt(Answer):
    """The proof that a job is durable: the picture, or the request, may be forgotten."""

    job_id: str
    image_id: str
    status_url: str
    """A path of the service."""
    joined: bool = False
    """Whether a job of /jobs answers that was there before."""
    replayed: bool = False
    """Whether the same request, with the same idempotency key, had been answered before."""
    rate_limit: RateLimit | None = None
    """None where there is no limit."""

    def with_headers(self, headers: Mapping[str, str]) -> Self:
        """The same with what the answer's headers tell."""
        return self.model_copy(
            update={
                "replayed": headers.get("idempotent-replayed") == "true",
                "rate_limit": _rate_limit(headers),
            }
        )


def _rate_limit(headers: Mapping[str, str]) -> RateLimit | None:
    """None also for those of somebody else's kind, which a proxy may add: the answer itself counts."""
    try:
        return RateLimit.model_validate(dict(headers))
    except ValidationError:
        return None


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one of several files: one of `receipt` and `error` is there."""

    index: int
    """Its place among those that were given, from 0."""
    receipt: Receipt | None = None
    error: ImageProcessorError | None = None
    """Why it was refused."""


class BatchEntry(Answer):
    """What became of one file of a form, as the service says it."""

    index: int
    job_id: str | None = None
    image_id: str | None = None
    status_url: str | None = None
    error: Mapping[str, Any] | None = None


class BatchAccepted(Answer):
    """What became of the files of a form."""

    files: tuple[BatchEntry, ...]


class JobStatus(Answer):
    """How a job goes."""

    job_id: str
    image_id: str
    status: JobState
    progress: int
    """Of the present attempt, 0 to 100."""
    attempts: int
    created_at: datetime
    completed_at: datetime | None = None
    """When it came to rest, whichever way."""
    error: str | None = None
    """Why the last attempt failed, as a sentence."""
    error_code: str | None = None
    step: str | None = None
    """fetch, render, store or commit; only told while a job is watched."""

    @property
    def is_final(self) -> bool:
        """Whether the job has come to rest."""
        return self.status in {"completed", "failed"}


class Dimensions(Answer):
    """Width and height in pixels."""

    width: int
    height: int


class VariantFile(Dimensions):
    """One produced file, as a result lists it."""

    aspect_ratio: float
    format: str
    size_bytes: int


class Variant(VariantFile):
    """One variant of one image."""

    image_id: str
    size: str
    """Its name."""
    url: str
    """As the service tells it: a path of its own, or the address at a CDN."""
    dominant_color: str


class ResultMetadata(Answer):
    """What is known of the picture."""

    dominant_color: str
    original_dimensions: Dimensions
    variants: Mapping[str, VariantFile]


class Result(Answer):
    """A processed image with all its variants."""

    image_id: str
    status: str
    urls: Mapping[str, str]
    """By variant, as the service tells them: paths of its own, or addresses at a CDN."""
    metadata: ResultMetadata
    completed_at: datetime
    client_metadata: Mapping[str, Any] = Field(default_factory=dict)
    """What came along with the upload, as it came."""


class Batch(Answer):
    """One variant each of several images."""

    images: tuple[Variant, ...]
    not_found: tuple[str, ...]
    """Ids that do not exist, are not yours, or have not completed."""


class ListedImage(Answer):
    """One of your images, as a list of them tells; what is not known before it has completed is None."""

    image_id: str
    job_id: str
    bucket: str
    status: JobState
    created_at: datetime
    size_bytes: int
    """Of the original."""
    format: str | None = None
    """Of the original."""
    width: int | None = None
    height: int | None = None
    dominant_color: str | None = None
    urls: Mapping[str, str] = Field(default_factory=dict)
    """By variant, as the service tells them."""


class ImagePage(Answer):
    """Some images, the newest first."""

    images: tuple[ListedImage, ...]
    next_cursor: str | None = None


class Camel(Answer):
    """An answer whose names are in camel case."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class ThumbnailReceipt(Camel):
    """The proof that a picture is there and its thumbnails will be made."""

    upload_id: str
    original_size: int
    """In bytes."""
    dimensions: Dimensions
    """As stored: before the orientation that EXIF may tell."""
    format: str
    status_url: str
    """A path of the service."""


class ThumbnailFile(Camel):
    """One produced file."""

    width: int
    height: int
    size_bytes: int


class ThumbnailMetadata(Camel):
    """What is known of the picture; what is not known before it is complete is None or empty."""

    original_size: int
    format: str
    dimensions: Dimensions | None = None
    dominant_color: str | None = None
    files: BySize[ThumbnailFile] = Field(default_factory=dict)
    client_metadata: Mapping[str, Any] = Field(default_factory=dict)


class Thumbnails(Camel):
    """A picture and what has become of it."""

    upload_id: str
    status: ThumbnailState
    progress: int
    """Of the present attempt, 0 to 100."""
    urls: BySize[str]
    """As the service tells them; the sizes are `original`, `small`, `medium` and `large`."""
    metadata: ThumbnailMetadata
    error: str | None = None
    error_code: str | None = None
    created_at: datetime
    completed_at: datetime | None = None

    @property
    def is_final(self) -> bool:
        """Whether it has come to rest."""
        return self.status in {"complete", "failed"}


class Job(Answer):
    """A job of `/jobs`; uploads are jobs too."""

    job_id: str
    image_id: str
    status: PublicStatus
    state: JobState
    """The same in the service's own words: `pending` and `retrying` are both `queued`."""
    progress: int
    """Of the present attempt, 0 to 100."""
    input: str | None = None
    """None for a picture that was uploaded."""
    output: str | None = None
    """Where the result is: there once completed, and where there is only one."""
    priority: PriorityName
    attempts: int
    retries: int
    """Attempts after the first."""
    max_retries: int
    cancel_requested: bool
    error: str | None = None
    error_code: str | None = None
    reason: str | None = None
    """Why a failed job will not go on."""
    metadata: Mapping[str, Any] = Field(default_factory=dict)
    callback_url: str | None = None
    created_at: datetime
    started_at: datetime | None = None
    completed_at: datetime | None = None


class JobPage(Answer):
    """Some jobs, the newest first."""

    jobs: tuple[Job, ...]
    next_cursor: str | None = None


class UploadTicket(Answer):
    """How to upload one file past the service."""

    upload_id: str
    method: Literal["PUT", "POST"]
    """`PUT`: the file is the body. `POST`: a form of `fields`, the file last, as `file`."""
    url: str = Field(repr=False)
    """Where to; a path of the service where it begins with `/`. Whoever knows it may upload: no token."""
    fields: Mapping[str, str] = Field(repr=False)
    headers: Mapping[str, str]
    max_bytes: int | None = None
    expires_at: datetime | None = None
    complete_url: str


class UploadState(Answer):
    """What became of a direct upload."""

    upload_id: str
    status: UploadStatus
    created_at: datetime
    expires_at: datetime
    """Until when its address can be used."""
    job_id: str | None = None
    image_id: str | None = None
    status_url: str | None = None
    error: Mapping[str, Any] | None = None
    """Why it was refused: `code`, `message`, `details`."""


class Delivery(Answer):
    """One event for the receiver of a job's callbacks."""

    delivery_id: str
    """The `webhook-id` of all its attempts."""
    job_id: str
    event_type: str
    url: str
    """Without its query."""
    status: DeliveryStatus
    attempts: int
    response_status: int | None = None
    error: str | None = None
    created_at: datetime
    next_attempt_at: datetime | None = None
    completed_at: datetime | None = None
    """When it was accepted, or given up."""


class Deliveries(Answer):
    """The deliveries of a job."""

    deliveries: tuple[Delivery, ...]


class Health(Answer):
    """Whether the service can do its work."""

    status: str
    service: str
    version: str
    database: str
    """`ok`, or the code of what is wrong; so is `storage`."""
    storage: str

    @property
    def is_healthy(self) -> bool:
        """Whether all that is needed answers."""
        return self.status == "healthy"


class Performance(Answer):
    """The last 24 hours."""

    completed_24h: int
    avg_processing_time_seconds: float | None = None


class StorageTotals(Answer):
    """Everything there is."""

    total_images: int
    total_jobs: int


class WorkerTotals(Answer):
    """The workers, whatever carries their hints."""

    active_workers: int
    active_tasks: int


class Statistics(Answer):
    """The service in numbers."""

    status_breakdown: Mapping[str, int]
    performance_24h: Performance
    storage: StorageTotals
    workers: WorkerTotals = Field(alias="celery")


class FailedJob(JobStatus):
    """A job that failed, of any user."""

    user_id: str
    reason: str | None = None


class FailedPage(Answer):
    """Some failed jobs, the newest first."""

    failed_jobs: tuple[FailedJob, ...]
    next_cursor: str | None = None


def read_json(kind: type[Kind], text: bytes | str) -> Kind:
    """The JSON as such an answer. Raises UnexpectedAnswerError."""
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        raise _misunderstood(kind, error) from error


def read_json_list(kind: type[Kind], text: bytes) -> list[Kind]:
    """The JSON as a list of such answers. Raises UnexpectedAnswerError."""
    try:
        return TypeAdapter(list[kind]).validate_json(text)  # type: ignore[valid-type]
    except ValidationError as error:
        raise _misunderstood(kind, error) from error


def _misunderstood(kind: type[Answer], error: ValidationError) -> UnexpectedAnswerError:
    faults = error.errors(include_url=False, include_input=False)
    said = "; ".join(f"{'.'.join(map(str, fault['loc']))} {fault['msg']}".strip() for fault in faults[:3])
    return UnexpectedAnswerError(f"The service's answer cannot be understood as {kind.__name__}: {said}.")
