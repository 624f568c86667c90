"""How long a job waits when its process is killed, here and elsewhere: `python -m bench.recovery`."""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from bench.killed_ours import Served, Stack, Workers
from bench.killed_rivals import CeleryWorker, RQWorkers
from bench.killing import Case, Finding, markdown, run
from postgres_server import PostgresServer
from valkey_server import ValkeyServer, valkey_server

OURS_SECONDS = 120.0
RIVAL_SECONDS = 125.0
RQ_SECONDS = 900.0
"""An idle worker of RQ wakes every 405 s, and then looks for abandoned jobs if that is 600 s ago."""
AT_ONCE = 40


class Databases:
    """The numbered databases of one Redis, each given out once."""

    def __init__(self, server: ValkeyServer) -> None:
        self._server = server
        self._next = 0

    @property
    def port(self) -> int:
        """Of that Redis."""
        port: int = self._server.port
        return port

    def new(self) -> str:
        """The URL of an empty one."""
        self._next += 1
        return f"redis://127.0.0.1:{self.port}/{self._next}"


def stacks(databases: Databases, postgres: PostgresServer) -> list[Callable[[], Stack]]:
    """The two ends of what it runs on, everything else as it comes; empty at each call."""
    return [
        lambda: Stack(name="embedded on SQLite", environment={}),
        lambda: Stack(
            name="redis on PostgreSQL",
            environment={
                "QUEUE_BACKEND": "redis",
                "REDIS_URL": databases.new(),
                "DATABASE_URL": postgres.new_database(),
            },
        ),
    ]


def served_cases(new_stacks: Sequence[Callable[[], Stack]], times: int) -> list[Case]:
    """Deaths that are seen at once: run them one after the other, for they are about seconds."""
    return [
        Case(
            new_system=lambda new=new, victim=victim: Served(new(), victim=victim),  # type: ignore[misc]
            watch_seconds=OURS_SECONDS,
            rounds=times,
        )
        for victim in ("codec", "worker")
        for new in new_stacks
    ]


def lease_cases(new_stacks: Sequence[Callable[[], Stack]], times: int) -> list[Case]:
    """Deaths that nobody sees, so that the lease has to end."""
    return [
        Case(
            new_system=lambda new=new, count=count: Workers(new(), count=count),  # type: ignore[misc]
            watch_seconds=OURS_SECONDS,
            rounds=times,
        )
        for count in (2, 1)
        for new in new_stacks
    ]


def celery_cases(databases: Databases, times: int) -> list[Case]:
    """Acknowledged before the work, as it comes, and after it; the worker and its pool child."""
    return [
        Case(
            new_system=lambda task=task, child=child: CeleryWorker(  # type: ignore[misc]
                databases.new(), task=task, kills_child=child
            ),
            watch_seconds=RIVAL_SECONDS,
            deployments=times,
        )
        for task, child in (
            ("early", False),
            ("early", True),
            ("late", False),
            ("late", True),
            ("rejecting", True),
        )
    ]


def rq_cases(databases: Databases, times: int) -> list[Case]:
    """The worker, its work-horse, and both; also with the retries that one can ask for."""
    return [
        Case(
            new_system=lambda kills=kills, retries=retries: RQWorkers(  # type: ignore[misc]
                databases.new(), kills=kills, retries=retries
            ),
            watch_seconds=RQ_SECONDS,
            deployments=times,
        )
        for kills, retries in (("both", False), ("both", True), ("worker", False), ("horse", False))
    ]


RIVALS: Mapping[str, Callable[[Databases, int], list[Case]]] = {"celery": celery_cases, "rq": rq_cases}


@contextmanager
def servers() -> Iterator[tuple[Databases, PostgresServer]]:
    """A Redis and a PostgreSQL of our own."""
    with (
        tempfile.TemporaryDirectory() as folder,
        valkey_server(Path(folder), databases="200") as valkey,
        closing(PostgresServer()) as postgres,
    ):
        yield Databases(valkey), postgres.start()


def _measure(systems: Sequence[str], times: int) -> list[Finding]:
    findings = []
    with servers() as (databases, postgres):
        if "ours" in systems:
            new_stacks = stacks(databases, postgres)
            findings += run(served_cases(new_stacks, times), at_once=1)
            findings += run(lease_cases(new_stacks, times), at_once=AT_ONCE)
        rivals = [case for name in RIVALS if name in systems for case in RIVALS[name](databases, times)]
        return findings + run(rivals, at_once=AT_ONCE)


def main() -> int:
    """Run the cases that are asked for, and print their table."""
    names = ["ours", *RIVALS]
    parser = argparse.ArgumentParser(prog="python -m bench.recovery", description=__doc__)
    parser.add_argument("--systems", nargs="+", choices=names, default=names, help="by default all")
    parser.add_argument("--times", type=int, default=3, help="how often each process is killed; by default 3")
    asked = parser.parse_args()
    findings = _measure(asked.systems, asked.times)
    print(markdown(findings))
    outcomes = [outcome for finding in findings for outcome in finding.outcomes]
    if whole := [outcome.undisturbed for outcome in outcomes if outcome.undisturbed is not None]:
        print(f"\nA job of ours that nobody disturbed took {statistics.median(whole):.1f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
