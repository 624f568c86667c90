"""Which request a key was first sent with, and the job that answered it. The transaction is the caller's."""

from sqlalchemy import Connection

from image_processor.errors import IdempotencyError, UnavailableError
from image_processor.jobs.clock import statement
from image_processor.jobs.values import NewJob, Receipt

# One that is over is as good as none. Who comes second waits here until the first has committed.
TAKE = statement("""
insert into idempotency_keys (user_id, idempotency_key, fingerprint, job_id, image_id, created_at, expires_at)
values (:user_id, :key, :fingerprint, :job_id, :image_id, <now_iso>, <now> + :ttl_seconds)
on conflict (user_id, idempotency_key) do update
set fingerprint = excluded.fingerprint, job_id = excluded.job_id, image_id = excluded.image_id,
    created_at = excluded.created_at, expires_at = excluded.expires_at
where idempotency_keys.expires_at <= <now>
returning job_id
""")

POINT = statement("""
update idempotency_keys set job_id = :job_id, image_id = :image_id
where user_id = :user_id and idempotency_key = :key
""")

FIND = statement("""
select idempotency_keys.fingerprint, idempotency_keys.job_id, idempotency_keys.image_id,
  coalesce(processing_jobs.created_at, idempotency_keys.created_at) as created_at
from idempotency_keys left join processing_jobs on processing_jobs.job_id = idempotency_keys.job_id
where idempotency_keys.user_id = :user_id and idempotency_keys.idempotency_key = :key
""")

ANSWERED = statement("""
select 1 from idempotency_keys where user_id = :user_id and idempotency_key = :key and expires_at > <now>
""")


def take(connection: Connection, job: NewJob) -> Receipt | None:
    """
    Make the job's key stand for it; the receipt of the job that the key stands for, where there is one.

    Raises IdempotencyError where that job came of another request.
    """
    if job.idempotency is None:
        return None
    parameters = {"user_id": job.user_id, "job_id": job.job_id, "image_id": job.image_id}
    wanted = {name: getattr(job.idempotency, name) for name in ("key", "fingerprint", "ttl_seconds")}
    if connection.execute(TAKE, parameters | wanted).first() is not None:
        return None
    return _answer(connection, job.user_id, job.idempotency.key, job.idempotency.fingerprint)


def _answer(connection: Connection, user_id: str, key: str, fingerprint: str) -> Receipt:
    row = connection.execute(FIND, {"user_id": user_id, "key": key}).one_or_none()
    if row is None:
        raise UnavailableError("The idempotency key was forgotten in this moment; try again.")
    if row.fingerprint != fingerprint:
        raise IdempotencyError("This idempotency key was used for another request before.")
    return Receipt(
        job_id=row.job_id,
        image_id=row.image_id,
        created_at=row.created_at,
        quota=None,
        joined=True,
        replayed=True,
    )


def point(connection: Connection, job: NewJob, receipt: Receipt) -> None:
    """Make the job's key stand for the job of this receipt in its place."""
    if job.idempotency is not None:
        ids = {"job_id": receipt.job_id, "image_id": receipt.image_id}
        connection.execute(POINT, {**ids, "user_id": job.user_id, "key": job.idempotency.key})


def is_answered(connection: Connection, user_id: str, key: str) -> bool:
    """Whether the user's key stands for a job now."""
    return connection.execute(ANSWERED, {"user_id": user_id, "key": key}).first() is not None
