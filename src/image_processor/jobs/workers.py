"""Which worker processes are alive, as they say themselves. For people: leases do not depend on it."""

from image_processor.jobs.clock import statement
from image_processor.jobs.database import Database
from image_processor.jobs.values import DAY_SECONDS

SEEN_SECONDS = 60.0
"""A worker says six times in that time that it is alive."""

REPORT = statement("""
insert into workers (worker_id, slots, started_at, seen_at, stalled_since)
values (:worker_id, :slots, <now_iso>, <now>, :stalled_since)
on conflict (worker_id) do update
set slots = excluded.slots, seen_at = excluded.seen_at, stalled_since = excluded.stalled_since
""")
LIVING = statement("select worker_id from workers where seen_at > <now> - :seconds")
STALLED = statement("""
select count(*) from workers
where seen_at > <now> - :seconds and stalled_since <= <now> - :longer_than_seconds
""")
FORGET = statement("delete from workers where worker_id = :worker_id or seen_at < <now> - :seconds")


class WorkerRepository:
    """The worker processes' signs of life."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def report(self, worker_id: str, slots: int, stalled_since: float | None = None) -> None:
        """Say that this worker is alive; since when (epoch seconds) it has heard nothing that it should."""
        parameters = {"worker_id": worker_id, "slots": slots, "stalled_since": stalled_since}
        with self._database.write() as connection:
            connection.execute(REPORT, parameters)

    def living(self, seconds: float = SEEN_SECONDS) -> set[str]:
        """The ids of those that said within the last `seconds` that they are alive."""
        with self._database.read() as connection:
            return set(connection.execute(LIVING, {"seconds": seconds}).scalars())

    def stalled(self, *, longer_than_seconds: float = 0.0) -> int:
        """How many of those that are alive have heard nothing of their transport for so long."""
        parameters = {"seconds": SEEN_SECONDS, "longer_than_seconds": longer_than_seconds}
        with self._database.read() as connection:
            return int(connection.execute(STALLED, parameters).scalar_one())

    def forget(self, worker_id: str) -> None:
        """Say that this worker is gone; those that were silent for a day are forgotten as well."""
        with self._database.write() as connection:
            connection.execute(FORGET, {"worker_id": worker_id, "seconds": DAY_SECONDS})
