"""The state of the service for its health pages: numbers, and the jobs that failed."""

from sqlalchemy import Connection

from image_processor.jobs.clock import read_clock, statement, to_iso
from image_processor.jobs.database import Database
from image_processor.jobs.repository import JOB_COLUMNS, to_job
from image_processor.jobs.states import Status
from image_processor.jobs.values import DAY_SECONDS, Job, Statistics
from image_processor.jobs.workers import SEEN_SECONDS

# One part for each partial index.
STATUS_BREAKDOWN = statement("""
select status, count(*) as jobs from processing_jobs where status in ('pending', 'retrying') group by status
union all
select 'processing', count(*) from processing_jobs where status = 'processing' and lease_until is not null
union all select 'completed', count(*) from processing_jobs where status = 'completed'
union all select 'failed', count(*) from processing_jobs where status = 'failed'
""")

COMPLETED_SINCE = statement("""
select count(*) as completed, avg(<run_seconds>) as seconds
from processing_jobs where status = 'completed' and completed_at >= :since
""")

SERVABLE_IMAGES = statement("select count(*) from images where deleted_at is null and variants is not null")

ACTIVE_WORKERS = statement("""
select count(*) from workers where seen_at > <now> - :seconds
""")

# Dead letters, and those that expired; what the user cancelled is no worry of theirs.
_FAILED_JOBS = f"""
select {JOB_COLUMNS} from processing_jobs join images on images.image_id = processing_jobs.image_id
where processing_jobs.status = 'failed' and processing_jobs.reason <> 'cancelled'
  and images.deleted_at is null<whose>
order by processing_jobs.completed_at desc limit :limit
"""  # noqa: S608
FAILED_JOBS = statement(_FAILED_JOBS.replace("<whose>", " and processing_jobs.user_id = :user_id"))
FAILED_JOBS_OF_ALL = statement(_FAILED_JOBS.replace("<whose>", ""))


class StatisticsRepository:
    """Counts over the tables."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def statistics(self) -> Statistics:
        """All numbers, of one moment."""
        with self._database.read() as connection:
            breakdown = _status_breakdown(connection)
            since = to_iso(read_clock(connection) - DAY_SECONDS)
            recent = connection.execute(COMPLETED_SINCE, {"since": since}).one()
            return Statistics(
                status_breakdown=breakdown,
                completed_24h=recent.completed,
                avg_processing_time_seconds=recent.seconds,
                total_images=connection.execute(SERVABLE_IMAGES).scalar_one(),
                total_jobs=sum(breakdown.values()),
            )

    def active_workers(self) -> int:
        """How many worker processes said within the last minute that they are alive."""
        with self._database.read() as connection:
            return int(connection.execute(ACTIVE_WORKERS, {"seconds": SEEN_SECONDS}).scalar_one())

    def failed(self, limit: int, *, user_id: str) -> list[Job]:
        """The user's jobs that failed, the latest first; without those that were cancelled or deleted."""
        with self._database.read() as connection:
            rows = connection.execute(FAILED_JOBS, {"user_id": user_id, "limit": limit}).mappings()
            return [to_job(row) for row in rows]

    def failed_of_all(self, limit: int) -> list[Job]:
        """The same of all users."""
        with self._database.read() as connection:
            rows = connection.execute(FAILED_JOBS_OF_ALL, {"limit": limit}).mappings()
            return [to_job(row) for row in rows]


def _status_breakdown(connection: Connection) -> dict[Status, int]:
    counted = {Status(row.status): row.jobs for row in connection.execute(STATUS_BREAKDOWN)}
    return {status: counted.get(status, 0) for status in Status}
