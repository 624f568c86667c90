"""Which worker processes are alive, as they say themselves. For people: leases do not depend on it."""

from image_processor.jobs.clock import statement
from image_processor.jobs.database import Database
from image_processor.jobs.values import DAY_SECONDS

REPORT = statement("""
insert into workers (worker_id, slots, started_at, seen_at) values (:worker_id, :slots, <now_iso>, <now>)
on conflict (worker_id) do update set seen_at = <now>
""")
FORGET = statement("delete from workers where worker_id = :worker_id or seen_at < <now> - :seconds")


class WorkerRepository:
    """The worker processes' signs of life."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def report(self, worker_id: str, slots: int) -> None:
        """Say that this worker is alive."""
        with self._database.write() as connection:
            connection.execute(REPORT, {"worker_id": worker_id, "slots": slots})

    def forget(self, worker_id: str) -> None:
        """Say that this worker is gone; those that were silent for a day are forgotten as well."""
        with self._database.write() as connection:
            connection.execute(FORGET, {"worker_id": worker_id, "seconds": DAY_SECONDS})
