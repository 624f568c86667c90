"""The bodies of `/jobs`: a job as the one who asked for it sees it."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from image_processor.jobs.listing import MAX_CURSOR_LENGTH, Filter
from image_processor.jobs.states import Reason, Status
from image_processor.jobs.values import Job, Priority, Receipt
from image_processor.service import ImageService

EXAMPLE_ID = "5f0c3c3e-8f4e-4d8e-9d0a-2f9f8f3b7c11"
EXAMPLE_IMAGE_ID = "0b9a4a52-6b3f-4f0e-8a55-3d9be1f0c2d4"
PriorityName = Literal["high", "normal", "low"]


class PublicStatus(StrEnum):
    """Where a job is, in the four words of `/jobs`."""

    QUEUED = "queued"
    """It waits, for its first attempt or for the next one."""
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"


STATUSES: Mapping[PublicStatus, tuple[Status, ...]] = {
    PublicStatus.QUEUED: (Status.PENDING, Status.RETRYING),
    PublicStatus.PROCESSING: (Status.PROCESSING,),
    PublicStatus.COMPLETED: (Status.COMPLETED,),
    PublicStatus.FAILED: (Status.FAILED,),
}
"""What each public word stands for."""
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_PUBLIC = {status: public for public, statuses in STATUSES.items() for status in statuses}


def _no_number(value: object) -> object:
    """Refuse what pydantic takes for seconds since 1970: an instant is written out here."""
    if isinstance(value, str) and not _DATE.match(value):
        raise ValueError("Input should be a date and a time, such as 2026-11-08T14:00:00Z")
    return value


Instant = Annotated[datetime, BeforeValidator(_no_number)]


class JobQuery(BaseModel):
    """Which page of which jobs."""

    model_config = ConfigDict(extra="forbid")

    status: PublicStatus | None = Field(
        default=None, description="Only jobs with this status.", examples=["completed"]
    )
    priority: PriorityName | None = Field(
        default=None, description="Only jobs of this priority.", examples=["high"]
    )
    created_after: Instant | None = Field(
        default=None,
        description="Only jobs created then or later; UTC where it names no zone.",
        examples=["2026-11-08T14:00:00Z"],
    )
    created_before: Instant | None = Field(
        default=None, description="Only jobs created earlier.", examples=["2026-11-09T14:00:00Z"]
    )
    limit: int = Field(default=20, ge=1, le=100)
    cursor: str | None = Field(
        default=None, max_length=MAX_CURSOR_LENGTH, description="`next_cursor` of the page before."
    )

    @property
    def filter(self) -> Filter:
        """The same in the words of the listing."""
        return Filter(
            statuses=None if self.status is None else STATUSES[self.status],
            priority=None if self.priority is None else Priority[self.priority.upper()],
            created_after=self.created_after,
            created_before=self.created_before,
        )


class JobAccepted(BaseModel):
    """The answer to a request for a job."""

    job_id: str = Field(examples=[EXAMPLE_ID])
    status: PublicStatus = Field(
        description="`queued`; or how far the job is that was there before.", examples=["queued"]
    )
    image_id: str = Field(examples=[EXAMPLE_IMAGE_ID])
    status_url: str = Field(examples=[f"/jobs/{EXAMPLE_ID}"])
    joined: bool = Field(
        default=False, description="Whether a job answers that was there before.", examples=[False]
    )


class JobBody(BaseModel):
    """A job."""

    job_id: str = Field(examples=[EXAMPLE_ID])
    status: PublicStatus = Field(
        description="A job that waits for its next attempt is `queued` too; `state` tells.",
        examples=["completed"],
    )
    state: Status = Field(
        description="The same in our own words: `pending` and `retrying` are both `queued`.",
        examples=["completed"],
    )
    progress: int = Field(
        ge=0, le=100, description="How much of the present attempt is done, in percent.", examples=[100]
    )
    input: str | None = Field(
        description="Null for a picture that was uploaded.", examples=["s3://bucket/input.jpg"]
    )
    output: str | None = Field(
        description="Where the result is: there once completed, and where there is only one.",
        examples=["s3://bucket/output.jpg"],
    )
    image_id: str = Field(description="For `/api/v1/images/…`.", examples=[EXAMPLE_IMAGE_ID])
    priority: PriorityName = Field(examples=["normal"])
    attempts: int = Field(description="Attempts so far.", examples=[1])
    retries: int = Field(description="Attempts after the first.", examples=[0])
    max_retries: int = Field(examples=[3])
    cancel_requested: bool = Field(
        description="Whether a running job will end as cancelled.", examples=[False]
    )
    error: str | None = Field(
        description="Why the last attempt failed, as a sentence.",
        examples=[None, "The image is truncated or damaged."],
    )
    error_code: str | None = Field(
        description="The same as a word for programs.", examples=[None, "corrupt_image"]
    )
    reason: Reason | None = Field(description="Why a failed job will not go on.", examples=[None, "rejected"])
    metadata: dict[str, Any] = Field(
        description="What came along with the request, as it came.", examples=[{"album": "summer"}]
    )
    callback_url: str | None = Field(examples=[None, "https://example.com/hooks/images"])
    created_at: str = Field(examples=["2026-11-08T14:00:00.000Z"])
    started_at: str | None = Field(
        description="When the last attempt began.", examples=["2026-11-08T14:00:00.120Z"]
    )
    completed_at: str | None = Field(
        description="When it came to rest, whichever way.", examples=["2026-11-08T14:00:01.204Z"]
    )


class JobPage(BaseModel):
    """Some jobs, the newest first."""

    jobs: list[JobBody]
    next_cursor: str | None = Field(
        description="What `cursor` is for the next page; null behind the last.",
        examples=["WyIyMDI2LTExLTA4VDE0OjAwOjAwLjAwMFoiLCAiNWYwYzNjM2UiXQ", None],
    )


def accepted_body(receipt: Receipt, job: Job | None) -> JobAccepted:
    """The proof that a job is durable; `job` is the one that was there before, if it still is."""
    return JobAccepted(
        job_id=receipt.job_id,
        image_id=receipt.image_id,
        status=PublicStatus.QUEUED if job is None else _PUBLIC[job.status],
        status_url=f"/jobs/{receipt.job_id}",
        joined=receipt.joined or receipt.replayed,
    )


def job_bodies(jobs: Sequence[Job], service: ImageService) -> list[JobBody]:
    """Jobs of one user as they see them."""
    urls = _urls(jobs, service)
    return [_body(job, urls.get(job.image_id)) for job in jobs]


def job_body(job: Job, service: ImageService) -> JobBody:
    """A job as its user sees it."""
    return job_bodies([job], service)[0]


def _body(job: Job, url: str | None) -> JobBody:
    names = ("job_id", "image_id", "max_retries", "cancel_requested", "error", "error_code", "reason")
    times = ("created_at", "started_at", "completed_at")
    status = _PUBLIC[job.status]
    return JobBody(
        **{name: getattr(job, name) for name in (*names, *times)},
        status=status,
        state=job.status,
        progress=0 if status is PublicStatus.QUEUED else job.progress,
        input=job.source_uri,
        output=(job.output_uri or url) if status is PublicStatus.COMPLETED else None,
        priority=priority_name(job.priority),
        attempts=job.attempt_count,
        retries=max(0, job.attempt_count - 1),
        metadata=dict(job.metadata),
        callback_url=job.callback_url,
    )


def priority_name(priority: Priority) -> PriorityName:
    """The word for a priority."""
    names: dict[Priority, PriorityName] = {
        Priority.HIGH: "high",
        Priority.NORMAL: "normal",
        Priority.LOW: "low",
    }
    return names[priority]


def _urls(jobs: Sequence[Job], service: ImageService) -> dict[str, str]:
    """By image id, the address of the only variant of each job that completed into our storage."""
    ours = [job for job in jobs if job.status is Status.COMPLETED and job.output_uri is None]
    images = service.images(ours[0].user_id, [job.image_id for job in ours]) if ours else []
    return {
        image.image_id: service.url(next(iter(image.variants.values())))
        for image in images
        if len(image.variants) == 1
    }
