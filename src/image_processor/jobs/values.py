"""The values that go into the jobs' tables and come out of them. No SQL here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Annotated, Any
from uuid import uuid4

from pydantic import Field

from image_processor.jobs.retry import History
from image_processor.jobs.states import LIVE, Reason, Status
from image_processor.pipeline import ImageFormat, Pipeline
from image_processor.pipeline.value import Value

DAY_SECONDS = 86_400.0
PURGE_GRACE_SECONDS = 900.0
"""How long a worker that lost its job may still write: the longest deadline, 10 minutes, and a lease."""


def new_id() -> str:
    """An unpredictable id for a job or an image: a random UUID in its usual form."""
    return str(uuid4())


class Priority(IntEnum):
    """Which due job is claimed first."""

    HIGH = 0
    NORMAL = 1
    LOW = 2


@dataclass(frozen=True, kw_only=True)
class Idempotency:
    """A key under which a client may send the same request again and get the same job."""

    key: str
    fingerprint: str
    """Of the request: the same key with another one is refused."""
    ttl_seconds: float = DAY_SECONDS


@dataclass(frozen=True, kw_only=True)
class NewJob:
    """An original, staged or still to be fetched, and what is to be made of it."""

    user_id: str
    bucket: str
    preset: str
    pipeline: Pipeline
    key_template: str
    staging_path: str
    """The original's name in the stage; for one that is still to be fetched, the name it will get."""
    source_uri: str | None = None
    """Where a worker fetches the original from; None where it is staged."""
    source_format: ImageFormat | None = None
    """None while the original is still to be fetched."""
    source_bytes: int = 0
    sha256: str = ""
    """Hexadecimal, of the original's bytes; empty while it is still to be fetched."""
    output_uri: str | None = None
    """Where the only variant goes; None for the storage, by the key template."""
    callback_url: str | None = None
    """Told when the job has come to rest."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """What the client sent along; handed back as it came."""
    priority: Priority = Priority.NORMAL
    ttl_seconds: float = DAY_SECONDS
    """A job that did not start by then fails as expired."""
    max_retries: int = 3
    dedupe_key: str | None = None
    """A live job of the same user with the same key is joined in place of a new one."""
    reuse_completed: bool = False
    """Whether a completed job with the same dedupe key will do as well."""
    idempotency: Idempotency | None = None
    job_id: str = field(default_factory=new_id)
    image_id: str = field(default_factory=new_id)


@dataclass(frozen=True, kw_only=True)
class Original:
    """What a fetched original turned out to be."""

    sha256: str
    format: ImageFormat
    size_bytes: int


class RateLimit(Value):
    """At most so many uploads of a user in each window; windows are aligned to the epoch."""

    max_uploads: Annotated[int, Field(ge=0)] = 50
    """0 means no limit."""
    window_seconds: Annotated[int, Field(ge=1)] = 3600


@dataclass(frozen=True, kw_only=True)
class Quota:
    """What is left to a user in the current window."""

    limit: int
    remaining: int
    reset_at: str
    """ISO 8601, UTC: when the next window begins."""
    reset_in_seconds: int
    """Whole seconds until then, at least 1."""


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """The proof that an upload is durable."""

    job_id: str
    image_id: str
    created_at: str
    quota: Quota | None
    """After this upload; None where there is no limit."""
    joined: bool = False
    """Whether the ids are those of a job that was there before; the staged file is in vain then."""
    replayed: bool = False
    """Whether the same request had been answered before, under the same idempotency key."""


@dataclass(frozen=True, kw_only=True)
class Fence:
    """Which claim of which job; every statement that ends an attempt is guarded by it."""

    job_id: str
    claim_seq: int
    """It grows with every claim and never falls."""


@dataclass(frozen=True, kw_only=True)
class Claim(Fence):
    """One attempt at a job: the right to finish it, for as long as nobody claims it after us."""

    image_id: str
    user_id: str
    worker_id: str
    history: History
    preset: str
    pipeline: Pipeline
    pipeline_version: int
    key_template: str
    source_uri: str | None
    """Where the original is to be fetched from; None where it was staged at submit."""
    source_format: ImageFormat | None
    """None while the original was never fetched; so for the next two."""
    source_bytes: int
    sha256: str
    bucket: str
    staging_path: str
    output_uri: str | None
    """Where the only variant goes; None for the storage, by the key template."""
    metadata: Mapping[str, Any]
    created_at: str


class Lease(StrEnum):
    """What a heartbeat learns."""

    HELD = "held"
    """The job is ours for another lease."""
    LOST = "lost"
    """Somebody else owns the job or it is over: stop, and remove nothing that may be another attempt's."""
    CANCEL_REQUESTED = "cancel_requested"
    """The job is ours and nobody wants it any more: stop, then settle it as cancelled."""


class StoredVariant(Value):
    """One file in the storage, as readers find it."""

    key: str
    """In the storage; or the URI that the job was asked to write to."""
    width: int
    height: int
    format: ImageFormat
    size_bytes: int
    sha256: str
    content_type: str


class Facts(Value):
    """What a finished job knows of its image."""

    width: int
    """Pixels of the original, after orientation."""
    height: int
    frames: Annotated[int, Field(ge=1)] = 1
    dominant_color: str
    variants: dict[str, StoredVariant]
    """By variant name."""


@dataclass(frozen=True, kw_only=True)
class Settlement:
    """Where an attempt, or a waiting job, ended up."""

    job_id: str
    image_id: str
    status: Status
    reason: Reason | None
    attempt_count: int


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job as its owner sees it. Times are ISO 8601 in UTC."""

    job_id: str
    image_id: str
    user_id: str
    status: Status
    reason: Reason | None
    preset: str
    bucket: str
    priority: Priority
    attempt_count: int
    max_retries: int
    crash_count: int
    cancel_requested: bool
    progress: int
    """How much of the present attempt is done, in percent; 100 once completed."""
    error: str | None
    """The sentence of the last error."""
    error_code: str | None
    metadata: Mapping[str, Any]
    """What the client sent along."""
    source_uri: str | None
    output_uri: str | None
    callback_url: str | None
    created_at: str
    started_at: str | None
    """When the last attempt began."""
    completed_at: str | None
    """When it reached a terminal state, whichever."""

    @property
    def is_live(self) -> bool:
        """Whether the job will go on."""
        return self.status in LIVE


@dataclass(frozen=True, kw_only=True)
class Image:
    """An image as its owner sees it; the facts of its pixels are there once its job is completed."""

    image_id: str
    user_id: str
    bucket: str
    job_id: str
    status: Status
    """Of its job."""
    sha256: str
    """Empty while the original was never fetched."""
    source_format: ImageFormat | None
    source_bytes: int
    width: int | None
    height: int | None
    frames: int | None
    dominant_color: str | None
    variants: Mapping[str, StoredVariant]
    created_at: str


@dataclass(frozen=True, kw_only=True)
class Purge:
    """The right to remove every object of an image, for the time of a lease."""

    image_id: str
    user_id: str
    bucket: str
    sha256: str
    source_format: ImageFormat | None
    """None where the original was never fetched, and so nothing stored."""
    created_at: str
    variants: Mapping[str, StoredVariant]
    """What a finished job stored; empty where the job failed."""
    pipeline: Pipeline
    """With the key template: what an unfinished attempt may have stored."""
    key_template: str
    staging_path: str


class EventType(StrEnum):
    """What the audit trail tells of."""

    UPLOAD_INITIATED = "upload_initiated"
    PROCESSING_STARTED = "processing_started"
    COMPLETED = "completed"
    FAILED = "failed"
    RETRYING = "retrying"
    RELEASED = "released"
    REPLAYED = "replayed"
    CANCEL_REQUESTED = "cancel_requested"
    DELETED = "deleted"


@dataclass(frozen=True, kw_only=True)
class Event:
    """One line of the audit trail; the database's triggers write it."""

    id: str
    event_type: EventType
    image_id: str
    job_id: str
    metadata: Mapping[str, Any]
    """old, new, attempt, claim_seq, reason, error_code: those that apply."""
    created_at: str


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """The state of the service in numbers."""

    status_breakdown: Mapping[Status, int]
    completed_24h: int
    avg_processing_time_seconds: float | None
    """From the start of the last attempt to completion, over 24 hours; None where nothing completed."""
    total_images: int
    """Images that can be served."""
    total_jobs: int
