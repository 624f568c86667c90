"""
Commands as processes that are forked from one that has imported everything, a second sooner each.

Whoever wants a command as a user starts it, interpreter and all, runs `python -m image_processor` instead.
"""

import contextlib
import importlib
import json
import os
import runpy
import subprocess
import sys
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

PATIENCE_SECONDS = 60


class CommandNursery:
    """Where the commands of a test come from."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, arguments: list[str], cwd: Path, env: Mapping[str, str]) -> subprocess.CompletedProcess:
        """What `image-processor ARGUMENTS` prints, and its exit code."""
        out, err = self._folder / "out", self._folder / "err"
        order = {"arguments": arguments, "cwd": str(cwd), "env": dict(env), "out": str(out), "err": str(err)}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        code = int(self._process.stdout.readline())
        return subprocess.CompletedProcess(arguments, code, out.read_text(), err.read_text())

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait(PATIENCE_SECONDS)
        self._process.stdout.close()


@contextlib.contextmanager
def command_nursery(folder: Path) -> Iterator[CommandNursery]:
    with contextlib.closing(CommandNursery(folder)) as nursery:
        yield nursery


def _become(order: Mapping[str, Any]) -> int:
    """All that a process of its own would begin with."""
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["env"])
    for number, path in ((0, os.devnull), (1, order["out"]), (2, order["err"])):
        opened = os.open(path, os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(opened, number)
        os.close(opened)
    sys.argv = ["image-processor", *order["arguments"]]
    try:
        runpy.run_module("image_processor", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 - as the interpreter does
        traceback.print_exc()
        return 1
    return 0


def main() -> None:
    for name in ("cli", "cli.doctor", "cli.process", "cli.serve", "cli.token", "bootstrap"):
        importlib.import_module(f"image_processor.{name}")
    for line in sys.stdin:
        order = json.loads(line)
        if (child := os.fork()) == 0:
            code = _become(order)
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
