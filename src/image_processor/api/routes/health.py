"""`/api/v1/health`: whether the service can work, and how it does."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from image_processor import __version__
from image_processor.api.auth import User
from image_processor.api.errors import error_responses
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
from image_processor.errors import ImageProcessorError
from image_processor.jobs.states import Status

router = APIRouter(prefix="/api/v1/health", tags=["health"])


@router.head("", include_in_schema=False)
@router.get(
    "", responses={503: {"model": Health, "description": "Something that is needed does not answer."}}
)
def health(response: Response, app: Wired) -> Health:
    """Whether the database and the storage answer; asks for no token."""
    parts = {"database": _database(app), "storage": _storage(app)}
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


def _storage(app: App) -> str:
    try:
        app.storage.check()
        free = app.storage.free_bytes()
    except ImageProcessorError as error:
        return error.code
    return "ok" if free is None or free >= app.settings.min_free_bytes else "nearly_full"


@router.get("/stats", responses=error_responses(401, 503))
def stats(_user: User, app: Wired) -> HealthStatistics:
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


@router.get("/failed", responses=error_responses(401, 422, 503))
def failed(user: User, app: Wired, limit: Annotated[int, Query(ge=1, le=500)] = 50) -> FailedJobs:
    """Your newest failed jobs, with their errors."""
    jobs = [failed_job(job) for job in app.statistics.failed(limit, user_id=user)]
    return FailedJobs(failed_jobs=jobs, count=len(jobs))
