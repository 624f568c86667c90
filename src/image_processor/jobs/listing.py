"""Jobs page by page, the newest first, and those that failed. One job: `repository`."""

import base64
import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Text, TextClause, bindparam

from image_processor.errors import InvalidRequestError
from image_processor.jobs.clock import statement
from image_processor.jobs.database import Database
from image_processor.jobs.repository import JOB_COLUMNS, to_job
from image_processor.jobs.states import Status
from image_processor.jobs.values import Job, Priority

MAX_CURSOR_LENGTH = 200

# What each filter adds to a statement, by the name of its parameter.
FILTERS = {
    "bucket": "images.bucket = :bucket",
    "statuses": "processing_jobs.status in :statuses",
    "priority": "processing_jobs.priority = :priority",
    "created_after": "processing_jobs.created_at >= :created_after",
    "created_before": "processing_jobs.created_at < :created_before",
    "last_id": "(processing_jobs.created_at, processing_jobs.job_id) < (:last_at, :last_id)",
}
FAILED_FILTERS = {
    "user_id": "processing_jobs.user_id = :user_id",
    "last_id": "(processing_jobs.completed_at, processing_jobs.job_id) < (:last_at, :last_id)",
}

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", re.ASCII)
_JOB_ID = re.compile(r"[0-9a-f-]{36}")


@dataclass(frozen=True, kw_only=True)
class Filter:
    """Which of the jobs are wanted; None for all."""

    statuses: Collection[Status] | None = None
    bucket: str | None = None
    priority: Priority | None = None
    created_after: datetime | None = None
    """The earliest wanted; a time without a zone is UTC."""
    created_before: datetime | None = None
    """The first that is not wanted any more, so that one window ends where the next begins."""

    def parameters(self) -> dict[str, Any]:
        """Those of the statement. Raises InvalidRequestError for a time beyond the calendar."""
        given = {
            "statuses": None if self.statuses is None else [status.value for status in self.statuses],
            "bucket": self.bucket,
            "priority": self.priority,
            "created_after": _to_text(self.created_after),
            "created_before": _to_text(self.created_before),
        }
        return {name: value for name, value in given.items() if value is not None}


EVERY_JOB = Filter()


@dataclass(frozen=True, kw_only=True)
class Page:
    """Some jobs, and where the next ones begin."""

    jobs: list[Job]
    next_cursor: str | None
    """None behind the last page."""


class JobListing:
    """Jobs by page; those of deleted images are gone."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def page(
        self, user_id: str, wanted: Filter = EVERY_JOB, *, limit: int, cursor: str | None = None
    ) -> Page:
        """
        At most `limit` of the wanted jobs, the newest first; from the cursor of the page before on.

        Jobs that are submitted meanwhile move nothing: a walk sees every job that was there when it began
        once. Raises InvalidRequestError for a damaged cursor.
        """
        parameters = wanted.parameters() | read_cursor(cursor)
        jobs = self._read(page_statement(parameters), {**parameters, "user_id": user_id}, limit)
        last = _last(jobs, limit)
        return Page(
            jobs=jobs[:limit], next_cursor=None if last is None else _to_cursor(last.created_at, last)
        )

    def failed(self, user_id: str | None = None, *, limit: int, cursor: str | None = None) -> Page:
        """
        At most `limit` of the jobs that failed, the latest first, of one user or of all; from the cursor on.

        Those that were cancelled are no worry of theirs, and not among them. A job that fails meanwhile moves
        nothing; one that is begun anew is gone. Raises InvalidRequestError for a damaged cursor.
        """
        parameters = ({} if user_id is None else {"user_id": user_id}) | read_cursor(cursor)
        jobs = self._read(failed_statement(parameters), parameters, limit)
        last = _last(jobs, limit)
        return Page(
            jobs=jobs[:limit], next_cursor=None if last is None else _to_cursor(last.completed_at, last)
        )

    def _read(self, page: TextClause, parameters: Mapping[str, Any], limit: int) -> list[Job]:
        """One more than asked for: it tells whether there is another page."""
        with self._database.read() as connection:
            rows = connection.execute(page, {**parameters, "limit": limit + 1}).mappings()
            return [to_job(row) for row in rows]


def _last(jobs: Sequence[Job], limit: int) -> Job | None:
    """The last job of a page behind which there is another."""
    return jobs[limit - 1] if len(jobs) > limit else None


def page_statement(parameters: Collection[str]) -> TextClause:
    """The statement for a page with these parameters of filters."""
    conditions = [f"and {condition}" for name, condition in FILTERS.items() if name in parameters]
    page = statement(f"""
select {JOB_COLUMNS} from processing_jobs join images on images.image_id = processing_jobs.image_id
where processing_jobs.user_id = :user_id and images.deleted_at is null {" ".join(conditions)}
order by processing_jobs.created_at desc, processing_jobs.job_id desc limit :limit
""")  # noqa: S608 - from the words above alone
    return (
        page.bindparams(bindparam("statuses", type_=Text, expanding=True))
        if "statuses" in parameters
        else page
    )


def failed_statement(parameters: Collection[str]) -> TextClause:
    """The statement for a page of failed jobs, with these parameters."""
    conditions = [f"and {condition}" for name, condition in FAILED_FILTERS.items() if name in parameters]
    return statement(f"""
select {JOB_COLUMNS} from processing_jobs join images on images.image_id = processing_jobs.image_id
where processing_jobs.status = 'failed' and processing_jobs.reason <> 'cancelled'
  and images.deleted_at is null {" ".join(conditions)}
order by processing_jobs.completed_at desc, processing_jobs.job_id desc limit :limit
""")  # noqa: S608 - from the words above alone


def _to_text(time: datetime | None) -> str | None:
    """A time in the form of the ISO columns."""
    if time is None:
        return None
    try:
        in_utc = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except OverflowError as error:
        raise InvalidRequestError("A time lies beyond the calendar.") from error
    return in_utc.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _to_cursor(time: str | None, last: Job) -> str:
    text = json.dumps([time, last.job_id])
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def read_cursor(cursor: str | None) -> dict[str, str]:
    """The parameters in a cursor; none for None. Raises InvalidRequestError where it is damaged."""
    if cursor is None:
        return {}
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        time, job_id = json.loads(text) if len(cursor) <= MAX_CURSOR_LENGTH else ("", "")
        is_sound = bool(_TIME.fullmatch(time) and _JOB_ID.fullmatch(job_id))
    except (ValueError, TypeError, RecursionError):
        is_sound = False
    if not is_sound:
        raise InvalidRequestError(
            "The cursor is damaged; take `next_cursor` as it came, or none to begin anew.", parameter="cursor"
        )
    return {"last_at": time, "last_id": job_id}
