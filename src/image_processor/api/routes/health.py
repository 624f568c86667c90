"""`/api/v1/health`: whether the service can work, and how it does."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from image_processor import __version__
from image_processor.api.auth import Admin
from image_processor.api.lanes import checking
from image_processor.api.openapi import error_responses, header_references
from image_processor.api.pages import Cursor, next_link
from image_processor.api.routes.dependencies import Wired
from image_processor.api.schemas import (
    FailedJobs,
    Health,
    HealthStatistics,
    Performance,
    StorageTotals,
    WorkerTotals,
    failed_job,
)
from image_processor.bootstrap import App
from image_processor.errors import ImageProcessorError, StorageTimeoutError
from image_processor.jobs.states import Status

router = APIRouter(prefix="/api/v1/health", tags=["health"])

CHECK_SECONDS = 5.0
"""What a storage that is silent may cost: whoever asks for our health does not wait for long."""


@router.head("", include_in_schema=False)
@router.get(
    "", responses={503: {"model": Health, "description": "Something that is needed does not answer."}}
)
async def health(request: Request, response: Response, app: Wired) -> Health:
    """Whether the database and the storage answer; asks for no token."""
    look: SharedLook = request.app.state.storage_look
    parts = {"database": await run_in_threadpool(_database, app), "storage": await look.state()}
    is_healthy = all(state == "ok" for state in parts.values())
    response.status_code = 200 if is_healthy else 503
    return Health(
        status="healthy" if is_healthy else "unhealthy",
        service=app.settings.service_name,
        version=app.settings.version or __version__,
        **parts,
    )


def _database(app: App) -> str:
    try:
        app.database.ping()
    except ImageProcessorError as error:
        return error.code
    return "ok"


class SharedLook:
    """
    One look at the storage for all who ask while it lasts.

    Nobody shows a token for it: else any number of strangers would wait in one line with those who end a
    service that does not answer in time, and each would cost a listing.
    """

    def __init__(self, app: App) -> None:
        self._app = app
        self._running: asyncio.Task[str] | None = None

    async def state(self) -> str:
        """`ok`, or the code of what is wrong."""
        running = self._running
        if running is None or running.done() or running.get_loop() is not asyncio.get_running_loop():
            running = self._running = asyncio.create_task(_storage(self._app))
        return await asyncio.shield(running)


async def _storage(app: App) -> str:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            return await checking(_storage_state, app)
    except TimeoutError:
        return StorageTimeoutError.code


def _storage_state(app: App) -> str:
    try:
        app.storage.check()
        free = app.storage.free_bytes()
    except ImageProcessorError as error:
        return error.code
    return "ok" if free is None or free >= app.settings.min_free_bytes else "nearly_full"


@router.get("/stats")
def stats(_user: Admin, app: Wired) -> HealthStatistics:
    """The service in numbers."""
    found = app.statistics.statistics()
    return HealthStatistics(
        status_breakdown=dict(found.status_breakdown),
        performance_24h=Performance(
            completed_24h=found.completed_24h, avg_processing_time_seconds=found.avg_processing_time_seconds
        ),
        storage=StorageTotals(total_images=found.total_images, total_jobs=found.total_jobs),
        celery=WorkerTotals(
            active_workers=app.statistics.active_workers(),
            active_tasks=found.status_breakdown.get(Status.PROCESSING, 0),
        ),
    )


@router.get("/failed", responses=error_responses(422) | {200: header_references("Link")})
def failed(
    response: Response,
    _user: Admin,
    app: Wired,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    cursor: Cursor = None,
) -> FailedJobs:
    """The newest failed jobs of all users, with their errors; your own are under `/jobs/failed`."""
    page = app.listing.failed(limit=limit, cursor=cursor)
    response.headers.update(next_link(f"{router.prefix}/failed", {"limit": limit}, page.next_cursor))
    jobs = [failed_job(job) for job in page.jobs]
    return FailedJobs(failed_jobs=jobs, count=len(jobs), next_cursor=page.next_cursor)
