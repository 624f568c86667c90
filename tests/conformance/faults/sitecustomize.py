"""
Python reads this first in every process of a deployment: faults on demand, and not a line for them in `src`.

GATE names the file that a codec must lock before it answers. A file of a fault's name in the folder FAULTS
ends the process that comes to that point next, at once; it is removed before, so that it ends only one.
"""

import os
import signal
import sys
from functools import partial
from pathlib import Path


def _die_if(fault):
    try:
        (Path(os.environ["FAULTS"]) / fault).unlink()
    except FileNotFoundError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


def _gate_codecs():
    from image_processor.bootstrap import workers  # noqa: PLC0415

    codec = str(Path(__file__).with_name("gated_codec.py"))
    command = (sys.executable, "-I", codec, os.environ["GATE"])
    workers.IsolatedEngine = partial(workers.IsolatedEngine, command=command)


def _kill_submits():
    from image_processor.jobs import transitions  # noqa: PLC0415
    from image_processor.jobs.repository import JobRepository  # noqa: PLC0415

    insert, submit = transitions.insert, JobRepository.submit

    def insert_and_die(connection, job):
        created_at = insert(connection, job)
        _die_if("before-commit")
        return created_at

    def submit_and_die(self, job, rate_limit):
        receipt = submit(self, job, rate_limit)
        _die_if("after-commit")
        return receipt

    transitions.insert, JobRepository.submit = insert_and_die, submit_and_die


if "GATE" in os.environ:
    _gate_codecs()
    _kill_submits()
