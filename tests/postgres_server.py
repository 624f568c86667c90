"""A real PostgreSQL server for tests: the binaries of the pgserver wheel on a free port of 127.0.0.1."""

import importlib.util
import itertools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path

import psycopg

HOST = "127.0.0.1"
START_SECONDS = 60
_UNPRIVILEGED = "nobody"
"""PostgreSQL refuses to run as root; as root we run it, and own its folder, as this user."""
# One reader at the end of the pipe that only this process holds: it is let go, however the process ends.
_WATCH = 'read -r _; kill -QUIT "$1" 2>/dev/null'

SMART, FAST, IMMEDIATE = signal.SIGTERM, signal.SIGINT, signal.SIGQUIT
"""Ways to stop: wait for the clients; end their connections; as if it had crashed."""


def binaries() -> Path:
    """The folder of the wheel's programs; importing the package itself would make folders and locks."""
    spec = importlib.util.find_spec("pgserver")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "pginstall" / "bin"


class PostgresServer:
    """One server with a folder of its own; what it holds survives `stop`, `kill` and `restart`."""

    def __init__(self, *, fsync: bool = True, **parameters: str | int):
        self.folder = Path(tempfile.mkdtemp(prefix="postgres-"))
        self.data = self.folder / "data"
        self.port = _free_port()
        self._parameters = {"fsync": "on" if fsync else "off", "max_connections": 100} | parameters
        self._numbers = itertools.count(1)
        self._process: subprocess.Popen | None = None
        self._watch: subprocess.Popen | None = None
        if os.geteuid() == 0:
            shutil.chown(self.folder, _UNPRIVILEGED)
        self._run("initdb", "--no-sync", "--auth=trust", "--encoding=UTF8", "--locale=C", "-U", "postgres")

    def _run(self, program: str, *arguments: str) -> None:
        command = [binaries() / program, "-D", self.data, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, **self._as_whom())
        assert done.returncode == 0, done.stdout + done.stderr

    def _as_whom(self) -> dict:
        user = {"user": _UNPRIVILEGED, "extra_groups": []} if os.geteuid() == 0 else {}
        return user | {"cwd": self.folder, "env": {"PATH": os.environ["PATH"], "TZ": "UTC", "LC_ALL": "C"}}

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://postgres@{HOST}:{self.port}/{database}"

    @property
    def pid(self) -> int:
        """Of the postmaster."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> "PostgresServer":
        """Start, and wait until it answers."""
        fixed = {"listen_addresses": HOST, "port": self.port, "unix_socket_directories": ""}
        settings = [f"-c{name}={value}" for name, value in (fixed | self._parameters).items()]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [binaries() / "postgres", "-D", self.data, *settings],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **self._as_whom(),
            )
        self._watch = subprocess.Popen(["sh", "-c", _WATCH, "sh", str(self.pid)], stdin=subprocess.PIPE)
        self._wait_until_it_answers()
        return self

    def _wait_until_it_answers(self) -> None:
        for _ in range(START_SECONDS * 20):
            try:
                psycopg.connect(self.url(), connect_timeout=5).close()
            except psycopg.OperationalError:
                try:
                    self._process.wait(0.05)
                except subprocess.TimeoutExpired:
                    continue
                raise AssertionError((self.folder / "log").read_text()) from None
            else:
                return
        raise AssertionError("PostgreSQL did not start: " + (self.folder / "log").read_text())

    def stop(self, how: signal.Signals = FAST) -> None:
        """End it and wait for that; nothing to do where it does not run."""
        if self._process is None:
            return
        if self._watch is not None:
            self._watch.kill()
            self._watch.wait()
            self._watch.stdin.close()
        if self._process.poll() is None:
            self._process.send_signal(how)
            self._process.wait(START_SECONDS)
        self._process = self._watch = None

    def kill(self) -> None:
        """As if it had crashed: its children end at once, and the next start recovers from the log."""
        self.stop(IMMEDIATE)

    def restart(self, how: signal.Signals = FAST) -> None:
        self.stop(how)
        self.start()

    def new_database(self, template: str = "template1") -> str:
        """The URL of a fresh database; of a copy of the one named, if no one is connected to that."""
        name = f"test_{os.getpid()}_{next(self._numbers)}"
        self.execute(f"create database {name} template {template}")
        return self.url(name)

    def drop_database(self, url: str) -> None:
        """Whoever is connected to it is thrown out."""
        self.execute(f"drop database if exists {url.rsplit('/', 1)[1]} with (force)")

    def execute(self, sql: str) -> None:
        """Run a statement outside any transaction, in the server's own database."""
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(sql)

    def close(self) -> None:
        """Stop it and remove its folder."""
        self.stop(IMMEDIATE)
        shutil.rmtree(self.folder, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        return listener.getsockname()[1]
