"""Direct uploads: one row from the moment an address is given out until nothing can be left under it."""

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, RowMapping, Text, bindparam

from image_processor.errors import RateLimitError
from image_processor.jobs.clock import read_clock, statement, to_iso
from image_processor.jobs.database import Database

COMPLETION_SECONDS = 300.0
"""How long after its address has expired an upload may still be completed: it may have ended late."""
PURGE_SECONDS = 3600.0
"""How long after its address has expired an object is first removed."""
PURGE_AGAIN_SECONDS = 86_400.0
"""How much later once more, and the row with it: a slow body may end long after its address expired."""
KEY_PREFIX = "direct-upload-"
"""What the idempotency keys of direct uploads begin with; the upload's id follows."""

_UNFINISHED = "user_id = :user_id and status <> 'completed' and expires_at > <now> - :completion_seconds"

# Others of this user wait here, so that each counts those before it. Nothing to lock: nothing to count yet.
LOCK_OLDEST = statement(f"""
select upload_id from direct_uploads where {_UNFINISHED} order by created_at, upload_id limit 1 <for_update>
""")  # noqa: S608
COUNT = statement(f"""
select count(*) as unfinished, min(expires_at) as next_end from direct_uploads where {_UNFINISHED}
""")  # noqa: S608

OPEN = statement("""
insert into direct_uploads
  (upload_id, user_id, request, content_type, size_bytes, sha256, created_at, expires_at, purge_at)
values (:upload_id, :user_id, :request, :content_type, :size_bytes, :sha256, <now_iso>,
  <now> + :valid_seconds, <now> + :valid_seconds + :purge_seconds)
""")

# Who submits and dies before the row is marked leaves the job under the upload's idempotency key.
_FOUND = """
select direct_uploads.upload_id, direct_uploads.user_id, direct_uploads.request, direct_uploads.content_type,
  direct_uploads.size_bytes, direct_uploads.sha256, direct_uploads.status, direct_uploads.refusal,
  direct_uploads.created_at, direct_uploads.expires_at,
  coalesce(direct_uploads.job_id, idempotency_keys.job_id) as job_id,
  coalesce(direct_uploads.image_id, idempotency_keys.image_id) as image_id,
  case when direct_uploads.expires_at > <now> - :completion_seconds then 0 else 1 end as is_over
from direct_uploads left join idempotency_keys
  on idempotency_keys.user_id = direct_uploads.user_id
  and idempotency_keys.idempotency_key = :key_prefix || direct_uploads.upload_id
where direct_uploads.upload_id = :upload_id
"""
FIND = statement(f"{_FOUND} and direct_uploads.user_id = :user_id")
FIND_OF_ANYBODY = statement(_FOUND)

# A job that was made stands, also where somebody else found other bytes at the same time and refused them.
COMPLETE = statement("""
update direct_uploads set status = 'completed', job_id = :job_id, image_id = :image_id, refusal = null
where upload_id = :upload_id and status <> 'completed'
""")
REFUSE = statement("""
update direct_uploads set status = 'refused', refusal = :refusal
where upload_id = :upload_id and status = 'open'
""")

PURGEABLE = statement("""
select upload_id from direct_uploads where purge_at <= <now> order by purge_at limit :limit
""")
_PURGED = bindparam("upload_ids", type_=Text, expanding=True)
FORGET = statement("""
delete from direct_uploads where upload_id in :upload_ids and purge_at <= <now> and purges > 0
""").bindparams(_PURGED)
PURGE_AGAIN = statement("""
update direct_uploads set purges = purges + 1, purge_at = <now> + :again_seconds
where upload_id in :upload_ids and purge_at <= <now>
""").bindparams(_PURGED)


class UploadStatus(StrEnum):
    """Where a direct upload is."""

    OPEN = "open"
    """Its bytes are awaited, or are there and wait for `complete`."""
    COMPLETED = "completed"
    """A job was made of it."""
    REFUSED = "refused"
    """What was uploaded is not what may be; a new upload has to be opened."""
    EXPIRED = "expired"
    """It was not completed in time."""


@dataclass(frozen=True, kw_only=True)
class NewUpload:
    """What is kept of a direct upload that begins."""

    upload_id: str
    user_id: str
    request: str
    """What is to be made of it, as text that only the caller reads."""
    content_type: str
    size_bytes: int
    sha256: str | None


@dataclass(frozen=True, kw_only=True)
class DirectUpload(NewUpload):
    """A direct upload."""

    status: UploadStatus
    is_settled: bool
    """Whether its end is noted; a completed one of which it is not was left between its job and that."""
    job_id: str | None
    image_id: str | None
    refusal: str | None
    """Why it was refused, as text that only the caller reads."""
    created_at: str
    expires_at: float
    """When its address ends, in seconds since the epoch."""


class UploadRepository:
    """What the service and the sweeper may do with the rows of direct uploads."""

    def __init__(self, database: Database, *, completion_seconds: float = COMPLETION_SECONDS) -> None:
        self._database = database
        self._completion_seconds = completion_seconds

    def open(self, upload: NewUpload, *, valid_seconds: float, max_open: int) -> str:
        """
        Keep an upload that begins; when its address expires, ISO 8601 in UTC.

        Raises RateLimitError where the user has `max_open` that were neither completed nor have expired:
        those that were refused count, or one could be opened after the other without end.
        """
        with self._database.write() as connection:
            self._check_room(connection, upload.user_id, max_open)
            times = {"valid_seconds": valid_seconds, "purge_seconds": PURGE_SECONDS}
            connection.execute(OPEN, vars(upload) | times)
            return to_iso(read_clock(connection) + valid_seconds)

    def _check_room(self, connection: Connection, user_id: str, max_open: int) -> None:
        whose = {"user_id": user_id, "completion_seconds": self._completion_seconds}
        connection.execute(LOCK_OLDEST, whose)
        row = connection.execute(COUNT, whose).one()
        if row.unfinished >= max_open:
            ends_at = row.next_end + self._completion_seconds
            raise _too_many(max_open, ends_at, ends_at - read_clock(connection))

    def find(self, upload_id: str, user_id: str) -> DirectUpload | None:
        """The user's upload; None where there is none."""
        return self._find(FIND, upload_id=upload_id, user_id=user_id)

    def find_of_anybody(self, upload_id: str) -> DirectUpload | None:
        """The upload, for one who shows the address that its user was given."""
        return self._find(FIND_OF_ANYBODY, upload_id=upload_id)

    def _find(self, sql: Any, **which: str) -> DirectUpload | None:
        terms = {"completion_seconds": self._completion_seconds, "key_prefix": KEY_PREFIX}
        with self._database.read() as connection:
            row = connection.execute(sql, which | terms).mappings().one_or_none()
        return None if row is None else _to_upload(row)

    def complete(self, upload_id: str, *, job_id: str, image_id: str) -> bool:
        """Note the job that was made of it; False where one is noted already."""
        with self._database.write() as connection:
            ids = {"upload_id": upload_id, "job_id": job_id, "image_id": image_id}
            return connection.execute(COMPLETE, ids).rowcount == 1

    def refuse(self, upload_id: str, refusal: str) -> bool:
        """Note why nothing will be made of it; False where its end is noted already."""
        with self._database.write() as connection:
            return connection.execute(REFUSE, {"upload_id": upload_id, "refusal": refusal}).rowcount == 1

    def purgeable(self, limit: int) -> list[str]:
        """The ids of uploads whose objects are to be removed now, whatever became of them."""
        with self._database.read() as connection:
            return list(connection.execute(PURGEABLE, {"limit": limit}).scalars())

    def mark_purged(self, upload_ids: Collection[str]) -> None:
        """Note that nothing lies under these now: they come once more a day later, and then are forgotten."""
        if not upload_ids:
            return
        with self._database.write() as connection:
            connection.execute(FORGET, {"upload_ids": list(upload_ids)})
            again = {"upload_ids": list(upload_ids), "again_seconds": PURGE_AGAIN_SECONDS}
            connection.execute(PURGE_AGAIN, again)


def _to_upload(row: RowMapping) -> DirectUpload:
    names = ("upload_id", "user_id", "request", "content_type", "size_bytes", "sha256", "job_id", "image_id")
    return DirectUpload(
        **{name: row[name] for name in (*names, "refusal", "created_at", "expires_at")},
        status=_status(row),
        is_settled=row["status"] != UploadStatus.OPEN,
    )


def _status(row: RowMapping) -> UploadStatus:
    if row["job_id"] is not None:
        return UploadStatus.COMPLETED
    status = UploadStatus(row["status"])
    return UploadStatus.EXPIRED if status is UploadStatus.OPEN and row["is_over"] else status


def _too_many(max_open: int, ends_at: float, seconds: float) -> RateLimitError:
    return RateLimitError(
        f"You have {max_open} direct uploads that are not completed, as many as one may have; complete some, "
        "or wait until they have expired.",
        retry_after_seconds=max(1, round(seconds + 0.5)),
        limit=max_open,
        remaining=0,
        reset_at=to_iso(ends_at),
    )
