"""A process that is tied to its parent, with real parents that are really killed."""

import os
import signal
import subprocess
import sys

import psutil
import pytest

from image_processor.lifeline import bury_orphans, end_with_parent

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the kernel's help is Linux's")

PATIENCE_SECONDS = 20
CHILD = """
import os, signal, sys, time
from image_processor.lifeline import end_with_parent
signal.signal(signal.SIGTERM, lambda *_: (os.write(1, b"told\\n"), os._exit(0)))
end_with_parent(int(sys.argv[1]){how})
os.write(1, b"tied\\n")
time.sleep(3600)
"""
PARENT = """
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {child!r}, str(os.getpid())])
os.write(1, b"%d\\n" % child.pid)
child.wait()
"""


def start_tied(how=""):
    """A parent with a child that is tied to it; the parent's process and the child's."""
    code = PARENT.format(child=CHILD.format(how=how))
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    child = psutil.Process(int(parent.stdout.readline()))
    assert parent.stdout.readline() == "tied\n"
    return parent, child


def test_a_killed_parent_takes_its_child_along():
    parent, child = start_tied()
    with parent.stdout:
        parent.kill()
        parent.wait()
        assert parent.stdout.readline() == "told\n", "it was asked, so that it can finish its work"
    psutil.wait_procs([child], timeout=PATIENCE_SECONDS)
    assert not child.is_running()


def test_the_signal_can_be_chosen():
    parent, child = start_tied(how=", signal.SIGKILL")
    with parent.stdout:
        parent.kill()
        parent.wait()
        assert parent.stdout.readline() == ""
    psutil.wait_procs([child], timeout=PATIENCE_SECONDS)
    assert not child.is_running()


def test_a_child_whose_parent_is_gone_already_does_not_begin():
    dead = subprocess.check_output([sys.executable, "-c", "import os; print(os.getpid())"], text=True)
    child = [sys.executable, "-c", CHILD.format(how=""), dead.strip()]
    assert subprocess.check_output(child, timeout=PATIENCE_SECONDS) == b""


def test_elsewhere_it_does_nothing(monkeypatch):
    monkeypatch.setattr("image_processor.lifeline.sys.platform", "darwin")
    end_with_parent(os.getpid() + 1, signal.SIGTERM)


class Forerunner:
    """One of ours that was waited for, and whose number a stranger has now."""

    def __init__(self):
        self.waits = 0

    def wait(self):
        self.waits += 1
        assert self.waits < 3, "the stranger is found again and again"


def test_a_stranger_with_the_number_of_one_of_ours_is_buried():
    with subprocess.Popen([sys.executable, "-c", ""]) as stranger:
        os.waitid(os.P_PID, stranger.pid, os.WEXITED | os.WNOWAIT)
        assert bury_orphans({stranger.pid: Forerunner()}) == 1
        assert bury_orphans({}) == 0


def test_one_that_its_own_thread_waits_for_first_is_no_error(monkeypatch):
    process = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])
    process.wait()
    found = iter([process.pid])
    monkeypatch.setattr("image_processor.lifeline._dead_child", lambda: next(found, None))
    assert bury_orphans({}) == 0
    assert process.returncode == 3
