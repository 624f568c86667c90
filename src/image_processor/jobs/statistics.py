"""The state of the service for its health pages, in numbers. Jobs that failed: `listing`."""

from sqlalchemy import Connection

from image_processor.jobs.clock import read_clock, statement, to_iso
from image_processor.jobs.database import Database
from image_processor.jobs.states import Status
from image_processor.jobs.values import DAY_SECONDS, Statistics
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


def _status_breakdown(connection: Connection) -> dict[Status, int]:
    counted = {Status(row.status): row.jobs for row in connection.execute(STATUS_BREAKDOWN)}
    return {status: counted.get(status, 0) for status in Status}
