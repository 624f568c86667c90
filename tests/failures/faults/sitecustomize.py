"""
Python reads this first in every process of a service that a test makes ill, and not a line of it is in `src`.

SICK_CODECS has the codecs be those of `sick_codec.py`; the file that it names is the gate they wait at. An
original whose width says that its decoder will hang has a deadline of HANG_SECONDS.
"""

import os
import sys
from functools import partial
from pathlib import Path


def _make_codecs_sick(gate):
    from image_processor import runner  # noqa: PLC0415
    from image_processor.bootstrap import workers  # noqa: PLC0415

    codec = str(Path(__file__).with_name("sick_codec.py"))
    command = (sys.executable, "-I", codec, gate)
    workers.IsolatedEngine = partial(workers.IsolatedEngine, command=command)
    hangs = frozenset(map(int, os.environ["HANGING_WIDTHS"].split(",")))
    usual = runner.deadline_seconds
    runner.deadline_seconds = lambda header: (
        float(os.environ["HANG_SECONDS"]) if header.width in hangs else usual(header)
    )


if "SICK_CODECS" in os.environ:
    _make_codecs_sick(os.environ["SICK_CODECS"])


def _die_at(point):
    import signal  # noqa: PLC0415

    from image_processor.jobs.repository import JobRepository  # noqa: PLC0415
    from image_processor.storage.local import LocalStorage  # noqa: PLC0415

    puts = []
    put = LocalStorage.put

    def put_or_die(self, *given, **more):
        if point == "second-put" and puts:
            os.kill(os.getpid(), signal.SIGKILL)
        puts.append(given)
        return put(self, *given, **more)

    def die(*_):
        os.kill(os.getpid(), signal.SIGKILL)

    LocalStorage.put = put_or_die
    if point == "commit":
        JobRepository.complete = die


if os.environ.get("DIES_AT"):
    _die_at(os.environ["DIES_AT"])


def _go_ahead_of_time(seconds):
    """This process's clock is so far ahead of everybody else's."""
    import time  # noqa: PLC0415

    clock, nanoseconds = time.time, time.time_ns
    time.time = lambda: clock() + seconds
    time.time_ns = lambda: nanoseconds() + int(seconds * 1e9)


if "CLOCK_AHEAD" in os.environ:
    _go_ahead_of_time(float(os.environ["CLOCK_AHEAD"]))
