"""What the sweeper does with jobs that nobody else will end: reap, expire, prune. Any number may do it."""

from collections.abc import Callable, Sequence

from sqlalchemy import Connection, RowMapping

from image_processor.errors import EngineCrashedError
from image_processor.jobs import transitions
from image_processor.jobs.clock import read_clock, statement, to_iso
from image_processor.jobs.database import Database
from image_processor.jobs.retry import RetryPolicy
from image_processor.jobs.values import DAY_SECONDS, PURGE_GRACE_SECONDS, Fence, Settlement

# An image that can be served keeps its job. So does one whose objects still wait for their purge, which needs
# the job's pipeline to know their keys. (A cross join keeps SQLite from starting at the many completed jobs.)
PRUNABLE = statement("""
select processing_jobs.job_id from processing_jobs
join images on images.image_id = processing_jobs.image_id
where processing_jobs.status = 'failed' and processing_jobs.completed_at < :before
  and images.purge_after is null
union all
select processing_jobs.job_id from images cross join processing_jobs
where images.deleted_at < :before and images.purge_after is null
  and processing_jobs.image_id = images.image_id and processing_jobs.status = 'completed'
limit :limit
""")
LOCK_JOB = statement("select job_id from processing_jobs where job_id = :job_id <skip_locked>")
# Looked at again under the lock: it may have been replayed, or its image deleted, since it was found.
DELETE_JOB = statement("""
delete from processing_jobs
where job_id = :job_id and completed_at < :before and status in ('completed', 'failed')
  and exists (select 1 from images where images.image_id = processing_jobs.image_id
              and images.purge_after is null
              and (processing_jobs.status = 'failed' or images.deleted_at < :before))
returning image_id
""")
DELETE_IMAGE = statement("delete from images where image_id = :image_id")
DELETE_EVENTS = statement("delete from image_upload_events where job_id = :job_id")
DELETE_PROGRESS = statement("delete from job_progress where job_id = :job_id")
DELETE_DELIVERIES = statement("delete from webhook_deliveries where job_id = :job_id")
DELETE_KEYS = statement("delete from idempotency_keys where expires_at <= <now>")

_WORKER_LOST = EngineCrashedError("The worker stopped before it had finished.")


class RecoveryRepository:
    """
    The ends of jobs that are decided by time, or by the death of a worker.

    `reap` and `expire` take the write lock even where nothing is to be done: getting it tells a sweeper that
    heartbeats can be written, and that a lease that has ended may be believed.
    """

    def __init__(
        self,
        database: Database,
        *,
        policy: RetryPolicy | None = None,
        purge_grace_seconds: float = PURGE_GRACE_SECONDS,
    ) -> None:
        self._database = database
        self._policy = policy or RetryPolicy()
        self._grace_seconds = purge_grace_seconds

    def reap(
        self, limit: int = 50, *, is_credible: Callable[[float], bool] = lambda _now: True
    ) -> list[Settlement]:
        """
        Take up to `limit` jobs from workers whose lease has ended: a crash is charged to each.

        Once they are found, `is_credible` is asked with the database's time, in epoch seconds; nothing is
        taken where it says no. A database that was frozen over the question, or whose clock jumped, finds
        the leases of the living ended too.
        """
        with self._database.write() as connection:
            rows = connection.execute(transitions.LEASES_ENDED, {"limit": limit}).mappings().all()
            return self._settle_crashed(connection, rows) if is_credible(read_clock(connection)) else []

    def reap_worker(self, worker_id: str) -> list[Settlement]:
        """Take all jobs from a worker that is known to be dead, without waiting for its leases."""
        with self._database.write() as connection:
            rows = connection.execute(transitions.LEASES_OF_WORKER, {"worker_id": worker_id}).mappings().all()
            return self._settle_crashed(connection, rows)

    def _settle_crashed(self, connection: Connection, rows: Sequence[RowMapping]) -> list[Settlement]:
        settlements = (self._settle_crash(connection, row) for row in rows)
        return [settlement for settlement in settlements if settlement is not None]

    def _settle_crash(self, connection: Connection, row: RowMapping) -> Settlement | None:
        return transitions.settle(
            connection,
            Fence(job_id=row["job_id"], claim_seq=row["claim_seq"]),
            self._policy.after_crash(transitions.to_history(row)),
            error=_WORKER_LOST,
            grace_seconds=self._grace_seconds,
        )

    def expire(self, limit: int = 500) -> list[Settlement]:
        """End up to `limit` jobs that waited longer than their time to live."""
        with self._database.write() as connection:
            return transitions.expire(connection, limit, grace_seconds=self._grace_seconds)

    def prune(self, older_than_days: float, limit: int = 500) -> int:
        """
        Forget up to `limit` jobs that failed, or whose image was deleted, before that; gives how many.

        All that is told of them goes with them, and their images, once nothing of those is stored.
        """
        with self._database.write() as connection:
            before = to_iso(read_clock(connection) - older_than_days * DAY_SECONDS)
            found = connection.execute(PRUNABLE, {"before": before, "limit": limit}).scalars().all()
            return sum(_prune(connection, job_id, before) for job_id in found)

    def prune_idempotency_keys(self) -> int:
        """Forget the idempotency keys whose time is over; gives how many."""
        with self._database.write() as connection:
            return connection.execute(DELETE_KEYS).rowcount


def _prune(connection: Connection, job_id: str, before: str) -> bool:
    if connection.execute(LOCK_JOB, {"job_id": job_id}).first() is None:
        return False
    parameters = {"job_id": job_id, "before": before}
    image_id = connection.execute(DELETE_JOB, parameters).scalar_one_or_none()
    if image_id is None:
        return False
    connection.execute(DELETE_IMAGE, {"image_id": image_id})
    for delete in (DELETE_EVENTS, DELETE_PROGRESS, DELETE_DELIVERIES):
        connection.execute(delete, {"job_id": job_id})
    return True
