"""Images whose objects were removed, and of which some are stored all the same: a worker was late."""

from collections.abc import Collection

from sqlalchemy import Connection, Text, bindparam

from image_processor.jobs.clock import statement
from image_processor.jobs.database import Database

PURGED = statement("""
select images.image_id from images join processing_jobs on processing_jobs.job_id = images.job_id
where images.image_id in :image_ids and images.purge_after is null
  and (images.deleted_at is not null or processing_jobs.status = 'failed')
""").bindparams(bindparam("image_ids", type_=Text, expanding=True))

# The job first, as everybody does who changes both: from then on nobody can replay it.
LOCK_JOB = statement("select status from processing_jobs where image_id = :image_id <for_update>")
PURGE_AGAIN = statement("""
update images set purge_after = <now>
where image_id = :image_id and purge_after is null and (deleted_at is not null or :is_failed = 1)
""")


class StrayRepository:
    """What the sweeper asks when it looks through the storage."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def purge_again(self, image_ids: Collection[str]) -> int:
        """
        Have the objects of those of the images that are deleted or failed removed once more; gives how many.

        An image that can be served, or may come to be, is left alone; so is an id that is not known here.
        """
        if not image_ids:
            return 0
        with self._database.read() as connection:
            found = connection.execute(PURGED, {"image_ids": list(image_ids)}).scalars().all()
        if not found:
            return 0
        with self._database.write() as connection:
            return sum(_purge_again(connection, image_id) for image_id in sorted(found))


def _purge_again(connection: Connection, image_id: str) -> bool:
    status = connection.execute(LOCK_JOB, {"image_id": image_id}).scalar_one_or_none()
    parameters = {"image_id": image_id, "is_failed": int(status == "failed")}
    return connection.execute(PURGE_AGAIN, parameters).rowcount == 1
