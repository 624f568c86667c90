"""The jobs room: tables, states, retry decisions and every SQL statement there is. No image bytes here."""

from typing import TYPE_CHECKING

from image_processor.on_demand import names_of

if TYPE_CHECKING:
    from image_processor.jobs.database import Database
    from image_processor.jobs.images import ImageRepository
    from image_processor.jobs.rate_limits import RateLimitRepository
    from image_processor.jobs.recovery import RecoveryRepository
    from image_processor.jobs.repository import JobRepository
    from image_processor.jobs.retry import Decision, History, RetryPolicy
    from image_processor.jobs.sqlite import has_wal_reset_bug, sqlite_version
    from image_processor.jobs.states import LIVE, REPLAYABLE, TRANSITIONS, Reason, Status
    from image_processor.jobs.statistics import StatisticsRepository
    from image_processor.jobs.values import (
        Claim,
        Event,
        EventType,
        Facts,
        Fence,
        Idempotency,
        Image,
        Job,
        Lease,
        NewJob,
        Original,
        Priority,
        Purge,
        Quota,
        RateLimit,
        Receipt,
        Settlement,
        Statistics,
        StoredVariant,
        new_id,
    )
    from image_processor.jobs.workers import WorkerRepository

__all__ = [
    "LIVE",
    "REPLAYABLE",
    "TRANSITIONS",
    "Claim",
    "Database",
    "Decision",
    "Event",
    "EventType",
    "Facts",
    "Fence",
    "History",
    "Idempotency",
    "Image",
    "ImageRepository",
    "Job",
    "JobRepository",
    "Lease",
    "NewJob",
    "Original",
    "Priority",
    "Purge",
    "Quota",
    "RateLimit",
    "RateLimitRepository",
    "Reason",
    "Receipt",
    "RecoveryRepository",
    "RetryPolicy",
    "Settlement",
    "Statistics",
    "StatisticsRepository",
    "Status",
    "StoredVariant",
    "WorkerRepository",
    "has_wal_reset_bug",
    "new_id",
    "sqlite_version",
]

__getattr__ = names_of(
    __name__,
    {
        "LIVE": "states",
        "REPLAYABLE": "states",
        "TRANSITIONS": "states",
        "Claim": "values",
        "Database": "database",
        "Decision": "retry",
        "Event": "values",
        "EventType": "values",
        "Facts": "values",
        "Fence": "values",
        "History": "retry",
        "Idempotency": "values",
        "Image": "values",
        "ImageRepository": "images",
        "Job": "values",
        "JobRepository": "repository",
        "Lease": "values",
        "NewJob": "values",
        "Original": "values",
        "Priority": "values",
        "Purge": "values",
        "Quota": "values",
        "RateLimit": "values",
        "RateLimitRepository": "rate_limits",
        "Reason": "states",
        "Receipt": "values",
        "RecoveryRepository": "recovery",
        "RetryPolicy": "retry",
        "Settlement": "values",
        "Statistics": "values",
        "StatisticsRepository": "statistics",
        "Status": "states",
        "StoredVariant": "values",
        "WorkerRepository": "workers",
        "has_wal_reset_bug": "sqlite",
        "new_id": "values",
        "sqlite_version": "sqlite",
    },
)
