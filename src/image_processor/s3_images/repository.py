"""The table of images. Who writes or deletes in S3 holds the row first, and nobody else does meanwhile."""

import json
import uuid
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from image_processor.errors import ConflictError
from image_processor.jobs.clock import statement
from image_processor.jobs.database import Database
from image_processor.s3_images.names import check_thumbnail_key
from image_processor.s3_images.rows import Hold, ImageKind, ImageStatus, InUse, NewImage, S3Image

DELETION_LEASE_SECONDS = 900.0
"""Far longer than the calls that remove two objects may take by any settings of their timeouts."""

Row = Mapping[Any, Any]

INSERT = statement("""
insert into s3_images (image_id, session_id, kind, s3_bucket, s3_key_original, filename, content_type,
  file_size_bytes, sha256, details, status, claim, lease_until, created_at, updated_at)
values (:image_id, :session_id, :kind, :s3_bucket, :s3_key_original, :filename, :content_type,
  :file_size_bytes, :sha256, :details, 'uploading', :claim, <now> + :lease_seconds, <now_iso>, <now_iso>)
on conflict (s3_bucket, s3_key_original) do nothing
returning *
""")

LOCK_KEY = statement("""
select *, lease_until - <now> as seconds_left from s3_images
where s3_bucket = :s3_bucket and s3_key_original = :s3_key_original
<for_update>
""")

MARK_READY = statement("""
update s3_images set status = 'ready', claim = null, lease_until = 0, updated_at = <now_iso>
where image_id = :image_id and claim = :claim and status = 'uploading'
returning *
""")

REOPEN = statement("""
update s3_images set status = 'uploading', claim = :claim, lease_until = <now> + :lease_seconds,
  updated_at = <now_iso>
where image_id = :image_id and status = 'ready'
returning *
""")

BEGIN_DELETION = statement("""
update s3_images set status = 'deleting', claim = :claim, lease_until = <now> + :lease_seconds,
  updated_at = <now_iso>
where image_id = :image_id and (status = 'ready' or lease_until <= <now>)
returning *
""")

TAKE_OVER = statement("""
update s3_images set status = 'deleting', claim = :claim, lease_until = <now> + :lease_seconds,
  updated_at = <now_iso>
where image_id = :image_id and status in ('uploading', 'deleting') and lease_until <= <now>
returning *
""")

RELEASE = statement("""
update s3_images set claim = null, lease_until = <now>, updated_at = <now_iso>
where image_id = :image_id and claim = :claim
""")

DROP = statement("delete from s3_images where image_id = :image_id and claim = :claim")

BY_ID = statement("select *, lease_until - <now> as seconds_left from s3_images where image_id = :image_id")

BY_KEY = statement("""
select * from s3_images
where s3_bucket = :s3_bucket and (s3_key_original = :s3_key or s3_key_thumbnail = :s3_key)
""")

IN_SESSION = statement("""
select * from s3_images where session_id = :session_id and status = 'ready'
order by created_at, image_id limit :limit
""")

ABANDONED = statement("""
select * from s3_images where status in ('uploading', 'deleting') and lease_until <= <now>
order by lease_until limit :limit
""")

OTHERS_THUMBNAIL = statement("""
select 1 from s3_images as others
where others.s3_key_thumbnail = :s3_key and others.image_id <> :image_id
  and others.s3_bucket = (select s3_bucket from s3_images where image_id = :image_id)
""")

SET_THUMBNAIL = statement("""
update s3_images set s3_key_thumbnail = :s3_key, updated_at = <now_iso>
where image_id = :image_id and status = 'ready'
""")


class S3ImageRepository:
    """
    The rows of S3ImageService, in SQLite or PostgreSQL; safe for threads and processes.

    An image is seen by `get`, `find` and `in_session` while it is ready. All methods block, and raise
    UnavailableError where the database does not answer.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    def open(cls, where: Path | str) -> Self:
        """The table in this SQLite file or at this URL, made where there is none; see `Database.open`."""
        database = Database.open(where)
        try:
            database.migrate()
        except BaseException:
            database.close()
            raise
        return cls(database)

    def close(self) -> None:
        """Close every connection."""
        self._database.close()

    def get(self, image_id: str) -> S3Image | None:
        """The image, if there is one and it is ready."""
        row = self._row(BY_ID, {"image_id": image_id})
        return row if row is not None and row.status is ImageStatus.READY else None

    def find(self, s3_bucket: str, s3_key: str) -> S3Image | None:
        """Whichever image has this key, for itself or its thumbnail, in any status."""
        return self._row(BY_KEY, {"s3_bucket": s3_bucket, "s3_key": s3_key})

    def in_session(self, session_id: str, *, limit: int = 1000) -> list[S3Image]:
        """The session's images, the oldest first."""
        return self._rows(IN_SESSION, {"session_id": session_id, "limit": limit})

    def abandoned(self, *, limit: int = 100) -> list[S3Image]:
        """Images whose upload or deletion failed or was cut off, and that nobody holds any more."""
        return self._rows(ABANDONED, {"limit": limit})

    def set_thumbnail(self, image_id: str, s3_key: str) -> bool:
        """
        Note that a thumbnail lies under this key, in the image's bucket, and is to be deleted with it.

        False where there is no such image (the thumbnail's object is the caller's to remove then). Raises
        ValidationException for a key of fewer than three segments, ConflictError for another's.
        """
        parameters = {"image_id": image_id, "s3_key": check_thumbnail_key(s3_key)}
        with self._database.write() as connection:
            if connection.execute(OTHERS_THUMBNAIL, parameters).first() is not None:
                raise ConflictError("Another image has its thumbnail under this key.")
            return connection.execute(SET_THUMBNAIL, parameters).rowcount == 1

    def hold_for_upload(self, image: NewImage, *, lease_seconds: float) -> Hold | S3Image | InUse:
        """
        The sole right to write under the image's key, or the image that is there with the very same bytes.

        InUse where another upload or deletion is at work there, or was cut off (then without seconds left).
        Raises ConflictError where the session has another image of that name.
        """
        parameters = _parameters(image) | {"claim": _new_id(), "lease_seconds": lease_seconds}
        with self._database.write() as connection:
            while True:
                created = connection.execute(INSERT, parameters | {"image_id": _new_id()}).mappings().first()
                if created is not None:
                    return Hold(_to_image(created), parameters["claim"])
                row = connection.execute(LOCK_KEY, parameters).mappings().first()
                if row is not None:
                    return _found(image, row)

    def hold_again(self, image: S3Image, *, lease_seconds: float) -> Hold | None:
        """The sole right to write an image that was ready, and whose object is lost; None where it is not."""
        return self._held(REOPEN, image.image_id, lease_seconds)

    def mark_ready(self, hold: Hold) -> S3Image | None:
        """The image as readers see it from now on; None where it was held too long, and is another's now."""
        with self._database.write() as connection:
            row = connection.execute(MARK_READY, _of(hold)).mappings().first()
            return None if row is None else _to_image(row)

    def hold_for_deletion(
        self, image_id: str, *, lease_seconds: float = DELETION_LEASE_SECONDS
    ) -> Hold | InUse | None:
        """The sole right to delete the image, which no reader finds any more; None where there is none."""
        hold = self._held(BEGIN_DELETION, image_id, lease_seconds)
        if hold is not None:
            return hold
        with self._database.read() as connection:
            row = connection.execute(BY_ID, {"image_id": image_id}).mappings().first()
            return None if row is None else _in_use(row)

    def take_over(self, image_id: str, *, lease_seconds: float = DELETION_LEASE_SECONDS) -> Hold | None:
        """The sole right to delete what an upload or a deletion left, unless it came to its end after all."""
        return self._held(TAKE_OVER, image_id, lease_seconds)

    def release(self, hold: Hold) -> None:
        """Give the right back with the work undone: whoever comes next may go on at once."""
        with self._database.write() as connection:
            connection.execute(RELEASE, _of(hold))

    def drop(self, hold: Hold) -> None:
        """Remove the row; nothing is stored under its keys any more."""
        with self._database.write() as connection:
            connection.execute(DROP, _of(hold))

    def _held(self, how: Any, image_id: str, lease_seconds: float) -> Hold | None:
        claim = _new_id()
        parameters = {"image_id": image_id, "claim": claim, "lease_seconds": lease_seconds}
        with self._database.write() as connection:
            row = connection.execute(how, parameters).mappings().first()
            return None if row is None else Hold(_to_image(row), claim)

    def _row(self, which: Any, parameters: Mapping[str, Any]) -> S3Image | None:
        return next(iter(self._rows(which, parameters)), None)

    def _rows(self, which: Any, parameters: Mapping[str, Any]) -> list[S3Image]:
        with self._database.read() as connection:
            return [_to_image(row) for row in connection.execute(which, parameters).mappings()]


def _found(image: NewImage, row: Row) -> S3Image | InUse:
    if row["status"] != ImageStatus.READY:
        return _in_use(row)
    if row["sha256"] != image.sha256:
        raise ConflictError(
            "The session has another image of this name already: delete that, or choose another name.",
            image_id=row["image_id"],
        )
    return _to_image(row)


def _in_use(row: Row) -> InUse:
    return InUse(_to_image(row), max(0.0, row["seconds_left"]))


def _of(hold: Hold) -> dict[str, str]:
    return {"image_id": hold.image.image_id, "claim": hold.claim}


def _parameters(image: NewImage) -> dict[str, Any]:
    return asdict(image) | {"details": json.dumps(image.details)}


def _to_image(row: Row) -> S3Image:
    names = S3Image.__dataclass_fields__.keys() - {"kind", "status", "details"}
    return S3Image(
        **{name: row[name] for name in names},
        kind=ImageKind(row["kind"]),
        status=ImageStatus(row["status"]),
        details=json.loads(row["details"]),
    )


def _new_id() -> str:
    return str(uuid.uuid4())
