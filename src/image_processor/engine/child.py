"""One codec process as its parent sees it: bytes in, bytes out, a deadline and a certain end."""

import contextlib
import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Self

from image_processor.engine import wire

CHUNK_BYTES = 64 * 1024
STDERR_BYTES = 1024
"""So much of the end of what the child writes to standard error is kept."""
LAST_CHUNKS = 4
"""A pipe holds 64 KiB; its writers are dead when these are read."""


class ChildTimeoutError(Exception):
    """The deadline passed."""


class ChildEndedError(Exception):
    """The child closed its end of the pipe: it died, or behaves as if it had."""


class ChildBabbleError(Exception):
    """The child sent what is no single frame of allowed length."""


class Child:
    """A process that answers a frame with a frame. One thread asks; any thread may kill."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self.jobs = 0
        self._ending = threading.Lock()
        self._received = bytearray()
        self._stderr = bytearray()
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(environment),
            cwd="/",
            bufsize=0,
            # Its own process group: all that it started is killed with it, and Ctrl-C is for its parent.
            start_new_session=True,
        )
        self._pipes = tuple(
            _unblocked(pipe) for pipe in (self._process.stdin, self._process.stdout, self._process.stderr)
        )

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def stderr(self) -> str:
        """The end of what it wrote to standard error."""
        return bytes(self._stderr).decode(errors="replace")

    def ask(self, frame: bytes, *, deadline: float, is_aside: Callable[[bytes], bool]) -> bytes:
        """
        Send a frame (or nothing, b"") and wait for the body of one, until `deadline` on the monotonic clock.

        `is_aside` is shown every body that comes and says of which that it is not yet the answer; it has to
        say so of a bounded number. What it raises ends the wait.
        Raises ChildTimeoutError, ChildEndedError, ChildBabbleError; the child is of no use afterwards.
        """
        exchange = _Exchange(self._pipes, frame, self._received, self._stderr)
        with exchange:
            body = self._wait_for_body(exchange, deadline)
            while is_aside(body):
                body = self._wait_for_body(exchange, deadline)
        if self._received:
            raise ChildBabbleError("more than one frame")
        return body

    def has_changed(self) -> bool:
        """Whether an idle child has died or said something nobody asked for; it is of no use then."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._pipes[1], selectors.EVENT_READ)
            return bool(self._received or selector.select(0))

    def rss_bytes(self) -> int:
        """Its resident memory; 0 where that cannot be known."""
        try:
            pages = Path(f"/proc/{self.pid}/statm").read_text(encoding="ascii").split()[1]
        except (OSError, IndexError):
            return 0
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def kill(self) -> None:
        """Send SIGKILL to the process and its group; from any thread, also when it is dead already."""
        with self._ending:
            # Not waited for yet, so the number still belongs to it, be it alive or dead;
            # unless somebody waits for all the children of this process.
            if self._process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self.pid, signal.SIGKILL)

    def end(self) -> int:
        """Kill what still runs, wait, close the pipes; gives the exit code, or minus its signal."""
        self.kill()
        with self._ending:
            code = self._process.wait()
        self._hear_last_words()
        for pipe in self._pipes:
            pipe.close()
        return code

    def _hear_last_words(self) -> None:
        """What it wrote as it died: its end is often noticed first."""
        complaints = self._pipes[2]
        with contextlib.suppress(OSError, ValueError):  # nothing more for now; closed by an earlier end
            for _ in range(LAST_CHUNKS):
                self._stderr += os.read(complaints.fileno(), CHUNK_BYTES)
        del self._stderr[:-STDERR_BYTES]

    def _wait_for_body(self, exchange: "_Exchange", deadline: float) -> bytes:
        while (body := self._take_body()) is None:
            exchange.wait(deadline)
        return body

    def _take_body(self) -> bytes | None:
        if len(self._received) < wire.LENGTH_BYTES:
            return None
        try:
            end = wire.LENGTH_BYTES + wire.body_length(bytes(self._received[: wire.LENGTH_BYTES]))
        except ValueError as error:
            raise ChildBabbleError(str(error)) from error
        if len(self._received) < end:
            return None
        body = bytes(self._received[wire.LENGTH_BYTES : end])
        del self._received[:end]
        return body


class _Exchange:
    """Moves bytes over the three pipes at once, so that no full pipe can hold up another."""

    def __init__(
        self, pipes: tuple[IO[bytes], ...], frame: bytes, received: bytearray, stderr: bytearray
    ) -> None:
        self._to_child, self._from_child, self._complaints = pipes
        self._unsent = memoryview(frame)
        self._received = received
        self._stderr = stderr
        self._selector = selectors.DefaultSelector()

    def __enter__(self) -> Self:
        self._selector.register(self._from_child, selectors.EVENT_READ, self._receive)
        self._selector.register(self._complaints, selectors.EVENT_READ, self._listen)
        if self._unsent:
            self._selector.register(self._to_child, selectors.EVENT_WRITE, self._send)
        return self

    def __exit__(self, *_: object) -> None:
        self._selector.close()

    def wait(self, deadline: float) -> None:
        """Move what can be moved, waiting for the first byte; raises ChildTimeoutError, ChildEndedError."""
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise ChildTimeoutError
        for key, _ in self._selector.select(remaining):
            key.data()

    def _send(self) -> None:
        try:
            sent = os.write(self._to_child.fileno(), self._unsent[:CHUNK_BYTES])
        except BrokenPipeError:  # reading will tell
            sent = len(self._unsent)
        self._unsent = self._unsent[sent:]
        if not self._unsent:
            self._selector.unregister(self._to_child)

    def _receive(self) -> None:
        chunk = os.read(self._from_child.fileno(), CHUNK_BYTES)
        if not chunk:
            raise ChildEndedError
        self._received += chunk

    def _listen(self) -> None:
        chunk = os.read(self._complaints.fileno(), CHUNK_BYTES)
        if not chunk:
            self._selector.unregister(self._complaints)
        self._stderr += chunk
        del self._stderr[:-STDERR_BYTES]


def _unblocked(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise ValueError("the process was started without pipes")
    os.set_blocking(pipe.fileno(), False)
    return pipe
