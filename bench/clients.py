"""A process with many clients, each of which sends its next request when the last one is answered."""

import asyncio
import itertools
import json
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

HOST = "127.0.0.1"
HEAD_END = b"\r\n\r\n"
BOUNDARY = "clients"
NUMBER = "@number@"
"""In a form's field it stands for a number of its own in each request."""
ANSWER_SECONDS = 60.0
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Load:
    """What the clients are to ask for, again and again."""

    port: int
    paths: Sequence[str]
    """In turns."""
    seconds: float
    """After that nobody sends another request; those that are under way are waited for."""
    clients: int = 50
    token: str = ""
    files: Sequence[str] = ()
    """Sent in turns, as the field `file` of a form; none: a GET."""
    fields: dict[str, str] = field(default_factory=dict)
    """The others of that form."""


@dataclass(frozen=True, kw_only=True)
class Answered:
    """What came of it."""

    milliseconds: Sequence[float]
    """Of each request, from its first byte sent to the last one of its answer."""
    seconds: float
    """From the first request to the last answer."""
    cpu_seconds: float
    """Of the clients' process."""
    statuses: dict[str, int]
    bytes_each: float
    """Of an answer's body, on average."""


class _Client(asyncio.Protocol):
    """One connection that is kept alive."""

    def __init__(self, requests: Iterator[Sequence[bytes]], ends_at: float) -> None:
        self.milliseconds: list[float] = []
        self.statuses: Counter[str] = Counter()
        self.received = 0
        self.done: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self._requests = requests
        self._ends_at = ends_at
        self._answer = bytearray()
        self._begun = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def send(self) -> None:
        self._answer.clear()
        self._begun = time.perf_counter()
        self._transport.writelines(next(self._requests))

    def data_received(self, data: bytes) -> None:
        self._answer += data
        head = self._answer.find(HEAD_END)
        if head < 0:
            return
        length = _LENGTH.search(self._answer, 0, head + 2)
        assert length is not None, "an answer has no length"
        if len(self._answer) == head + len(HEAD_END) + int(length[1]):
            self._note(int(length[1]))

    def _note(self, length: int) -> None:
        now = time.perf_counter()
        self.milliseconds.append((now - self._begun) * 1000)
        self.statuses[self._answer[9:12].decode()] += 1
        self.received += length
        if now < self._ends_at:
            self.send()
        else:
            self.done.set_result(None)
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(exc or ConnectionError("The server hung up."))


def requests(load: Load) -> Iterator[Sequence[bytes]]:
    """Them all, in pieces to be written one after the other: no file is copied."""
    common = f"Host: {HOST}:{load.port}\r\n"
    if load.token:
        common += f"Authorization: Bearer {load.token}\r\n"
    paths = itertools.cycle(load.paths)
    if not load.files:
        for path in paths:
            yield [f"GET {path} HTTP/1.1\r\n{common}\r\n".encode()]
    files = itertools.cycle([Path(file).read_bytes() for file in load.files])
    started = time.time_ns()
    for number, path, content in zip(itertools.count(), paths, files, strict=False):
        form, end = _form(load.fields, f"{started}-{number}"), f"\r\n--{BOUNDARY}--\r\n".encode()
        head = (
            f"POST {path} HTTP/1.1\r\n{common}Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n"
            f"Content-Length: {len(form) + len(content) + len(end)}\r\n\r\n"
        )
        yield [head.encode() + form, content, end]


def _form(fields: dict[str, str], number: str) -> bytes:
    """The form up to the bytes of its file."""
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'
        f"{value.replace(NUMBER, number)}\r\n"
        for name, value in fields.items()
    ]
    file = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n'
        "Content-Type: image/jpeg\r\n\r\n"
    )
    return "".join([*parts, file]).encode()


async def press(load: Load) -> Answered:
    """Send and wait; the connections are there before the clock begins."""
    loop = asyncio.get_running_loop()
    source = requests(load)
    ends_at = time.perf_counter() + load.seconds
    clients = [
        (await loop.create_connection(lambda: _Client(source, ends_at), HOST, load.port))[1]
        for _ in range(load.clients)
    ]
    cpu_before, started = time.process_time(), time.perf_counter()
    for client in clients:
        client.send()
    async with asyncio.timeout(load.seconds + ANSWER_SECONDS):
        broken = [error for client in clients if (error := await client.done)]
    assert not broken, f"{len(broken)} connections broke, the first one with {broken[0]!r}"
    milliseconds = [each for client in clients for each in client.milliseconds]
    return Answered(
        milliseconds=milliseconds,
        seconds=time.perf_counter() - started,
        cpu_seconds=time.process_time() - cpu_before,
        statuses=dict(sum((client.statuses for client in clients), Counter())),
        bytes_each=sum(client.received for client in clients) / len(milliseconds),
    )


class Clients:
    """The process with the clients, from its start to its end as a context."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.clients"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=ANSWER_SECONDS)

    def press(self, load: Load) -> Answered:
        """What came of this load."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asdict(load)) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("The clients have ended; they said why above.")
        answered: dict[str, Any] = json.loads(line)
        return Answered(**answered)


def main() -> None:
    """Press as each line asks, and answer with a line."""
    for line in sys.stdin:
        answered = asyncio.run(press(Load(**json.loads(line))))
        print(json.dumps(asdict(answered)), flush=True)


if __name__ == "__main__":
    main()
