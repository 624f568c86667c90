"""A real service: `image-processor serve` with its processes, on a free port, in an empty folder."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg
import pytest
from pysqlite3 import dbapi2 as sqlite3

START_SECONDS = 60
IS_SOAK = os.environ.get("SOAK") == "1"
"""`make soak`: the long form of the tests that have one."""
MODULES = {
    "api": "image_processor.api",
    "worker": "image_processor.worker",
    "codec": "image_processor.engine.codec",
}


@dataclass
class Service:
    """A running service and what a user of it needs."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    arguments: tuple[str, ...] = ("--dev", "--port", "0", "--workers", "2")
    is_healthy: bool = True
    """Whether the service is expected to say that it is."""
    url: str = ""
    token: str = ""
    log: list[str] = field(default_factory=list)
    _kept: psycopg.Connection | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "image_processor", "serve", *self.arguments],
            cwd=self.folder,
            env=self.whole_environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        threading.Thread(target=self._keep_log, daemon=True).start()
        self._read_announcement()
        self.wait_for(self._is_ready, "the service to answer", START_SECONDS)

    @property
    def whole_environment(self) -> dict[str, str]:
        """What its processes see; a worker that is started beside it needs the same."""
        scrubbed = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
        # Tests upload one picture many times, and mean many jobs.
        ours = {"HOME": str(self.folder), "RATE_LIMIT_MAX_UPLOADS": "0", "JOIN_DUPLICATES": "false"}
        return scrubbed | ours | self.environment

    def _keep_log(self) -> None:
        self.log.extend(iter(self.process.stderr.readline, ""))

    def _read_announcement(self) -> None:
        for line in iter(self.process.stdout.readline, ""):
            self.url = self.url or next(iter(re.findall(r"http://\S+:\d+", line)), "")
            if re.fullmatch(r"[\w-]+\.[\w-]+\.[\w-]+", line.strip()):
                self.token = line.strip()
                return
        pytest.fail(f"the service did not start: {''.join(self.log)}")

    def _is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/api/v1/health", timeout=5).status_code == (
                200 if self.is_healthy else 503
            )
        except httpx.TransportError:
            return False

    def stop(self) -> None:
        if self._kept is not None:
            self._kept.close()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(40)
        finally:
            for child in self.children():
                child.kill()
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()
            self.process.stderr.close()

    def client(self, **options) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self.token}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=60, **options)

    def children(self) -> list[psutil.Process]:
        try:
            return psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def processes(self, name: str) -> list[psutil.Process]:
        """The living processes of a kind: api, worker or codec."""
        return [child for child in self.children() if MODULES[name] in _command(child)]

    def rows(self, sql: str, *parameters: object) -> list[tuple]:
        """What the database says, whichever it is; parameters stand as question marks."""
        with self._connection("ro") as connection:
            return connection.execute(self._spelt(sql), parameters).fetchall()

    def execute(self, sql: str, *parameters: object) -> None:
        """Change rows behind the service's back."""
        with self._connection("rw") as connection:
            connection.execute(self._spelt(sql), parameters)

    @contextmanager
    def _connection(self, mode: str) -> Iterator[Any]:
        """One that commits each statement by itself: psycopg's or sqlite3's."""
        if url := self.environment.get("DATABASE_URL"):
            yield self._postgres_connection(url)
            return
        file = f"file:{self.folder}/data/processor.db?mode={mode}"
        with closing(sqlite3.connect(file, uri=True, isolation_level=None, timeout=10)) as connection:
            yield connection

    def _postgres_connection(self, url: str) -> psycopg.Connection:
        """The same one while it lasts: who polls would start a process of the server's at every look."""
        if self._kept is not None:
            with suppress(psycopg.OperationalError):
                self._kept.execute("select 1")
                return self._kept
            self._kept.close()
        self._kept = psycopg.connect(url, autocommit=True, connect_timeout=10)
        return self._kept

    def _spelt(self, sql: str) -> str:
        return sql.replace("?", "%s") if self.environment.get("DATABASE_URL") else sql

    def staged(self) -> list[str]:
        return [path.name for path in (self.folder / "data" / "staging").iterdir()]

    def wait_for(self, is_so: Callable[[], bool], what: str, seconds: float = 60) -> None:
        """Poll what only another process can tell, every 20 ms."""
        ends_at = time.monotonic() + seconds
        while not is_so():
            if time.monotonic() > ends_at:
                pytest.fail(f"waited {seconds} s for {what}; the log ends: {''.join(self.log[-20:])}")
            time.sleep(0.02)


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def upload(client: httpx.Client, image: bytes, **fields: str) -> httpx.Response:
    return client.post("/api/v1/images/upload", files={"file": image}, data={"bucket": "tests", **fields})


def wait_for_result(client: httpx.Client, job_id: str, seconds: float = 90) -> httpx.Response:
    """Ask ever less often, down to five times a second: the asking takes from the work that is waited for."""
    started, pause = time.monotonic(), 0.02
    while (answer := client.get(f"/api/v1/images/jobs/{job_id}/result")).status_code == 409:
        if time.monotonic() > started + seconds:
            status = client.get(f"/api/v1/images/jobs/{job_id}").json()
            pytest.fail(f"job {job_id} is not done after {seconds} s: {status}")
        time.sleep(pause)
        pause = min(0.2, 1.3 * pause)
    return answer
