"""The process group with real, small processes: kept alive, told to stop, never left behind."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from image_processor.cli import process_group
from image_processor.cli.process_group import Member, ProcessGroup
from image_processor.signals import STOP_SIGNALS

pytestmark = pytest.mark.slow

GROUP = Path(__file__).with_name("group_of_processes.py")
PATIENCE_SECONDS = 20
LASTING = "import time; time.sleep(3600)"
POLITE = """
import os, signal, time
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
os.write(1, b'{"event": "ready"}\\n')
time.sleep(3600)
"""
STUBBORN = """
import os, signal, time
signal.signal(signal.SIGTERM, lambda *_: os.write(1, b'{"event": "ignored"}\\n'))
os.write(1, b'{"event": "ready"}\\n')
while True: time.sleep(3600)
"""
TWICE = """
import os, signal, time
count = []
def told(*_):
    count.append(1)
    os.write(1, b'{"event": "told"}\\n')
    if len(count) == 2: os._exit(0)
signal.signal(signal.SIGTERM, told)
os.write(1, b'{"event": "ready"}\\n')
while True: time.sleep(3600)
"""
TIED = """
import os, sys, time
from image_processor.lifeline import end_with_parent
end_with_parent(int(sys.argv[1]))
os.write(1, b'{"event": "ready"}\\n')
time.sleep(3600)
"""
LEAVES_AN_ORPHAN = """
import os, signal
reading, writing = os.pipe()
if os.fork() == 0:
    os.close(writing)
    os.read(reading, 1)  # until the one that holds the other end is dead
    os._exit(7)
os.kill(os.getpid(), signal.SIGKILL)
"""
AS_PROCESS_1 = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")


class Group:
    """A running group and what it told."""

    def __init__(self, *codes, grace=10.0, within=()):
        self.told = []
        self._grown = threading.Condition()
        self.process = subprocess.Popen(
            [*within, sys.executable, GROUP, str(grace), *codes], stdout=subprocess.PIPE, text=True
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.process.stdout:
            with self._grown:
                self.told.append(json.loads(line) | {"at": time.monotonic()})
                self._grown.notify_all()

    def wait_for(self, event, count=1):
        """Wait until an event was told so often; the last of them."""
        with self._grown:
            assert self._grown.wait_for(lambda: len(self.all(event)) >= count, PATIENCE_SECONDS), self.told
            return self.all(event)[count - 1]

    def all(self, event):
        return [told for told in self.told if told["event"] == event]

    def signal(self, number):
        self.process.send_signal(number)

    def exit_code(self):
        code = self.process.wait(PATIENCE_SECONDS)
        self._reader.join(PATIENCE_SECONDS)
        return code

    def close(self):
        self.process.kill()
        self.process.wait()
        for member in self.members():
            member.kill()
        self._reader.join(PATIENCE_SECONDS)
        self.process.stdout.close()

    def members(self):
        """Those that live, told or not: each has the group's process id as its argument."""
        ours = ["-c", str(self.process.pid)]
        return [
            process
            for process in psutil.process_iter(["cmdline"])
            if (process.info["cmdline"] or [])[1::2] == ours
        ]


@pytest.fixture
def start_group():
    groups = []

    def start(*codes, **options):
        groups.append(Group(*codes, **options))
        return groups[-1]

    yield start
    for group in groups:
        group.close()


def is_alive(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_until_gone(pids):
    ends_at = time.monotonic() + PATIENCE_SECONDS
    while any(map(is_alive, pids)):
        assert time.monotonic() < ends_at, "left behind"
        threading.Event().wait(0.02)


def test_a_member_that_dies_is_started_again_and_its_death_told_once(start_group):
    group = start_group(f"one={LASTING}", f"two={LASTING}")
    group.wait_for("process.started", 2)
    first = group.all("process.started")[0]
    os.kill(first["pid"], signal.SIGKILL)
    again = group.wait_for("process.started", 3)
    assert (again["name"], again["pid"] != first["pid"]) == ("one", True)
    (died,) = group.all("process.died")
    assert (died["name"], died["pid"], died["exit_code"]) == ("one", first["pid"], -signal.SIGKILL)
    assert [told["name"] for told in group.all("on.death")] == ["one"]


@pytest.mark.parametrize("within", [(), AS_PROCESS_1], ids=["below another", "as process 1"])
def test_what_a_killed_member_left_is_no_zombie_and_its_own_death_is_seen(start_group, within):
    if within and subprocess.run([*within, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no process namespace may be made here")
    group = start_group(f"one={LEAVES_AN_ORPHAN}", within=within)
    group.wait_for("process.orphans.buried", 2)
    group.wait_for("process.died", 2)
    assert {died["exit_code"] for died in group.all("process.died")} == {-signal.SIGKILL}
    ends_at = time.monotonic() + PATIENCE_SECONDS
    while zombies := [
        child for child in psutil.Process(group.process.pid).children(recursive=True) if is_zombie(child)
    ]:
        assert time.monotonic() < ends_at, zombies
        threading.Event().wait(0.02)


def is_zombie(process):
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_deaths_in_quick_succession_are_followed_by_growing_delays(start_group):
    group = start_group("quick=pass")
    group.wait_for("process.started", 4)
    starts = [told["at"] for told in group.all("process.started")]
    deaths = [told["at"] for told in group.all("process.died")]
    delays = [start - death for start, death in zip(starts[1:4], deaths[:3], strict=True)]
    for delay, least in zip(delays, (0.19, 0.38, 0.76), strict=True):
        assert least <= delay < least + 1
    assert len(group.all("on.death")) == len(group.all("process.died"))


def test_the_delay_has_a_bound_however_often_it_dies():
    delay, delays = 0.0, []
    for _ in range(5000):
        delay = process_group._longer(delay)
        delays.append(delay)
    assert delays[:4] == [0.2, 0.4, 0.8, 1.6]
    assert delays[-1] == process_group.MAX_DELAY_SECONDS


def test_a_signal_is_answered_while_a_restart_waits(start_group):
    group = start_group("quick=pass")
    group.wait_for("process.started", 4)
    group.signal(signal.SIGTERM)
    assert group.exit_code() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_all(start_group, number):
    group = start_group(f"one={POLITE}", f"two={POLITE}")
    group.wait_for("ready", 2)
    group.signal(number)
    assert group.exit_code() == 0
    assert group.all("group.stopped")
    assert group.all("process.died") == []
    assert group.all("on.death") == []
    wait_until_gone([told["pid"] for told in group.all("process.started")])


def test_ctrl_c_in_a_terminal_reaches_a_member_as_one_sigterm(start_group):
    """The terminal signals its whole foreground group; a second signal would cut the grace short."""
    group = start_group(f"one={TWICE}")
    group.wait_for("ready")
    pid = group.all("process.started")[0]["pid"]
    assert os.getpgid(pid) != os.getpgid(group.process.pid)
    group.signal(signal.SIGINT)
    group.wait_for("told")
    assert is_alive(pid)


def test_a_second_signal_is_handed_on_at_once(start_group):
    group = start_group(f"one={TWICE}", grace=60)
    group.wait_for("ready")
    group.signal(signal.SIGTERM)
    group.wait_for("told")
    group.signal(signal.SIGTERM)
    group.wait_for("told", 2)
    assert group.exit_code() == 0
    assert group.all("on.death") == [], "it went by itself"


def test_a_third_signal_kills_at_once(start_group):
    group = start_group(f"one={STUBBORN}", grace=60)
    group.wait_for("ready")
    for count in (1, 2):
        group.signal(signal.SIGTERM)
        group.wait_for("ignored", count)
    started = time.monotonic()
    group.signal(signal.SIGTERM)
    assert group.exit_code() == 0
    assert time.monotonic() - started < process_group.HURRY_SECONDS
    assert [told["name"] for told in group.all("on.death")] == ["one"]
    wait_until_gone([group.all("process.started")[0]["pid"]])


def test_a_member_that_will_not_stop_is_killed_after_the_grace(start_group):
    group = start_group(f"stubborn={STUBBORN}", f"polite={POLITE}", grace=0.3)
    group.wait_for("ready", 2)
    group.signal(signal.SIGTERM)
    assert group.exit_code() == 0
    assert [told["name"] for told in group.all("on.death")] == ["stubborn"]
    wait_until_gone([told["pid"] for told in group.all("process.started")])


def test_members_end_when_the_group_is_killed(start_group):
    group = start_group(f"one={TIED}", f"two={TIED}")
    group.wait_for("ready", 2)
    group.process.kill()
    group.process.wait()
    wait_until_gone([told["pid"] for told in group.all("process.started")])


def test_a_member_that_cannot_be_started_is_tried_again(tmp_path, restored_signals):
    program = tmp_path / "program"
    attempts = []

    def command():
        attempts.append(time.monotonic())
        if len(attempts) == 3:
            program.write_text("#!/bin/sh\nkill -TERM $1\nsleep 60\n")
            program.chmod(0o755)
        return [str(program), str(os.getpid())]

    ProcessGroup([Member(name="late", command=command)], grace_seconds=5).run()
    assert len(attempts) == 3
    assert attempts[2] - attempts[0] >= 0.59


@pytest.fixture
def restored_signals():
    kept = {number: signal.getsignal(number) for number in (*STOP_SIGNALS, signal.SIGCHLD)}
    yield
    os.close(signal.set_wakeup_fd(-1))
    for number, answer in kept.items():
        signal.signal(number, answer)
