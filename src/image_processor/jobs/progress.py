"""How far jobs are: what their workers note in `job_progress`, and the states of many jobs at once."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sqlalchemy import RowMapping, Text, bindparam

from image_processor.jobs.clock import statement
from image_processor.jobs.database import Database
from image_processor.jobs.states import LIVE, Reason, Status
from image_processor.jobs.values import Fence

# Only of the claim that stands: one that was lost writes nothing, and of one claim progress never falls.
NOTE = statement("""
insert into job_progress (job_id, claim_seq, percent, step, updated_at)
select job_id, claim_seq, :percent, :step, <now> from processing_jobs
where job_id = :job_id and claim_seq = :claim_seq and status = 'processing'
on conflict (job_id) do update
set claim_seq = excluded.claim_seq, percent = excluded.percent, step = excluded.step,
    updated_at = excluded.updated_at
where excluded.claim_seq > job_progress.claim_seq
   or (excluded.claim_seq = job_progress.claim_seq and excluded.percent >= job_progress.percent)
""")

STATES = """
select processing_jobs.job_id, processing_jobs.image_id, processing_jobs.user_id, status, reason,
  processing_jobs.claim_seq, attempt_count, last_error, error_code, processed_paths, source_uri, output_uri,
  processing_jobs.created_at, started_at, completed_at, percent, step, updated_at
from processing_jobs
join images on images.image_id = processing_jobs.image_id
left join job_progress on job_progress.job_id = processing_jobs.job_id
  and job_progress.claim_seq = processing_jobs.claim_seq
where images.deleted_at is null and processing_jobs.job_id in :job_ids
"""
STATES_OF_ALL = statement(STATES).bindparams(bindparam("job_ids", type_=Text, expanding=True))
STATES_OF_USER = statement(f"{STATES} and processing_jobs.user_id = :user_id").bindparams(
    bindparam("job_ids", type_=Text, expanding=True)
)


@dataclass(frozen=True, kw_only=True)
class JobState:
    """Where a job is at this moment. Times are ISO 8601 in UTC unless they say otherwise."""

    job_id: str
    image_id: str
    user_id: str
    status: Status
    reason: Reason | None
    claim_seq: int
    """Grows with every claim."""
    attempt_count: int
    progress: int
    """How much of the present attempt is done, in percent; 100 once completed."""
    step: str | None
    """What a running attempt is at; None where there is none, or it has not told yet."""
    error: str | None
    error_code: str | None
    paths: Mapping[str, str]
    """Where each variant of a completed job is stored, by its name; empty before."""
    source_uri: str | None
    output_uri: str | None
    created_at: str
    started_at: str | None
    progress_at: float | None
    """When the progress was noted, in seconds since the epoch."""
    completed_at: str | None

    @property
    def is_live(self) -> bool:
        """Whether the job will go on."""
        return self.status in LIVE


class ProgressRepository:
    """What workers note of their progress, and what watchers see of it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def note(self, claim: Fence, percent: int, step: str) -> None:
        """
        Write how much of an attempt is done, 0 to 100, and what it is at.

        Nothing is written where the job is somebody else's by now. Raises UnavailableError.
        """
        values = {"job_id": claim.job_id, "claim_seq": claim.claim_seq, "percent": percent, "step": step}
        with self._database.write() as connection:
            connection.execute(NOTE, values)

    def states(self, job_ids: Collection[str], user_id: str | None = None) -> Mapping[str, JobState]:
        """
        The states of those of the jobs that are there, and the user's where one is given, by their ids.

        Jobs whose image is deleted are not there. Raises UnavailableError.
        """
        if not job_ids:
            return {}
        query = STATES_OF_ALL if user_id is None else STATES_OF_USER
        values = {"job_ids": list(job_ids)} | ({} if user_id is None else {"user_id": user_id})
        with self._database.read() as connection:
            rows = connection.execute(query, values).mappings()
            return {row["job_id"]: _to_state(row) for row in rows}


def _to_state(row: RowMapping) -> JobState:
    status = Status(row["status"])
    return JobState(
        job_id=row["job_id"],
        image_id=row["image_id"],
        user_id=row["user_id"],
        status=status,
        reason=None if row["reason"] is None else Reason(row["reason"]),
        claim_seq=row["claim_seq"],
        attempt_count=row["attempt_count"],
        progress=100 if status is Status.COMPLETED else row["percent"] or 0,
        step=row["step"] if status is Status.PROCESSING else None,
        error=row["last_error"],
        error_code=row["error_code"],
        paths=json.loads(row["processed_paths"]) if status is Status.COMPLETED else {},
        source_uri=row["source_uri"],
        output_uri=row["output_uri"],
        created_at=row["created_at"],
        started_at=row["started_at"],
        progress_at=row["updated_at"],
        completed_at=row["completed_at"],
    )
