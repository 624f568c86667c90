"""The event streams of jobs: what polling tells, as it happens, for browsers and clients that can wait."""

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Request, Response
from pydantic import BaseModel, Field

from image_processor.api.auth import Reader
from image_processor.api.events import HEADERS, EventStream, Form, JobWatcher, event_of
from image_processor.api.job_schemas import STATUSES, PublicStatus
from image_processor.api.openapi import error_responses
from image_processor.api.routes.dependencies import Wired
from image_processor.api.routes.jobs import JobId
from image_processor.api.schemas import EXAMPLE_ID, JobStatus
from image_processor.jobs.progress import JobState
from image_processor.jobs.states import Status
from image_processor.storage.base import Storage

router = APIRouter(tags=["events"], responses=error_responses(404, 422, 429))


class ImageJobEvent(JobStatus):
    """What an event of `/api/v1/images/jobs/{job_id}/events` tells."""

    step: str | None = Field(
        description="fetch, render, store or commit; null unless a worker told of it.", examples=[None]
    )


class JobEvent(BaseModel):
    """What an event of `/jobs/{job_id}/events` tells."""

    job_id: str = Field(examples=[EXAMPLE_ID])
    status: PublicStatus = Field(examples=["completed"])
    progress: int = Field(examples=[100])
    step: str | None = Field(examples=[None])
    error: str | None = Field(examples=[None])
    error_code: str | None = Field(examples=[None])
    output: str | None = Field(examples=["s3://bucket/output.jpg"])


class Events(Response):
    """Stands for a stream in the description of a route."""

    media_type = "text/event-stream"


def _stream_of(data: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    return {
        200: {"model": data, "description": "`progress` events, then one `completed` or `failed`."},
        204: {"description": "The client has the last event already: it need not connect again."},
    }


def image_job_event(state: JobState) -> ImageJobEvent:
    """A state in the words of `/api/v1/images`."""
    return ImageJobEvent(
        job_id=state.job_id,
        image_id=state.image_id,
        status=state.status,
        created_at=state.created_at,
        completed_at=state.completed_at,
        error=state.error,
        error_code=state.error_code,
        attempts=state.attempt_count,
        progress=state.progress,
        step=state.step,
    )


def job_event(storage: Storage, state: JobState) -> JobEvent:
    """A state in the words of `/jobs`."""
    status = next(public for public, statuses in STATUSES.items() if state.status in statuses)
    return JobEvent(
        job_id=state.job_id,
        status=status,
        progress=0 if status is PublicStatus.QUEUED else state.progress,
        step=state.step,
        error=state.error,
        error_code=state.error_code,
        output=_output(storage, state),
    )


def _output(storage: Storage, state: JobState) -> str | None:
    """Where the result is, once there is one, and where there is only one."""
    if state.status is not Status.COMPLETED or len(state.paths) != 1:
        return None
    return state.output_uri or storage.url(next(iter(state.paths.values())))


async def job_watcher(request: Request) -> JobWatcher:
    """The one of this process."""
    watcher: JobWatcher = request.app.state.watcher
    return watcher


Watcher = Annotated[JobWatcher, Depends(job_watcher)]
LastEventId = Annotated[
    str | None,
    Header(
        max_length=100,
        description="The id of the last event that the client has.",
        examples=["cf07b2fe55e0135e"],
    ),
]


@router.get("/api/v1/images/jobs/{job_id}/events", response_class=Events, responses=_stream_of(ImageJobEvent))
async def image_job_events(
    user: Reader, job_id: JobId, watcher: Watcher, last_event_id: LastEventId = None
) -> Response:
    """How a job goes, told as Server-Sent Events until it is over."""
    return await _stream(watcher, job_id, user, image_job_event, last_event_id)


@router.get("/jobs/{job_id}/events", response_class=Events, responses=_stream_of(JobEvent))
async def job_events(
    user: Reader, job_id: JobId, app: Wired, watcher: Watcher, last_event_id: LastEventId = None
) -> Response:
    """The same for jobs of `/jobs`, in its words."""
    return await _stream(watcher, job_id, user, partial(job_event, app.storage), last_event_id)


async def _stream(watcher: JobWatcher, job_id: str, user: str, form: Form, seen: str | None) -> Response:
    watch = await watcher.open(job_id, user)
    event = event_of(watch.state, form)
    if event.is_last and event.id == seen:
        watch.close()
        return Response(status_code=204, headers=HEADERS)
    return EventStream(watch, form, seen=seen)
