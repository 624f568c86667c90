"""What the service answers, as frozen values. Fields that a newer service adds are passed over."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from image_processor.client.refusals import UnexpectedAnswerError

PriorityName = Literal["high", "normal", "low"]
JobState = Literal["pending", "processing", "retrying", "completed", "failed"]
PublicStatus = Literal["queued", "processing", "completed", "failed"]


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
        has_limit = "x-ratelimit-limit" in headers
        return self.model_copy(
            update={
                "replayed": headers.get("idempotent-replayed") == "true",
                "rate_limit": read(RateLimit, dict(headers)) if has_limit else None,
            }
        )


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
    url: str
    fields: Mapping[str, str]
    headers: Mapping[str, str]
    complete_url: str


def read(kind: type[Kind], value: object) -> Kind:
    """The value as such an answer. Raises UnexpectedAnswerError."""
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise UnexpectedAnswerError(
            f"The service's answer cannot be understood as {kind.__name__}: {_faults(error)}."
        ) from error


def read_json(kind: type[Kind], text: bytes | str) -> Kind:
    """The JSON as such an answer. Raises UnexpectedAnswerError."""
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        raise UnexpectedAnswerError(
            f"The service's answer cannot be understood as {kind.__name__}: {_faults(error)}."
        ) from error


def _faults(error: ValidationError) -> str:
    faults = error.errors(include_url=False, include_input=False)
    return "; ".join(f"{'.'.join(map(str, fault['loc']))} {fault['msg']}".strip() for fault in faults[:3])
