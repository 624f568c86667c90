"""The life of a job, one transaction a method: submit, claim, heartbeat, the ends of an attempt, reads."""

import json
import random
from collections.abc import Callable, Collection
from dataclasses import replace

from sqlalchemy import Connection, RowMapping, Text, bindparam, column

from image_processor.errors import ImageProcessorError
from image_processor.jobs import idempotency, rate_limits, transitions
from image_processor.jobs.clock import statement
from image_processor.jobs.database import Database
from image_processor.jobs.retry import CANCEL, RELEASE, Decision, RetryPolicy, snooze
from image_processor.jobs.states import Reason, Status
from image_processor.jobs.values import (
    DAY_SECONDS,
    PURGE_GRACE_SECONDS,
    Claim,
    Event,
    EventType,
    Facts,
    Job,
    Lease,
    NewJob,
    Original,
    Priority,
    RateLimit,
    Receipt,
    Settlement,
)

# The progress of an earlier attempt says nothing of this one.
_PERCENT = """(
  select percent from job_progress
  where job_progress.job_id = processing_jobs.job_id and job_progress.claim_seq = processing_jobs.claim_seq
) as percent"""
_OF_A_JOB = (
    *("job_id", "image_id", "user_id", "status", "reason", "preset", "storage_bucket", "priority"),
    *("attempt_count", "max_retries", "crash_count", "cancel_requested_at", "last_error", "error_code"),
    *("processing_metadata", "source_uri", "output_uri", "callback_url"),
    *("created_at", "started_at", "completed_at"),
)
JOB_COLUMNS = ", ".join([*(f"processing_jobs.{name}" for name in _OF_A_JOB), _PERCENT])
"""What `to_job` needs."""

_JOB = f"""
select {JOB_COLUMNS} from processing_jobs join images on images.image_id = processing_jobs.image_id
where images.deleted_at is null
"""  # noqa: S608
# Of a statement that names its columns SQLAlchemy learns once what a row of it is, not each time.
ONE_JOB = statement(
    f"{_JOB} and processing_jobs.job_id = :job_id and processing_jobs.user_id = :user_id"
).columns(*(column(name) for name in (*_OF_A_JOB, "percent")))

LIVE_TWIN = statement("""
select job_id, image_id, created_at from processing_jobs
where user_id = :user_id and dedupe_key = :dedupe_key and dedupe_key is not null
  and status in ('pending', 'processing', 'retrying') and cancel_requested_at is null
""").columns(column("job_id"), column("image_id"), column("created_at"))

COMPLETED_TWIN = statement("""
select processing_jobs.job_id, processing_jobs.image_id, processing_jobs.created_at
from processing_jobs join images on images.image_id = processing_jobs.image_id
where processing_jobs.user_id = :user_id and processing_jobs.dedupe_key = :dedupe_key
  and processing_jobs.dedupe_key is not null and processing_jobs.status = 'completed'
  and images.deleted_at is null
order by processing_jobs.completed_at desc limit 1
""")

EVENTS = statement("select * from image_upload_events where job_id = :job_id order by <event_order>")

NEXT_DUE = statement("""
select min(run_at) - <now> from processing_jobs where status in ('pending', 'retrying') and expires_at > <now>
""")

# Needed: by a job that will go on, or by a dead letter that may be replayed.
STAGED = statement("""
select processing_jobs.staging_path
from processing_jobs join images on images.image_id = processing_jobs.image_id
where processing_jobs.staging_path in :staging_paths and processing_jobs.status <> 'completed'
  and coalesce(processing_jobs.reason, '') not in ('cancelled', 'rejected')
  and (images.deleted_at is null or processing_jobs.status <> 'failed')
""").bindparams(bindparam("staging_paths", type_=Text, expanding=True))

DUE_OF_OTHERS = statement("""
select 1 from processing_jobs
where status in ('pending', 'retrying') and run_at <= <now> and expires_at > <now> and user_id <> :user_id
limit 1
""")

NO_RATE_LIMIT = RateLimit(max_uploads=0)

MAX_TURNS = 5
"""How often a submit looks for the twin that came in between; each time, that one has ended meanwhile."""


class JobRepository:
    """What the service and the workers may do with a job."""

    def __init__(
        self,
        database: Database,
        *,
        policy: RetryPolicy | None = None,
        purge_grace_seconds: float = PURGE_GRACE_SECONDS,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._database = database
        self._policy = policy or RetryPolicy()
        self._grace_seconds = purge_grace_seconds
        self._jitter = jitter

    def submit(self, upload: NewJob, rate_limit: RateLimit) -> Receipt:
        """
        Accept an upload: image, job, event and one slot of the rate limit, all or nothing; durable on return.

        A live job of the same user with the same dedupe key is joined (also a completed one, with
        `reuse_completed`). No slot is taken where the idempotency key was answered before.
        Raises RateLimitError where the window is used up, InvalidRequestError for metadata that is not JSON,
        IdempotencyError where the key came with another request before.
        """
        for _ in range(MAX_TURNS - 1):
            try:
                return self._submit(upload, rate_limit)
            except transitions.TwinError:
                continue
        return self._submit(upload, rate_limit)

    def _submit(self, upload: NewJob, rate_limit: RateLimit) -> Receipt:
        with self._database.write() as connection:
            if answered := idempotency.take(connection, upload):
                return replace(answered, quota=rate_limits.read(connection, upload.user_id, rate_limit))
            quota = rate_limits.take(connection, upload.user_id, rate_limit)
            if twin := _join_twin(connection, upload):
                return replace(twin, quota=quota)
            created_at = transitions.insert(connection, upload)
        return Receipt(job_id=upload.job_id, image_id=upload.image_id, created_at=created_at, quota=quota)

    def answered(self, user_id: str, key: str) -> bool:
        """Whether a request of the user with this idempotency key was answered, and the key still stands."""
        with self._database.read() as connection:
            return idempotency.is_answered(connection, user_id, key)

    def claim(self, worker_id: str, lease_seconds: float, job_id: str | None = None) -> Claim | None:
        """The best job that is due, or the one of that id if it is due; None where there is none."""
        if job_id is None and self._database.has_one_writer and not self._is_any_due():
            return None  # an idle worker asks often; it need not take the write lock for that
        with self._database.write() as connection:
            return transitions.claim(connection, worker_id, lease_seconds, job_id)

    def _is_any_due(self) -> bool:
        with self._database.read() as connection:
            return connection.execute(transitions.ANY_DUE).first() is not None

    def is_due_for_others(self, user_id: str) -> bool:
        """Whether a job of another user than this one could be claimed now."""
        with self._database.read() as connection:
            return connection.execute(DUE_OF_OTHERS, {"user_id": user_id}).first() is not None

    def note_original(self, claim: Claim, original: Original) -> bool:
        """Write what the fetched original of a claimed job is; False: the job is somebody else's by now."""
        with self._database.write() as connection:
            return transitions.note_original(connection, claim, original)

    def heartbeat(self, claim: Claim, lease_seconds: float) -> Lease:
        """Hold the job for another `lease_seconds` from now; says so where it is lost or nobody wants it."""
        with self._database.write() as connection:
            return transitions.heartbeat(connection, claim, lease_seconds)

    def complete(self, claim: Claim, facts: Facts) -> bool:
        """
        Make the result visible.

        False: the job is somebody else's by now, or its cancellation won, and then it is settled here.
        """
        with self._database.write() as connection:
            if transitions.complete(connection, claim, facts):
                return True
            if transitions.is_cancel_requested(connection, claim):
                transitions.settle(connection, claim, CANCEL, error=None, grace_seconds=self._grace_seconds)
            return False

    def fail(self, claim: Claim, error: ImageProcessorError) -> Settlement | None:
        """
        End the attempt as the retry policy decides for `error`, crashes and outages included.

        None: the job is somebody else's by now.
        """
        decision = self._policy.decide(error, claim.history, jitter=self._jitter())
        return self._settle(claim, decision, error)

    def snooze(self, claim: Claim, delay_seconds: float) -> Settlement | None:
        """Give the job and the attempt back until `delay_seconds` have passed; None: it is not ours."""
        return self._settle(claim, snooze(delay_seconds))

    def release(self, claim: Claim) -> Settlement | None:
        """Give the job and the attempt back, due at once; None: it is not ours."""
        return self._settle(claim, RELEASE)

    def end_cancelled(self, claim: Claim) -> Settlement | None:
        """Settle a job as cancelled after its heartbeat said CANCEL_REQUESTED; None: it is not ours."""
        return self._settle(claim, CANCEL)

    def _settle(
        self, claim: Claim, decision: Decision, error: ImageProcessorError | None = None
    ) -> Settlement | None:
        with self._database.write() as connection:
            return transitions.settle(
                connection, claim, decision, error=error, grace_seconds=self._grace_seconds
            )

    def cancel(self, job_id: str, user_id: str) -> Job | None:
        """
        End a waiting job at once, ask for the end of a running one; a finished one stays as it is.

        The job as it is then; None where the user has no such job.
        """
        with self._database.write() as connection:
            if _find(connection, job_id, user_id) is None:
                return None
            transitions.cancel(connection, job_id, grace_seconds=self._grace_seconds)
            return _find(connection, job_id, user_id)

    def replay(
        self,
        job_id: str,
        *,
        user_id: str,
        ttl_seconds: float = DAY_SECONDS,
        rate_limit: RateLimit = NO_RATE_LIMIT,
    ) -> bool:
        """
        Begin a dead letter of the user's anew, with all its attempts; it takes one slot of the rate limit.

        False where the user has no such job, it is not failed (any more), was cancelled, or was rejected and
        had its original uploaded; where its image is deleted or being purged, and where a live job has its
        dedupe key: then no slot is taken. Raises RateLimitError where none is left.
        """
        with self._database.write() as connection, connection.begin_nested() as attempt:
            # The slot first, as in a submit: who takes locks in another order may wait for each other.
            rate_limits.take(connection, user_id, rate_limit)
            is_begun = transitions.replay(connection, job_id, user_id, ttl_seconds)
            if not is_begun:
                attempt.rollback()
            return is_begun

    def job(self, job_id: str, user_id: str) -> Job | None:
        """The user's job; None where there is none or its image is deleted."""
        with self._database.read() as connection:
            return _find(connection, job_id, user_id)

    def events(self, job_id: str) -> list[Event]:
        """The audit trail of a job, in order."""
        with self._database.read() as connection:
            return [_to_event(row) for row in connection.execute(EVENTS, {"job_id": job_id}).mappings()]

    def next_due_in(self) -> float | None:
        """Seconds until a waiting job is due, 0 where one is; None where none waits."""
        with self._database.read() as connection:
            seconds = connection.execute(NEXT_DUE).scalar_one()
        return None if seconds is None else max(0.0, seconds)

    def is_staged(self, staging_path: str) -> bool:
        """Whether a job needs this staged file, now or after a replay."""
        return bool(self.staged([staging_path]))

    def staged(self, staging_paths: Collection[str]) -> set[str]:
        """
        Those of the staged files that a job needs, now or after a replay.

        An upload is staged before its row is there: ask only for files that are older than any upload takes.
        """
        with self._database.read() as connection:
            found = connection.execute(STAGED, {"staging_paths": list(staging_paths)})
            return set(found.scalars())


def _join_twin(connection: Connection, upload: NewJob) -> Receipt | None:
    parameters = {"user_id": upload.user_id, "dedupe_key": upload.dedupe_key}
    row = connection.execute(LIVE_TWIN, parameters).mappings().one_or_none()
    if row is None and upload.reuse_completed:
        row = connection.execute(COMPLETED_TWIN, parameters).mappings().one_or_none()
    if row is None:
        return None
    receipt = Receipt(**row, quota=None, joined=True)
    idempotency.point(connection, upload, receipt)
    return receipt


def _find(connection: Connection, job_id: str, user_id: str) -> Job | None:
    row = connection.execute(ONE_JOB, {"job_id": job_id, "user_id": user_id}).mappings().one_or_none()
    return None if row is None else to_job(row)


def to_job(row: RowMapping) -> Job:
    """The value of a row of `processing_jobs`."""
    return Job(
        job_id=row["job_id"],
        image_id=row["image_id"],
        user_id=row["user_id"],
        status=Status(row["status"]),
        reason=None if row["reason"] is None else Reason(row["reason"]),
        preset=row["preset"],
        bucket=row["storage_bucket"],
        priority=Priority(row["priority"]),
        attempt_count=row["attempt_count"],
        max_retries=row["max_retries"],
        crash_count=row["crash_count"],
        cancel_requested=row["cancel_requested_at"] is not None,
        progress=100 if row["status"] == Status.COMPLETED else row["percent"] or 0,
        error=row["last_error"],
        error_code=row["error_code"],
        metadata=json.loads(row["processing_metadata"])["client"],
        source_uri=row["source_uri"],
        output_uri=row["output_uri"],
        callback_url=row["callback_url"],
        created_at=row["created_at"],
        started_at=row["started_at"],
        completed_at=row["completed_at"],
    )


def _to_event(row: RowMapping) -> Event:
    return Event(
        id=row["id"],
        event_type=EventType(row["event_type"]),
        image_id=row["image_id"],
        job_id=row["job_id"],
        metadata=json.loads(row["metadata"]),
        created_at=row["created_at"],
    )
