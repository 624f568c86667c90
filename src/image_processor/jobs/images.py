"""Images: what their owners read, their deletion, and the removal of what is stored of them."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import Connection, RowMapping, Text, bindparam

from image_processor.jobs import transitions
from image_processor.jobs.clock import statement
from image_processor.jobs.database import Database
from image_processor.jobs.states import Status
from image_processor.jobs.values import PURGE_GRACE_SECONDS, Image, Purge, StoredVariant
from image_processor.pipeline import ImageFormat, Pipeline

VISIBLE = statement("""
select images.*, processing_jobs.status
from images join processing_jobs on processing_jobs.job_id = images.job_id
where images.image_id in :image_ids and images.user_id = :user_id and images.deleted_at is null
""").bindparams(bindparam("image_ids", type_=Text, expanding=True))

LOCK_JOB = statement("""
select job_id from processing_jobs
where job_id = (select job_id from images where image_id = :image_id and user_id = :user_id
                and deleted_at is null)
<for_update>
""")

DELETE = statement("""
update images set deleted_at = <now_iso>, purge_after = <now> + :grace_seconds
where image_id = :image_id and deleted_at is null
""")

BEGIN_PURGE = statement("""
with due as (select image_id from images
             where purge_after <= <now> and (purging_until is null or purging_until <= <now>)
             order by purge_after limit :limit <skip_locked>)
update images set purging_until = <now> + :lease_seconds
where image_id in (select image_id from due)
returning *, (select pipeline from processing_jobs where processing_jobs.job_id = images.job_id) as pipeline,
  (select key_template from processing_jobs where processing_jobs.job_id = images.job_id) as key_template,
  (select staging_path from processing_jobs where processing_jobs.job_id = images.job_id) as staging_path
""")

ANY_PURGE = statement("select 1 from images where purge_after <= <now> limit 1")

END_PURGE = statement("""
update images set purge_after = null, purging_until = null
where image_id = :image_id and purging_until is not null
""")

_VARIANTS = TypeAdapter(dict[str, StoredVariant])


class ImageRepository:
    """What the service and the sweeper may do with an image."""

    def __init__(self, database: Database, *, purge_grace_seconds: float = PURGE_GRACE_SECONDS) -> None:
        self._database = database
        self._grace_seconds = purge_grace_seconds

    def image(self, image_id: str, user_id: str) -> Image | None:
        """The user's image; None where there is none or it is deleted."""
        return self.images([image_id], user_id).get(image_id)

    def images(self, image_ids: Sequence[str], user_id: str) -> Mapping[str, Image]:
        """Those of the images that are the user's, by id."""
        with self._database.read() as connection:
            return _visible(connection, image_ids, user_id)

    def delete(self, image_id: str, user_id: str) -> Image | None:
        """
        Hide the image from every reader, cancel its job, and have what is stored removed after the grace.

        The image as it was, so that its objects can go at once too; None where there is no such image.
        """
        with self._database.write() as connection:
            # Whoever changes a job and its image takes the job first: what is read then stays as it is.
            connection.execute(LOCK_JOB, {"image_id": image_id, "user_id": user_id})
            image = _visible(connection, [image_id], user_id).get(image_id)
            if image is None:
                return None
            transitions.cancel(connection, image.job_id, grace_seconds=self._grace_seconds)
            connection.execute(DELETE, {"image_id": image_id, "grace_seconds": self._grace_seconds})
            return image

    def purgeable(self, limit: int = 100, *, lease_seconds: float = 600.0) -> list[Purge]:
        """
        Images whose objects are to be removed now, each handed out once in `lease_seconds`.

        Until `mark_purged`, the job of such an image cannot be replayed.
        """
        with self._database.read() as connection:
            if connection.execute(ANY_PURGE).first() is None:
                return []  # the sweeper asks often; it need not take the write lock for that
        parameters = {"limit": limit, "lease_seconds": lease_seconds}
        with self._database.write() as connection:
            purges = [_to_purge(row) for row in connection.execute(BEGIN_PURGE, parameters).mappings()]
        return [purge for purge in purges if purge is not None]

    def mark_purged(self, image_id: str) -> bool:
        """Note that nothing is stored of the image any more; False where that was not asked for."""
        with self._database.write() as connection:
            return connection.execute(END_PURGE, {"image_id": image_id}).rowcount == 1


def _visible(connection: Connection, image_ids: Sequence[str], user_id: str) -> dict[str, Image]:
    rows = connection.execute(VISIBLE, {"image_ids": list(image_ids), "user_id": user_id}).mappings()
    return {row["image_id"]: _to_image(row) for row in rows}


def _variants(row: RowMapping) -> dict[str, StoredVariant]:
    return {} if row["variants"] is None else _VARIANTS.validate_json(row["variants"])


def _shared(row: RowMapping) -> dict[str, Any]:
    names = ("image_id", "user_id", "bucket", "sha256", "created_at")
    return {name: row[name] for name in names} | {
        "source_format": ImageFormat(row["source_format"]) if row["source_format"] else None,
        "variants": _variants(row),
    }


def _to_image(row: RowMapping) -> Image:
    names = ("job_id", "source_bytes", "width", "height", "frames", "dominant_color")
    return Image(**_shared(row), **{name: row[name] for name in names}, status=Status(row["status"]))


def _to_purge(row: RowMapping) -> Purge | None:
    try:
        return Purge(
            **_shared(row),
            pipeline=Pipeline.model_validate_json(row["pipeline"]),
            key_template=row["key_template"],
            staging_path=row["staging_path"],
        )
    except ValueError:
        return None  # written by a newer version: a sweeper of that version gets it when this lease has ended
