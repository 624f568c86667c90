"""What a claim costs with 1 000, 100 000 and 1 000 000 finished jobs beside: `python -m bench.claims`."""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from sqlalchemy import Connection, text

from image_processor.jobs import Database, JobRepository
from integration.jobs.job_samples import (
    UNLIMITED,
    an_upload,
    some_facts,
)
from postgres_server import PostgresServer

SIZES = (1_000, 100_000, 1_000_000)
JOBS_PER_ROUND = 50

NUMBERS = {
    "sqlite": "with recursive numbers(n) as (select 1 union all select n + 1 from numbers where n < {size})",
    "postgresql": "with numbers as (select n from generate_series(1, {size}) as n)",
}
IMAGES = """
insert into images (image_id, user_id, bucket, job_id, sha256, source_format, source_bytes, variants,
  created_at)
{numbers} select 'image-' || n, 'user-' || n % 100, 'bucket', 'job-' || n, '', 'jpeg', 1, '{{}}',
  '2026-01-01T00:00:00.000Z' from numbers
"""
JOBS = """
insert into processing_jobs (job_id, image_id, user_id, status, reason, preset, pipeline, pipeline_version,
  key_template, source_format, storage_bucket, staging_path, processed_paths, processing_metadata, run_at,
  expires_at, created_at, completed_at)
{numbers} select 'job-' || n, 'image-' || n, 'user-' || n % 100,
  case when n % 10 = 0 then 'failed' else 'completed' end, case when n % 10 = 0 then 'exhausted' end,
  'web', '{{}}', 1, '', 'jpeg', 'bucket', 'staged-' || n, case when n % 10 <> 0 then '{{}}' end,
  '{{"client": {{}}}}', 1, 2, '2026-01-01T00:00:00.000Z', '2026-01-01T00:00:01.000Z' from numbers
"""


@dataclass
class Room:
    """One database with so many finished jobs, and what its claims cost."""

    database: Database
    kind: str
    size: int
    claims: list[float] = field(default_factory=list)
    completions: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.jobs = JobRepository(self.database)
        self.database.migrate()
        self._fill()

    def _fill(self) -> None:
        numbers = NUMBERS[self.kind].format(size=self.size)
        with self.database.write() as connection, self._without_triggers(connection):
            for insert in (IMAGES, JOBS):
                connection.execute(text(insert.format(numbers=numbers).replace(":", r"\:")))
        with self.database.write() as connection:
            connection.execute(text("analyze"))

    @contextmanager
    def _without_triggers(self, connection: Connection) -> Iterator[None]:
        """A job is born pending, says a trigger; these were born long ago."""
        if self.kind == "postgresql":
            connection.execute(text("set local session_replication_role = replica"))
            connection.execute(text("set local statement_timeout = 0"))
            yield
            return
        triggers = connection.execute(
            text("select name, sql from sqlite_master where type = 'trigger'")
        ).all()
        for trigger in triggers:
            connection.execute(text(f"drop trigger {trigger.name}"))
        yield
        for trigger in triggers:
            connection.exec_driver_sql(trigger.sql)

    def round(self) -> None:
        """Submit some jobs, then claim and complete them, each timed."""
        for _ in range(JOBS_PER_ROUND):
            self.jobs.submit(an_upload(), UNLIMITED)
        for _ in range(JOBS_PER_ROUND):
            start = time.perf_counter()
            claim = self.jobs.claim("worker", 60)
            claimed = time.perf_counter()
            assert claim is not None
            assert self.jobs.complete(claim, some_facts())
            self.claims.append(claimed - start)
            self.completions.append(time.perf_counter() - claimed)


@contextmanager
def rooms(kind: str, sizes: list[int]) -> Iterator[list[Room]]:
    with ExitStack() as stack:
        if kind == "sqlite":
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            places: list[Path | str] = [folder / f"{size}.db" for size in sizes]
        else:
            server = PostgresServer(shared_buffers="256MB")
            stack.callback(server.close)
            server.start()
            places = [server.new_database() for _ in sizes]
        databases = [Database.open(place) for place in places]
        for database in databases:
            stack.callback(database.close)
        yield [Room(database, kind, size) for database, size in zip(databases, sizes, strict=True)]


def measure(kind: str, sizes: list[int], rounds: int) -> None:
    with rooms(kind, sizes) as measured:
        for room in measured:
            room.round()  # to warm up
            room.claims.clear()
            room.completions.clear()
        for _ in range(rounds):
            for room in measured:
                room.round()
        least = statistics.median(measured[0].claims)
        for room in measured:
            claim, completion = statistics.median(room.claims), statistics.median(room.completions)
            print(
                f"{kind:<10} {room.size:>9,} finished: claim {claim * 1000:6.2f} ms (x {claim / least:.2f}),"
                f" complete {completion * 1000:6.2f} ms, {len(room.claims)} jobs",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--kinds", nargs="+", default=list(NUMBERS), choices=list(NUMBERS))
    arguments = parser.parse_args()
    for kind in arguments.kinds:
        measure(kind, arguments.sizes, arguments.rounds)


if __name__ == "__main__":
    main()
