"""Which due jobs a transport has been told of, and which it may have lost. No status is changed here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from image_processor.jobs.clock import Statement, statement
from image_processor.jobs.database import Database
from image_processor.jobs.values import Priority
from image_processor.jobs.workers import SEEN_SECONDS

LOST_SECONDS = 30.0
"""A hint is given up after 60 s, the next one of the same job after 120 s, and so on."""
MAX_DOUBLINGS = 6
FORGET_BATCH = 2000
"""So many rows are written at a time: who writes a million of them at once keeps everybody waiting."""

_WAITING = "status in ('pending', 'retrying')"
# The plus keeps the planner from walking the index of expiry, in which the best job may stand anywhere.
_UNDISPATCHED = f"{_WAITING} and dispatched_at is null and run_at <= <now> and +expires_at > <now>"

ANY_UNDISPATCHED = statement(
    f"select job_id from processing_jobs where {_UNDISPATCHED} order by priority, run_at, job_id limit 1"  # noqa: S608
)

# Materialized: PostgreSQL must not evaluate the locking select once more for each row.
TAKE = statement(f"""
with due as materialized (
  select job_id from processing_jobs where {_UNDISPATCHED}
  order by priority, run_at, job_id limit :limit <skip_locked>)
update processing_jobs set dispatched_at = <now>, dispatch_count = dispatch_count + 1
where job_id in (select job_id from due) and {_WAITING} and dispatched_at is null
returning job_id, priority, run_at
""")  # noqa: S608

# A hint that never left is none: it does not count towards the time that the next one is given.
# (`not in`: PostgreSQL would look for the one id in the index of all that wait.)
PUT_BACK = statement("""
update processing_jobs set dispatched_at = null, dispatch_count = dispatch_count - 1
where job_id = :job_id and status not in ('processing', 'completed', 'failed') and dispatched_at is not null
""")

EPOCHS = statement("select transport, epoch from transport_epochs")
NOTE_EPOCH = statement("""
insert into transport_epochs (transport, epoch, began_at) values (:transport, :epoch, 0)
on conflict (transport) do update set epoch = excluded.epoch where transport_epochs.epoch <> excluded.epoch
returning transport
""")
FORGET_OTHER_EPOCHS = statement("delete from transport_epochs where transport <> :transport")
BEGIN_ANEW = statement("update transport_epochs set began_at = <now>")

_FORGET = """
update processing_jobs set dispatched_at = null
where job_id in (select job_id from processing_jobs where {gone}
                 order by dispatched_at limit :limit <skip_locked>)
  and {waiting}
"""
_ANY = "select job_id from processing_jobs where {gone} order by dispatched_at limit 1"

# What was hinted to a broker in a life that it has not any more.
_OUTLIVED = f"{_WAITING} and dispatched_at <= (select max(began_at) from transport_epochs)"  # noqa: S608
ANY_OUTLIVED = statement(_ANY.format(gone=_OUTLIVED))
FORGET_OUTLIVED = statement(_FORGET.format(gone=_OUTLIVED, waiting=_WAITING))

# Hints of one priority leave the broker as they came: who is overtaken by much is not there any more.
_LOST = f"""{_WAITING} and dispatched_at < <now> - :lost_seconds
  and dispatched_at < <now> - :lost_seconds
    * (1 << (case when dispatch_count < :max_doublings then dispatch_count else :max_doublings end))
  and (:is_idle = 1 or dispatched_at + :lost_seconds < (
    select max(ahead.dispatched_at) from processing_jobs as ahead
    where ahead.status = 'processing' and ahead.lease_until is not null
      and ahead.priority >= processing_jobs.priority))"""  # noqa: S608
ANY_LOST = statement(_ANY.format(gone=_LOST))
FORGET_LOST = statement(_FORGET.format(gone=_LOST, waiting=_WAITING))

# The order has the index of due jobs walked, whose first row is nearly always the answer.
ANY_DUE = statement(f"""
select job_id from processing_jobs
where {_WAITING} and run_at <= <now> - :seconds and +expires_at > <now>
order by priority, run_at, job_id limit 1
""")  # noqa: S608

SLOTS = statement("select coalesce(sum(slots), 0) from workers where seen_at > <now> - :seconds")


@dataclass(frozen=True, kw_only=True)
class DueJob:
    """A job that a transport is to be told of."""

    job_id: str
    priority: Priority


class DispatchRepository:
    """Who has been told of which job; any number of sweepers may ask, and none is given what another has."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def take(self, limit: int) -> list[DueJob]:
        """Up to `limit` due jobs that no transport knows of, best first, marked as dispatched from now on."""
        if limit < 1 or not self._is_any_undispatched():
            return []  # the sweeper asks every second; it need not take the write lock for that
        with self._database.write() as connection:
            rows = connection.execute(TAKE, {"limit": limit}).all()
        best_first = sorted(rows, key=lambda row: (row.priority, row.run_at, row.job_id))
        return [DueJob(job_id=row.job_id, priority=Priority(row.priority)) for row in best_first]

    def _is_any_undispatched(self) -> bool:
        with self._database.read() as connection:
            return connection.execute(ANY_UNDISPATCHED).first() is not None

    def put_back(self, job_ids: Sequence[str]) -> None:
        """Have those of the jobs that still wait dispatched again: their hints did not leave or went back."""
        if job_ids:
            with self._database.write() as connection:
                connection.execute(PUT_BACK, [{"job_id": job_id} for job_id in job_ids])

    def note_epoch(self, transport: str, epoch: str) -> bool:
        """
        Remember the transport in use and the life that its broker lives; True where hints may have been lost.

        Then every waiting job is to be dispatched anew, see `forget_outlived`. So it is where another
        transport was in use before. At a first start there is nothing to lose: what waits then was hinted to
        this very broker.
        """
        with self._database.read() as connection:
            known = {(row.transport, row.epoch) for row in connection.execute(EPOCHS)}
        if known == {(transport, epoch)}:
            return False
        with self._database.write() as connection:
            noted = connection.execute(NOTE_EPOCH, {"transport": transport, "epoch": epoch}).first()
            forgotten = connection.execute(FORGET_OTHER_EPOCHS, {"transport": transport}).rowcount
            if noted is None and not forgotten:
                return False  # another sweeper was faster
            if known:
                connection.execute(BEGIN_ANEW)
        return bool(known)

    def forget_outlived(self) -> int:
        """Have jobs dispatched again that an earlier life of the broker was told of, 2000 of them at most."""
        return self._forget(ANY_OUTLIVED, FORGET_OUTLIVED, {})

    def forget_lost(self, *, is_idle: bool = True) -> int:
        """
        Have jobs dispatched again whose hint must be lost: it is 30 s times 2 to the number of hints old.

        A hint that old may still wait where the broker is not idle; there it is lost if one that came 30 s
        later, and was no better, is being worked on. Gives the number of jobs, 2000 at most.
        """
        parameters = {"lost_seconds": LOST_SECONDS, "max_doublings": MAX_DOUBLINGS, "is_idle": int(is_idle)}
        return self._forget(ANY_LOST, FORGET_LOST, parameters)

    def _forget(self, find: Statement, forget: Statement, parameters: Mapping[str, Any]) -> int:
        with self._database.read() as connection:
            if connection.execute(find, parameters).first() is None:
                return 0
        with self._database.write() as connection:
            return connection.execute(forget, {**parameters, "limit": FORGET_BATCH}).rowcount

    def any_due(self, older_than_seconds: float) -> bool:
        """Whether a job has been due for longer than that and nobody has claimed it."""
        with self._database.read() as connection:
            return connection.execute(ANY_DUE, {"seconds": older_than_seconds}).first() is not None

    def slots(self) -> int:
        """How many jobs the workers that are alive can do at once."""
        with self._database.read() as connection:
            return int(connection.execute(SLOTS, {"seconds": SEEN_SECONDS}).scalar_one())
