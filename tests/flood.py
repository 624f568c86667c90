"""An API process without workers, many clients that ask it for jobs at once, and what came of them."""

import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Self

from image_processor.jobs import Database
from image_processor.jobs.clock import statement

START_SECONDS = 60
ANSWER_SECONDS = 30
BACKLOG = 1024
BOUNDARY = "flood"
LOOK_SECONDS = 0.1

LIVE = statement("select count(*) from processing_jobs where status in ('pending', 'processing', 'retrying')")
COMPLETED = statement("select count(*) from processing_jobs where status = 'completed'")
HINTS = statement("select sum(dispatch_count) * 1.0 / count(*) from processing_jobs")
CLAIMS = statement("""
select processing_jobs.priority from (
  select job_id, <event_order> as place from image_upload_events where event_type = 'processing_started'
) as claims join processing_jobs on processing_jobs.job_id = claims.job_id order by claims.place
""")


@dataclass(frozen=True)
class Request:
    """One request for a job, ready to be sent."""

    path: str
    content_type: str
    body: bytes

    @classmethod
    def job(cls, **fields: object) -> "Request":
        return cls("/jobs", "application/json", json.dumps(fields).encode())

    @classmethod
    def upload(cls, image: bytes, **fields: str) -> "Request":
        """An upload with the fields of its form."""
        parts = [
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
            for name, value in fields.items()
        ]
        file = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n\r\n'
        body = ("".join(parts) + file).encode() + image + f"\r\n--{BOUNDARY}--\r\n".encode()
        return cls("/api/v1/images/upload", f"multipart/form-data; boundary={BOUNDARY}", body)


@dataclass(frozen=True)
class Answer:
    status: int
    body: dict
    seconds: float


@dataclass
class LoneApi:
    """The API of the service as a process, on a free port; anybody may use it."""

    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    def __enter__(self) -> Self:
        listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
        self.port = listener.getsockname()[1]
        with listener, self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "image_processor.api", "--fd", str(listener.fileno())],
                pass_fds=(listener.fileno(),),
                cwd=self.folder,
                env=self.variables(),
                stdout=log,
                stderr=log,
            )
        try:
            assert self.ask(Request("/api/v1/health", "", b"")).status in {200, 503}
        except OSError as error:
            self.__exit__()
            raise AssertionError(self.log.read_text()) from error
        return self

    @property
    def log(self) -> Path:
        return self.folder / "api.log"

    def variables(self) -> dict[str, str]:
        """The environment of this process and of the workers beside it."""
        scrubbed = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
        ours = {
            "DATA_PATH": str(self.folder / "data"),
            "AUTH_REQUIRED": "false",
            "RATE_LIMIT_MAX_UPLOADS": "0",
            "LOG_FORMAT": "json",
        }
        return scrubbed | {"HOME": str(self.folder)} | ours | dict(self.environment)

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        try:
            self.process.wait(START_SECONDS)
        finally:
            self.process.kill()
            self.process.wait()

    def ask(self, request: Request) -> Answer:
        """Send one request over a connection of its own."""
        return self.flood([request], connections=1)[0]

    def flood(self, requests: Sequence[Request], *, connections: int) -> list[Answer]:
        """Send them all over so many connections, each of which sends its next one when it is answered."""
        waiting = list(enumerate(reversed(requests)))
        answers: dict[int, Answer] = {}

        def send() -> None:
            connection = HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_SECONDS)
            while True:
                try:
                    number, request = waiting.pop()
                except IndexError:
                    return connection.close()
                answers[number] = _send(connection, request)

        with ThreadPoolExecutor(connections) as clients:
            for done in [clients.submit(send) for _ in range(connections)]:
                done.result()
        return [answers[number] for number in sorted(answers, reverse=True)]


def _send(connection: HTTPConnection, request: Request) -> Answer:
    method = "POST" if request.body else "GET"
    headers = {"Content-Type": request.content_type} if request.body else {}
    started = time.perf_counter()
    connection.request(method, request.path, request.body, headers)
    response = connection.getresponse()
    body = response.read()
    return Answer(response.status, json.loads(body), time.perf_counter() - started)


def quantiles(answers: Sequence[Answer]) -> tuple[float, float, float]:
    """The median, the 99th of 100 and the longest of the times they took, in milliseconds."""
    times = sorted(answer.seconds * 1000 for answer in answers)
    return statistics.median(times), times[int(len(times) * 0.99)], times[-1]


def wait_until_drained(database: Database, seconds: float) -> None:
    """Until no job is left that waits or runs."""
    ends_at = time.monotonic() + seconds
    while left := _value(database, LIVE):
        assert time.monotonic() < ends_at, f"{left} jobs are left"
        time.sleep(LOOK_SECONDS)


def completed(database: Database) -> int:
    """How many jobs are done."""
    return int(_value(database, COMPLETED))


def hints_per_job(database: Database) -> float:
    return float(_value(database, HINTS))


def _value(database: Database, query: Any) -> Any:
    with database.read() as connection:
        return connection.execute(query).scalar_one()


def claimed_priorities(database: Database) -> list[int]:
    """The priority of each claim, in their order."""
    with database.read() as connection:
        return [int(priority) for priority in connection.execute(CLAIMS).scalars()]


def overtaken(priorities: Sequence[int]) -> int:
    """How many were still to be claimed when one of a lower priority was, where that was worst."""
    firsts = {level: priorities.index(level) for level in set(priorities)}
    return max(sum(priority < level for priority in priorities[first:]) for level, first in firsts.items())
