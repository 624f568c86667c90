"""A thousand jobs at once over HTTP, the real engine, real photos: `python -m bench.load`."""

import argparse
import itertools
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.killed_ours import Stack
from bench.recovery import Databases, servers
from fault_proxy import FaultProxy, Mode
from flood import (
    Answer,
    LoneApi,
    Request,
    claimed_priorities,
    completed,
    hints_per_job,
    overtaken,
    quantiles,
    wait_until_drained,
)
from image_processor import ImageProcessor
from image_processor.jobs import Database
from postgres_server import PostgresServer

PHOTOS = Path(__file__).parents[2] / "shared" / "photos" / "camera"
CONNECTIONS = 32
PRIORITIES = ("high", "normal", "low")
UPLOADS_ONE_IN = 5
DRAIN_SECONDS = 1800.0
PRESET = """
[[presets.load.variants]]
name = "front"
operations = [{ op = "resize", width = 600 }]
output = { format = "source" }
"""
"""For the uploads; of the same size as the others, on average."""
WIDEST = 800
STEPS = 400


@dataclass(frozen=True, kw_only=True)
class Drained:
    """What a stack made of the flood."""

    name: str
    answers: Sequence[Answer]
    submit_seconds: float
    drain_seconds: float
    cpu_seconds: float
    """Of the worker and its codec children."""
    completed: int
    hints: float
    late: int
    """Jobs that were still to be claimed when one of a lower priority was."""


def width(number: int) -> int:
    """Of the number-th result."""
    return WIDEST - number % STEPS


def requests(photos: Sequence[Path], count: int) -> list[Request]:
    """Jobs for the photos, no two alike, in three priorities, mixed; every fifth is an upload."""
    made = []
    for number, photo, priority in zip(
        range(count), itertools.cycle(photos), itertools.cycle(PRIORITIES), strict=False
    ):
        if number % UPLOADS_ONE_IN:
            operations = [{"op": "resize", "width": width(number)}]
            fields = {"operations": operations, "priority": priority, "metadata": {"number": number}}
            made.append(Request.job(input=photo.as_uri(), **fields))
        else:
            metadata = f'{{"number": {number}}}'
            made.append(
                Request.upload(
                    photo.read_bytes(), bucket="load", preset="load", priority=priority, metadata=metadata
                )
            )
    random.Random(4).shuffle(made)  # noqa: S311 - an order, not a secret
    return made


def drain(stack: Stack, asked: Sequence[Request], photos: Path) -> Drained:
    """Submit everything, then start a worker, and wait until it has done it all."""
    with tempfile.TemporaryDirectory() as folder:
        presets = Path(folder) / "presets.toml"
        presets.write_text(PRESET, encoding="utf-8")
        own = {"FILE_ROOTS": str(photos), "MAX_UPLOAD_SIZE_MB": "100", "PRESETS_FILE": str(presets)}
        environment = {**stack.environment, **own}
        with LoneApi(Path(folder), environment) as api:
            started = time.monotonic()
            answers = api.flood(asked, connections=CONNECTIONS)
            submitted = time.monotonic()
            place = stack.environment.get("DATABASE_URL") or Path(folder) / "data" / "processor.db"
            with closing(Database.open(place)) as database:
                with _worker(api) as worker:
                    wait_until_drained(database, DRAIN_SECONDS)
                    drained = time.monotonic()
                    cpu_seconds = _cpu_seconds(worker)
                return Drained(
                    name=stack.name,
                    answers=answers,
                    submit_seconds=submitted - started,
                    drain_seconds=drained - submitted,
                    cpu_seconds=cpu_seconds,
                    completed=completed(database),
                    hints=hints_per_job(database),
                    late=overtaken(claimed_priorities(database)),
                )


@contextmanager
def _worker(api: LoneApi) -> Iterator[int]:
    """One, with as many slots as it has by default; its process id."""
    with (api.folder / "worker.log").open("ab") as log:
        worker = subprocess.Popen(
            [sys.executable, "-m", "image_processor.worker"],
            cwd=api.folder,
            env=api.variables(),
            stdout=log,
            stderr=log,
        )
    try:
        yield worker.pid
    finally:
        worker.terminate()
        worker.wait()


def _cpu_seconds(pid: int) -> float:
    """What a process has used, with its children, dead or alive."""
    process = psutil.Process(pid)
    times = [member.cpu_times() for member in (process, *process.children(recursive=True))]
    return float(sum(sum(each[:4]) for each in times))


@dataclass(frozen=True)
class Plain:
    """The same pictures without service, queue and database."""

    per_second: float
    cpu_seconds: float
    """For one."""


def by_the_library(asked: Sequence[Request], photos: Sequence[Path]) -> Plain:
    """Make some of them by the library, on as many threads as a worker has slots."""
    numbers = range(min(len(asked), 200))
    with ImageProcessor() as processor, ThreadPoolExecutor(os.cpu_count()) as pool:

        def resize(number: int) -> None:
            processor.resize(photos[number % len(photos)], width(number))

        resize(0)
        cpu_before, started = _cpu_seconds(os.getpid()), time.monotonic()
        list(pool.map(resize, numbers))
        seconds = time.monotonic() - started
        cpu_seconds = _cpu_seconds(os.getpid()) - cpu_before
    return Plain(per_second=len(numbers) / seconds, cpu_seconds=cpu_seconds / len(numbers))


def stacks(databases: Databases, postgres: PostgresServer) -> list[Stack]:
    """Every combination of the databases and the queues that we run ourselves."""
    queues: Mapping[str, Callable[[], dict[str, str]]] = {
        "embedded": dict,
        "redis": lambda: {"QUEUE_BACKEND": "redis", "REDIS_URL": databases.new()},
    }
    places: Mapping[str, Callable[[], dict[str, str]]] = {
        "SQLite": dict,
        "PostgreSQL": lambda: {"DATABASE_URL": postgres.new_database()},
    }
    return [
        Stack(name=f"{queue} on {place}", environment={**new_queue(), **new_place()})
        for place, new_place in places.items()
        for queue, new_queue in queues.items()
    ]


def broken_broker(valkey_port: int, photo: Path, count: int) -> Iterator[list[str]]:
    """How fast jobs are accepted while the broker works, refuses connections, and answers nothing."""
    for mode in (Mode.PASS, Mode.REFUSE, Mode.BLACK_HOLE):
        for connections in (1, CONNECTIONS):
            with tempfile.TemporaryDirectory() as folder, FaultProxy(valkey_port, mode=mode) as proxy:
                environment = {
                    "FILE_ROOTS": str(photo.parent),
                    "QUEUE_BACKEND": "redis",
                    "REDIS_URL": f"redis://127.0.0.1:{proxy.port}/0",
                    "QUEUE_NAMESPACE": f"broken-{mode}-{connections}",
                }
                asked = [
                    Request.job(input=photo.as_uri(), metadata={"number": number}) for number in range(count)
                ]
                with LoneApi(Path(folder), environment) as api:
                    answers = api.flood(asked, connections=connections)
            yield [mode.value, str(connections), *_milliseconds(answers), _statuses(answers)]


def _milliseconds(answers: Sequence[Answer]) -> list[str]:
    return [f"{milliseconds:.0f}" for milliseconds in quantiles(answers)]


def _statuses(answers: Sequence[Answer]) -> str:
    counts = Counter(answer.status for answer in answers)
    return ", ".join(f"{count} x {status}" for status, count in sorted(counts.items()))


def line(cells: Sequence[str]) -> None:
    """Print one line of a table, as soon as it is known."""
    print(f"| {' | '.join(cells)} |", flush=True)


def head(columns: Sequence[str]) -> None:
    """Begin a table."""
    line(columns)
    line(["---"] * len(columns))


def _row(drained: Drained, plain: Plain) -> list[str]:
    count = len(drained.answers)
    rate = count / drained.drain_seconds
    return [
        drained.name,
        *_milliseconds(drained.answers),
        f"{count / drained.submit_seconds:.0f}",
        f"{rate:.1f}",
        f"{drained.cpu_seconds / drained.completed / plain.cpu_seconds:.2f}",
        f"{drained.hints:.3f}",
        str(drained.late),
        f"{drained.completed} of {count} ({_statuses(drained.answers)})",
    ]


COLUMNS = (
    *("stack", "accepted: median, ms", "p99", "longest", "accepted a second", "done a second"),
    *("CPU time to the library's", "hints per job", "overtaken", "completed"),
)


def main() -> int:
    """Run what is asked for and print its tables."""
    parser = argparse.ArgumentParser(prog="python -m bench.load", description=__doc__)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--folder", type=Path, default=PHOTOS, help="the folder of JPEG photos")
    parser.add_argument("--parts", nargs="+", choices=["drain", "broker"], default=["drain", "broker"])
    asked = parser.parse_args()
    photos = sorted(asked.folder.resolve().glob("*.jpg"))
    with servers() as (databases, postgres):
        if "drain" in asked.parts:
            made = requests(photos, asked.jobs)
            plain = by_the_library(made, photos)
            print(f"{asked.jobs} jobs over {CONNECTIONS} connections.")
            print(
                f"By the library: {plain.per_second:.1f} a second, {plain.cpu_seconds:.3f} s of CPU each.\n"
            )
            head(COLUMNS)
            for stack in stacks(databases, postgres):
                line(_row(drain(stack, made, asked.folder.resolve()), plain))
            print()
        if "broker" in asked.parts:
            head(("broker", "connections", "median, ms", "p99", "longest", "answers"))
            for row in broken_broker(databases.port, photos[0], min(asked.jobs, 300)):
                line(row)
    return 0


if __name__ == "__main__":
    sys.exit(main())
