"""
Every statement that changes a job's status, T1 to T12, each with its guard. The transaction is the caller's.

No row back from a guarded statement means: you do not own this job any more.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, RowMapping, exc

from image_processor.errors import ImageProcessorError, InvalidRequestError, UnavailableError
from image_processor.jobs.clock import statement
from image_processor.jobs.retry import Decision, History, snooze
from image_processor.jobs.states import Reason, Status
from image_processor.jobs.values import Claim, Facts, Fence, Lease, NewJob, Original, Settlement
from image_processor.pipeline import ImageFormat, Pipeline

KIND = "image"
"""What this program can do; a job of another kind is one of a later version's."""
PIPELINE_VERSION = 1
"""Of the form in which pipelines are written to the jobs' rows."""
MAX_ERROR_LENGTH = 2000
UNREADABLE_DELAY_SECONDS = 30.0
_UNREADABLE = UnavailableError("This job was written by another version of the program.")

INSERT_IMAGE = statement("""
insert into images (image_id, user_id, bucket, job_id, sha256, source_format, source_bytes, created_at)
values (:image_id, :user_id, :bucket, :job_id, :sha256, :source_format, :source_bytes, <now_iso>)
""")

# T1: (none) -> pending. Both rows have one time: keys may be made from its date.
# Whoever submits publishes the hint next, or takes `dispatched_at` back.
INSERT_JOB = statement("""
insert into processing_jobs (job_id, image_id, user_id, status, preset, pipeline, pipeline_version,
  key_template, source_format, source_uri, output_uri, callback_url, storage_bucket, staging_path,
  processing_metadata, max_retries, priority, run_at, expires_at, dispatched_at, dispatch_count, dedupe_key,
  created_at)
values (:job_id, :image_id, :user_id, 'pending', :preset, :pipeline, :pipeline_version,
  :key_template, :source_format, :source_uri, :output_uri, :callback_url, :bucket, :staging_path,
  :processing_metadata, :max_retries, :priority, <now>, <now> + :ttl_seconds, <now>, 1, :dedupe_key,
  (select created_at from images where image_id = :image_id))
on conflict (user_id, dedupe_key)
  where dedupe_key is not null and status in ('pending', 'processing', 'retrying') do nothing
returning created_at
""")

# The same as `status in ('pending', 'retrying')`, but no reason to search an index of all waiting jobs for
# one whose id is known: PostgreSQL would, when there were none as it last looked.
_WAITS = "status not in ('processing', 'completed', 'failed')"

# T2: pending, retrying -> processing
_CLAIM = """
update processing_jobs
set status = 'processing', claim_seq = claim_seq + 1, attempt_count = attempt_count + 1,
    worker_id = :worker_id, lease_until = <now> + :lease_seconds, started_at = <now_iso>
where job_id = ({candidate}) and {waits}
returning *, (select sha256 from images where images.image_id = processing_jobs.image_id) as sha256,
  (select source_bytes from images where images.image_id = processing_jobs.image_id) as source_bytes,
  (select source_format from images where images.image_id = processing_jobs.image_id) as image_format
"""
# The plus keeps planners from the index of expiry, in which the best job may stand anywhere.
BEST_DUE = """
select job_id from processing_jobs
where status in ('pending', 'retrying') and run_at <= <now> and +expires_at > <now>
order by priority, run_at, job_id limit 1"""
ONE_DUE = f"""
select job_id from processing_jobs
where job_id = :job_id and {_WAITS} and run_at <= <now> and expires_at > <now>"""  # noqa: S608
CLAIM_BEST = statement(_CLAIM.format(candidate=f"{BEST_DUE} <skip_locked>", waits=_WAITS))
CLAIM_ONE = statement(_CLAIM.format(candidate=f"{ONE_DUE} <skip_locked>", waits=_WAITS))
ANY_DUE = statement(BEST_DUE)

# T3: processing -> processing
HEARTBEAT = statement("""
update processing_jobs set lease_until = <now> + :lease_seconds
where job_id = :job_id and status = 'processing' and claim_seq = :claim_seq
returning cancel_requested_at
""")

# T4: processing -> completed. A cancel that was asked for wins.
COMPLETE = statement("""
update processing_jobs
set status = 'completed', processed_paths = :processed_paths, processing_metadata = :processing_metadata,
    lease_until = null, worker_id = null, last_error = null, error_code = null, completed_at = <now_iso>
where job_id = :job_id and status = 'processing' and claim_seq = :claim_seq and cancel_requested_at is null
returning image_id
""")

CANCEL_WON = statement("""
select 1 from processing_jobs
where job_id = :job_id and status = 'processing' and claim_seq = :claim_seq
  and cancel_requested_at is not null
""")

# The original of a claimed job was fetched: what it turned out to be.
NOTE_ORIGINAL = statement("""
update images set sha256 = :sha256, source_format = :source_format, source_bytes = :source_bytes
where image_id = (select image_id from processing_jobs
                  where job_id = :job_id and status = 'processing' and claim_seq = :claim_seq)
""")

SET_FACTS = statement("""
update images
set width = :width, height = :height, frames = :frames, dominant_color = :dominant_color, variants = :variants
where image_id = :image_id
""")

# T5-T9: processing -> retrying, pending, failed, as the decision says. A cancel that was asked for wins.
SETTLE = statement("""
update processing_jobs
set status = case when cancel_requested_at is null then :status else 'failed' end,
    reason = case when cancel_requested_at is null then :reason else 'cancelled' end,
    attempt_count = attempt_count - :refund, crash_count = crash_count + :crash,
    timeout_count = timeout_count + :timeout, run_at = <now> + :delay_seconds,
    lease_until = null, worker_id = null, dispatched_at = null,
    last_error = case when cancel_requested_at is null then coalesce(:last_error, last_error)
                      else 'The job was cancelled.' end,
    error_code = case when cancel_requested_at is null then coalesce(:error_code, error_code)
                      else 'cancelled' end,
    completed_at = case when :status = 'failed' or cancel_requested_at is not null then <now_iso> end
where job_id = :job_id and status = 'processing' and claim_seq = :claim_seq
returning job_id, image_id, status, reason, attempt_count
""")

# T9: whose lease has ended, or whose worker is known to be dead
LEASES_ENDED = statement("""
select job_id, claim_seq, attempt_count, max_retries, crash_count, timeout_count from processing_jobs
where status = 'processing' and lease_until < <now> order by lease_until limit :limit <skip_locked>
""")
LEASES_OF_WORKER = statement("""
select job_id, claim_seq, attempt_count, max_retries, crash_count, timeout_count from processing_jobs
where status = 'processing' and lease_until is not null and worker_id = :worker_id <for_update>
""")

# T10: pending, retrying -> failed (expired)
EXPIRE = statement(f"""
with late as (select job_id from processing_jobs
              where status in ('pending', 'retrying') and expires_at <= <now>
              order by expires_at limit :limit <skip_locked>)
update processing_jobs
set status = 'failed', reason = 'expired', completed_at = <now_iso>, error_code = 'expired',
    last_error = 'The job did not finish within its time to live.' || coalesce(' ' || last_error, '')
where job_id in (select job_id from late) and {_WAITS}
returning job_id, image_id, status, reason, attempt_count
""")  # noqa: S608

# Two statements that are to see the same job have it locked first.
LOCK = statement("select image_id from processing_jobs where job_id = :job_id <for_update>")

# T11: pending, retrying -> failed (cancelled)
CANCEL_WAITING = statement(f"""
update processing_jobs
set status = 'failed', reason = 'cancelled', completed_at = <now_iso>, error_code = 'cancelled',
    last_error = 'The job was cancelled.'
where job_id = :job_id and {_WAITS}
returning image_id
""")  # noqa: S608

# T11b: the worker learns it with its next heartbeat. Nobody joins such a job, nor is kept from a new one.
CANCEL_RUNNING = statement("""
update processing_jobs set cancel_requested_at = <now>, dedupe_key = null
where job_id = :job_id and status = 'processing' and cancel_requested_at is null
""")

# T12: failed -> pending. Not while its objects are being removed: the purge would take the new ones.
LOCK_FAILED = statement("""
select image_id from processing_jobs
where job_id = :job_id and user_id = :user_id and status = 'failed' <for_update>
""")
LOCK_IMAGE = statement("select image_id from images where image_id = :image_id <for_update>")
REPLAY = statement("""
update processing_jobs
set status = 'pending', reason = null, attempt_count = 0, crash_count = 0, timeout_count = 0, run_at = <now>,
    expires_at = <now> + :ttl_seconds, dispatched_at = <now>, dispatch_count = 1, last_error = null,
    error_code = null, started_at = null, completed_at = null
where job_id = :job_id and status = 'failed'
  and (reason in ('exhausted', 'poison', 'expired') or (reason = 'rejected' and source_uri is not null))
  and exists (select 1 from images where images.image_id = processing_jobs.image_id
              and deleted_at is null and purging_until is null)
  and not exists (select 1 from processing_jobs as twin
                  where twin.user_id = processing_jobs.user_id
                  and twin.dedupe_key = processing_jobs.dedupe_key
                  and twin.status in ('pending', 'processing', 'retrying'))
returning image_id
""")

# A failed job may have left some of its variants; once no worker can be alive with it, they are removed.
PURGE_LATER = statement("update images set purge_after = <now> + :grace_seconds where image_id = :image_id")
PURGE_NEVER = statement("update images set purge_after = null where image_id = :image_id")

Row = RowMapping


class TwinError(UnavailableError):
    """A live job of the same user with the same dedupe key came in between."""


def insert(connection: Connection, job: NewJob) -> str:
    """T1: write the image and its job; gives the time of creation. Raises TwinError: then undo the whole."""
    connection.execute(INSERT_IMAGE, _of_image(job))
    created_at = connection.execute(INSERT_JOB, _of_job(job)).scalar_one_or_none()
    if created_at is None:
        raise TwinError("The same job was submitted a moment ago; try again.")
    return str(created_at)


def claim(connection: Connection, worker_id: str, lease_seconds: float, job_id: str | None) -> Claim | None:
    """T2: take the job of that id, or the best one that is due."""
    parameters = {"worker_id": worker_id, "lease_seconds": lease_seconds}
    if job_id is not None:
        row = connection.execute(CLAIM_ONE, {**parameters, "job_id": job_id}).mappings().one_or_none()
        return None if row is None else _readable(connection, row)
    while row := connection.execute(CLAIM_BEST, parameters).mappings().one_or_none():
        if claim := _readable(connection, row):
            return claim
    return None


def _readable(connection: Connection, row: Row) -> Claim | None:
    try:
        return _to_claim(row)
    except ValueError:
        # Written by a newer version, as while one is rolled out: leave it to a worker that can read it.
        fence = Fence(job_id=row["job_id"], claim_seq=row["claim_seq"])
        settle(connection, fence, snooze(UNREADABLE_DELAY_SECONDS), error=_UNREADABLE, grace_seconds=0.0)
        return None


def heartbeat(connection: Connection, claim: Claim, lease_seconds: float) -> Lease:
    """T3: a new lease from now."""
    row = connection.execute(HEARTBEAT, {**_fence(claim), "lease_seconds": lease_seconds}).one_or_none()
    if row is None:
        return Lease.LOST
    return Lease.HELD if row.cancel_requested_at is None else Lease.CANCEL_REQUESTED


def complete(connection: Connection, claim: Claim, facts: Facts) -> bool:
    """T4: the job and its image get what the attempt made."""
    paths = {name: variant.key for name, variant in facts.variants.items()}
    generated = facts.model_dump(mode="json", exclude={"variants"})
    metadata = {"client": claim.metadata, "generated": generated}
    parameters = {"processed_paths": json.dumps(paths), "processing_metadata": json.dumps(metadata)}
    row = connection.execute(COMPLETE, {**_fence(claim), **parameters}).one_or_none()
    if row is None:
        return False
    variants = json.dumps(facts.model_dump(mode="json")["variants"])
    connection.execute(SET_FACTS, {**generated, "variants": variants, "image_id": row.image_id})
    return True


def note_original(connection: Connection, claim: Claim, original: Original) -> bool:
    """Write what the fetched original is; False: the job is somebody else's by now."""
    parameters = {
        "sha256": original.sha256,
        "source_format": original.format.value,
        "source_bytes": original.size_bytes,
    }
    return connection.execute(NOTE_ORIGINAL, {**_fence(claim), **parameters}).rowcount == 1


def is_cancel_requested(connection: Connection, claim: Claim) -> bool:
    """Whether the job is still this claim's, and nobody wants it."""
    return connection.execute(CANCEL_WON, _fence(claim)).first() is not None


def settle(
    connection: Connection,
    fence: Fence,
    decision: Decision,
    *,
    error: ImageProcessorError | None,
    grace_seconds: float,
) -> Settlement | None:
    """T5-T9: carry out a decision on a job; what failed for good is purged after the grace."""
    parameters = {
        "status": decision.status,
        "reason": decision.reason,
        "delay_seconds": decision.delay_seconds,
        "refund": int(decision.refunds_attempt),
        "crash": int(decision.counts_crash),
        "timeout": int(decision.counts_timeout),
        "last_error": None if error is None else _clean(error.message),
        "error_code": None if error is None else error.code,
    }
    row = connection.execute(SETTLE, {**_fence(fence), **parameters}).mappings().one_or_none()
    return None if row is None else _settled(connection, row, grace_seconds)


def expire(connection: Connection, limit: int, *, grace_seconds: float) -> list[Settlement]:
    """T10: end what waited longer than its time to live."""
    rows = connection.execute(EXPIRE, {"limit": limit}).mappings().all()
    return [_settled(connection, row, grace_seconds) for row in rows]


def cancel(connection: Connection, job_id: str, *, grace_seconds: float) -> None:
    """T11: end a waiting job at once, ask for the end of a running one, leave a finished one alone."""
    connection.execute(LOCK, {"job_id": job_id})
    row = connection.execute(CANCEL_WAITING, {"job_id": job_id}).one_or_none()
    if row is None:
        connection.execute(CANCEL_RUNNING, {"job_id": job_id})
    else:
        purge_later(connection, [row.image_id], grace_seconds)


def replay(connection: Connection, job_id: str, user_id: str, ttl_seconds: float) -> bool:
    """T12: a dead letter begins anew; what its attempts stored is kept until the new ones overwrite it."""
    image_id = connection.execute(LOCK_FAILED, {"job_id": job_id, "user_id": user_id}).scalar_one_or_none()
    if image_id is None:
        return False
    connection.execute(LOCK_IMAGE, {"image_id": image_id})
    try:
        with connection.begin_nested():
            row = connection.execute(REPLAY, {"job_id": job_id, "ttl_seconds": ttl_seconds}).first()
    except exc.IntegrityError:  # a live job with its dedupe key came in this moment
        return False
    if row is None:
        return False
    connection.execute(PURGE_NEVER, {"image_id": image_id})
    return True


def purge_later(connection: Connection, image_ids: Iterable[str], grace_seconds: float) -> None:
    """Have the objects of these images removed once `grace_seconds` have passed."""
    for image_id in image_ids:
        connection.execute(PURGE_LATER, {"image_id": image_id, "grace_seconds": grace_seconds})


def to_history(row: Row) -> History:
    """What the job of this row has been through, its present attempt included."""
    return History(
        attempt=row["attempt_count"],
        max_retries=row["max_retries"],
        crash_count=row["crash_count"],
        timeout_count=row["timeout_count"],
    )


def _fence(fence: Fence) -> dict[str, Any]:
    return {"job_id": fence.job_id, "claim_seq": fence.claim_seq}


def _settled(connection: Connection, row: Row, grace_seconds: float) -> Settlement:
    if row["status"] == Status.FAILED:
        purge_later(connection, [row["image_id"]], grace_seconds)
    return Settlement(
        job_id=row["job_id"],
        image_id=row["image_id"],
        status=Status(row["status"]),
        reason=None if row["reason"] is None else Reason(row["reason"]),
        attempt_count=row["attempt_count"],
    )


def _of_image(job: NewJob) -> dict[str, Any]:
    names = ("image_id", "user_id", "bucket", "job_id", "sha256", "source_bytes")
    return {name: getattr(job, name) for name in names} | {"source_format": job.source_format or ""}


def _of_job(job: NewJob) -> dict[str, Any]:
    names = (
        *(
            "job_id",
            "image_id",
            "user_id",
            "preset",
            "key_template",
            "bucket",
            "staging_path",
        ),
        *("source_uri", "output_uri", "callback_url"),
        *("max_retries", "priority", "ttl_seconds", "dedupe_key"),
    )
    return {name: getattr(job, name) for name in names} | {
        "source_format": job.source_format or "",
        "pipeline": job.pipeline.model_dump_json(),
        "pipeline_version": PIPELINE_VERSION,
        "processing_metadata": _client_metadata(job.metadata),
    }


def _client_metadata(metadata: Mapping[str, Any]) -> str:
    try:
        return json.dumps({"client": dict(metadata)}, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequestError(f"The metadata cannot be written as JSON: {error}.") from error


def _clean(message: str) -> str:
    """A message of bounded length that a database can store: file names may bring lone surrogates."""
    return message[:MAX_ERROR_LENGTH].replace("\0", "?").encode(errors="replace").decode()


def _to_claim(row: Row) -> Claim:
    """Raises ValueError for what another version of the program wrote."""
    if row["kind"] != KIND or row["pipeline_version"] > PIPELINE_VERSION:
        raise ValueError("It may be readable, and mean something else.")
    return Claim(
        job_id=row["job_id"],
        image_id=row["image_id"],
        user_id=row["user_id"],
        claim_seq=row["claim_seq"],
        worker_id=row["worker_id"],
        history=to_history(row),
        preset=row["preset"],
        pipeline=Pipeline.model_validate_json(row["pipeline"]),
        pipeline_version=row["pipeline_version"],
        key_template=row["key_template"],
        source_uri=row["source_uri"],
        source_format=ImageFormat(row["image_format"]) if row["image_format"] else None,
        source_bytes=row["source_bytes"],
        sha256=row["sha256"],
        bucket=row["storage_bucket"],
        staging_path=row["staging_path"],
        output_uri=row["output_uri"],
        metadata=json.loads(row["processing_metadata"])["client"],
        created_at=row["created_at"],
    )
