"""Status and upload beside bare FastAPI, workers idle and busy: `python -m bench.http`."""  # noqa: A005 - here

import argparse
import secrets
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from bench.bare import KNOWN
from bench.clients import HOST, NUMBER, Answered, Clients, Load
from bench.load import PHOTOS, head, line
from bench.recovery import servers
from flood import BACKLOG, LoneApi
from image_processor import ImageProcessor, JpegOutput
from image_processor.jobs import Database
from image_processor.jobs.clock import statement
from image_processor.settings import Settings
from image_processor.tokens import make_token

USER = "bench"
START_SECONDS = 60.0
FIELDS: Mapping[str, str] = {"bucket": "bench", "metadata": f'{{"number": "{NUMBER}"}}'}
"""No two uploads are the same: else they would be joined."""
WAITING = statement("select count(*) from processing_jobs where status = 'pending'")
COMPLETED = statement("select job_id from processing_jobs where status = 'completed' limit 50")
RUNNING = statement("select count(*) from processing_jobs where status = 'processing'")


@dataclass(frozen=True, kw_only=True)
class Side:
    """One of those that take turns."""

    name: str
    process: psutil.Process
    load: Load
    expected: int
    """The status of every answer."""


@dataclass
class Score:
    """What all the rounds of one side came to."""

    side: Side
    answered: list[Answered] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    """Of the server, in each round."""

    def round(self, clients: Clients) -> None:
        """One more."""
        before = _cpu_seconds(self.side.process)
        answered = clients.press(self.side.load)
        self.cpu_seconds.append(_cpu_seconds(self.side.process) - before)
        assert set(answered.statuses) == {str(self.side.expected)}, answered.statuses
        self.answered.append(answered)

    @property
    def count(self) -> int:
        """Of the requests."""
        return sum(len(answered.milliseconds) for answered in self.answered)

    @property
    def rates(self) -> list[float]:
        """Requests a second in each round."""
        return [len(answered.milliseconds) / answered.seconds for answered in self.answered]

    @property
    def cpu_each(self) -> float:
        """Milliseconds of the server's processor time for a request."""
        return sum(self.cpu_seconds) * 1000 / self.count

    @property
    def client_cpu_each(self) -> float:
        """The same of the clients' process."""
        return sum(answered.cpu_seconds for answered in self.answered) * 1000 / self.count

    def quantiles(self) -> tuple[float, float, float]:
        """The median, the 99th of 100 and the longest, in milliseconds."""
        times = sorted(each for answered in self.answered for each in answered.milliseconds)
        return statistics.median(times), times[int(len(times) * 0.99)], times[-1]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long and with how many."""

    rounds: int
    seconds: float
    """Of a round of one side."""
    clients: int


@contextmanager
def bare_server(folder: Path) -> Iterator[tuple[psutil.Process, int]]:
    """The process of the bare application, and its port."""
    with socket.create_server((HOST, 0), backlog=BACKLOG) as listener:
        port = listener.getsockname()[1]
        descriptor = listener.fileno()
        command = [sys.executable, "-m", "bench.bare", "--fd", str(descriptor), "--folder", str(folder)]
        process = subprocess.Popen(command, pass_fds=(descriptor,))
    with _ended(process):
        yield psutil.Process(process.pid), port


@contextmanager
def _ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    try:
        yield
    finally:
        process.terminate()
        process.wait(START_SECONDS)


@contextmanager
def worker(api: LoneApi) -> Iterator[None]:
    """One beside the API, with as many slots as it has by default."""
    with (api.folder / "worker.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "image_processor.worker"],
            cwd=api.folder,
            env=api.variables(),
            stdout=log,
            stderr=log,
        )
    with _ended(process):
        yield


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def small_copies(photos: Sequence[Path], folder: Path) -> list[Path]:
    """The photos as a web site would send them: within 800 x 600."""
    made = []
    with ImageProcessor() as processor:
        for photo in photos:
            made.append(folder / f"small-{photo.name}")
            small = processor.resize(photo, 800, 600, fit="inside", output=JpegOutput())
            made[-1].write_bytes(small.data)
    return made


@dataclass(frozen=True, kw_only=True)
class Arena:
    """The two servers, the clients, and what they are given."""

    plan: Plan
    clients: Clients
    api: LoneApi
    bare: psutil.Process
    bare_port: int
    token: str
    uploads: Mapping[str, Sequence[Path]]
    """The files of each kind of upload."""

    def ours(self, *paths: str, files: Sequence[Path] = ()) -> Side:
        """Our service."""
        load = self._load(self.api.port, paths, files, token=self.token)
        process = psutil.Process(self.api.process.pid)
        return Side(name="ours", process=process, load=load, expected=202 if files else 200)

    def bare_side(self, name: str, path: str, files: Sequence[Path] = ()) -> Side:
        """An endpoint of the bare application."""
        load = self._load(self.bare_port, [path], files)
        return Side(name=name, process=self.bare, load=load, expected=202 if files else 200)

    def _load(self, port: int, paths: Sequence[str], files: Sequence[Path], token: str = "") -> Load:
        return Load(
            port=port,
            paths=paths,
            seconds=self.plan.seconds,
            clients=self.plan.clients,
            token=token,
            files=[str(file) for file in files],
            fields=dict(FIELDS),
        )

    def compete(self, sides: Sequence[Side]) -> list[Score]:
        """All of them in turns, a round each, again and again; a short round of each goes before."""
        scores = [Score(side) for side in sides]
        for side in sides:
            self.clients.press(Load(**{**vars(side.load), "seconds": 0.2}))
        for _ in range(self.plan.rounds):
            for score in scores:
                score.round(self.clients)
        return scores

    def status(self, database: Database) -> list[Score]:
        """Where jobs stand."""
        with database.read() as connection:
            known = connection.execute(COMPLETED).scalars().all()
        paths = [f"/api/v1/images/jobs/{job_id}" for job_id in known]
        sides = [
            self.bare_side("bare", f"/status/{KNOWN}"),
            self.bare_side("bare, a row looked up", f"/row/{KNOWN}"),
            self.ours(*paths),
        ]
        return self.compete(sides)

    def upload(self, kind: str) -> list[Score]:
        """Uploads of one kind."""
        files = self.uploads[kind]
        sides = [
            self.bare_side("bare", "/upload", files),
            self.bare_side("bare, durable", "/kept", files),
            self.ours("/api/v1/images/upload", files=files),
        ]
        return self.compete(sides)


COLUMNS = (
    *("workers", "request", "side", "requests", "a second", "p50, ms", "p99", "longest"),
    *("server's CPU each, ms", "CPU to bare", "throughput to bare", "clients' CPU each, ms"),
)


def rows(workers: str, request: str, scores: Sequence[Score]) -> Iterator[list[str]]:
    """Lines of the table; ratios to the first side."""
    bare = scores[0]
    for score in scores:
        rates = statistics.median(ours / theirs for ours, theirs in zip(score.rates, bare.rates, strict=True))
        yield [
            workers,
            request,
            score.side.name,
            str(score.count),
            f"{statistics.median(score.rates):.0f}",
            *(f"{milliseconds:.0f}" for milliseconds in score.quantiles()),
            f"{score.cpu_each:.2f}",
            f"{score.cpu_each / bare.cpu_each:.2f}",
            f"{rates:.2f}",
            f"{score.client_cpu_each:.2f}",
        ]


def run(arena: Arena, database: Database) -> Iterator[list[str]]:
    """Lines of the table. Idle first: what is uploaded then, without a worker, keeps them busy after that."""
    with worker(arena.api):
        _complete_some(arena, database)
        yield from rows("idle", "status", arena.status(database))
    for kind in arena.uploads:
        yield from rows("idle", f"upload, {kind}", arena.upload(kind))
    with worker(arena.api):
        _wait_for(lambda: _value(database, RUNNING) > 0, "the workers to be busy")
        yield from rows("busy", "status", arena.status(database))
        for kind in arena.uploads:
            yield from rows("busy", f"upload, {kind}", arena.upload(kind))
        if not _value(database, WAITING):
            print("The workers ran out of work: the last rounds were idle.", file=sys.stderr)


def _complete_some(arena: Arena, database: Database) -> None:
    files = next(iter(arena.uploads.values()))
    load = arena.ours("/api/v1/images/upload", files=files).load
    arena.clients.press(Load(**{**vars(load), "seconds": 0.0, "clients": 5}))
    _wait_for(lambda: not _value(database, WAITING) + _value(database, RUNNING), "the first jobs to be done")


def _value(database: Database, query: object) -> int:
    with database.read() as connection:
        return int(connection.execute(query).scalar_one())  # type: ignore[call-overload]


def _wait_for(is_so: Callable[[], bool], what: str) -> None:
    ends_at = time.monotonic() + START_SECONDS
    while not is_so():
        if time.monotonic() > ends_at:
            raise SystemExit(f"Waited {START_SECONDS:.0f} s for {what}.")
        time.sleep(0.05)


@contextmanager
def arena(plan: Plan, photos: Sequence[Path], stack: Mapping[str, str]) -> Iterator[tuple[Arena, Database]]:
    """Everything that is needed, in a folder that is removed with all that was uploaded."""
    secret = secrets.token_hex(32)
    environment = {
        "AUTH_REQUIRED": "true",
        "JWT_SECRET_KEY": secret,
        "RATE_LIMIT_MAX_UPLOADS": "1000000",
        **stack,
    }
    with ExitStack() as stays:
        folder = Path(stays.enter_context(tempfile.TemporaryDirectory()))
        bare, bare_port = stays.enter_context(bare_server(folder))
        api = stays.enter_context(LoneApi(folder, environment))
        place = stack.get("DATABASE_URL") or folder / "data" / "processor.db"
        yield (
            Arena(
                plan=plan,
                clients=stays.enter_context(Clients()),
                api=api,
                bare=bare,
                bare_port=bare_port,
                token=make_token(Settings(jwt_secret_key=secret), USER),
                uploads={"a photo": photos, "a small one": small_copies(photos, folder)},
            ),
            stays.enter_context(closing(Database.open(place))),
        )


@contextmanager
def stack_of(name: str) -> Iterator[dict[str, str]]:
    """What our service is to be told of where it runs."""
    if name == "default":
        yield {}
        return
    with servers() as (databases, postgres):
        yield {
            "DATABASE_URL": postgres.new_database(),
            "QUEUE_BACKEND": "redis",
            "REDIS_URL": databases.new(),
        }


def main() -> int:
    """Measure and print the table, a line as soon as it is known."""
    parser = argparse.ArgumentParser(prog="python -m bench.http", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.5, help="of a round of one side")
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--folder", type=Path, default=PHOTOS, help="the folder of JPEG photos")
    parser.add_argument("--stack", choices=["default", "servers"], default="default")
    asked = parser.parse_args()
    photos = sorted(asked.folder.resolve().glob("*.jpg"))
    plan = Plan(rounds=asked.rounds, seconds=asked.seconds, clients=asked.clients)
    started = time.monotonic()
    with stack_of(asked.stack) as stack, arena(plan, photos, stack) as (made, database):
        head(COLUMNS)
        for cells in run(made, database):
            line(cells)
    print(f"\n{plan.clients} clients, {plan.rounds} rounds, {time.monotonic() - started:.0f} s in all.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
