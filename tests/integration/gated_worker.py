"""
A real worker process, but for its engine: `gated_worker.py GATE ...`, with the arguments of the worker.

Its engine renders only once the file GATE exists; where GATE is `-`, it cannot be made at all.
"""

import sys
import threading
from dataclasses import replace
from pathlib import Path

from image_processor.bootstrap import build_worker
from image_processor.errors import EngineCrashedError
from image_processor.testing.fake_engine import FakeEngine
from image_processor.worker import process

LOOK_SECONDS = 0.02


class GatedEngine(FakeEngine):
    """Waits for a file, which is all that another process can tell it."""

    def __init__(self, gate):
        super().__init__()
        self._gate = gate
        self._interrupted = threading.Event()

    def render(self, request, *, deadline_seconds, on_progress=None):
        self._interrupted.clear()
        while not self._gate.exists():
            if self._interrupted.wait(LOOK_SECONDS):
                raise EngineCrashedError("The process that decodes died: it was interrupted.")
        return super().render(request, deadline_seconds=deadline_seconds, on_progress=on_progress)

    def interrupt(self):
        self._interrupted.set()


def new_engine(gate):
    if gate == Path("-"):
        raise RuntimeError("There is no engine.")
    return GatedEngine(gate)


def main(gate, *arguments):
    process.build_worker = lambda settings, **given: replace(
        build_worker(settings, **given), new_engine=lambda: new_engine(Path(gate))
    )
    return process.main(arguments)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
