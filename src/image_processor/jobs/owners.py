"""Whose an id is, whatever it is the id of: for the audit alone. Nobody is answered by this."""

from collections.abc import Collection, Mapping

from sqlalchemy import Text, bindparam

from image_processor.jobs.clock import statement
from image_processor.jobs.database import Database

OWNERS = statement("""
select image_id as id, user_id from images where image_id in :ids
union all select job_id, user_id from processing_jobs where job_id in :ids
union all select upload_id, user_id from direct_uploads where upload_id in :ids
union all select delivery_id, user_id from webhook_deliveries where delivery_id in :ids
""").bindparams(bindparam("ids", type_=Text, expanding=True))


class OwnerRepository:
    """The users behind ids, those of deleted images included."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def owners(self, ids: Collection[str]) -> Mapping[str, str]:
        """The user of each of the ids of images, jobs, direct uploads and deliveries that exist."""
        with self._database.read() as connection:
            rows = connection.execute(OWNERS, {"ids": list(ids)})
            return {row.id: row.user_id for row in rows}
