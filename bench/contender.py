"""A long-lived process that does one kind of work, one request at a time, on one thread, and measures it."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

SHARP = Path(__file__).parent / "sharp"
ONE_THREAD: Mapping[str, str] = {"VIPS_CONCURRENCY": "1", "UV_THREADPOOL_SIZE": "1", "OMP_NUM_THREADS": "1"}


def ours(job: str) -> list[str]:
    """The command of our side."""
    return [sys.executable, "-m", "bench.ours", job]


def sharp(job: str) -> list[str]:
    """The command of sharp's side."""
    return ["node", str(SHARP / "work.mjs"), job]


class Spent(NamedTuple):
    """The time of one piece of work."""

    seconds: float
    cpu_seconds: float
    """Of the process: not longer when other work has the cores."""


class Contender:
    """
    The process, from its start to its end as a context.

    It reads `{"source": PATH, "folder": PATH}` per line, writes the results into the folder and answers
    `{"seconds": NUMBER, "cpu_seconds": NUMBER}`: the time around the work, the writing of files included.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._command = " ".join(command)
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **ONE_THREAD},
        )
        self.name = str(self._answer()["name"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=60)

    def work(self, source: Path, folder: Path) -> Spent:
        """What this one piece of work took; the folder must exist."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"source": str(source), "folder": str(folder)}) + "\n")
        self._process.stdin.flush()
        answer = self._answer()
        return Spent(float(answer["seconds"]), float(answer["cpu_seconds"]))

    def peak_bytes(self) -> int:
        """The most memory that the process has had resident, by the kernel's mark (VmHWM)."""
        status = Path(f"/proc/{self._process.pid}/status").read_text(encoding="ascii")
        line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self._command} has ended; it said why above.")
        answer: dict[str, Any] = json.loads(line)
        return answer
