"""The processes of one service: started together, restarted when they die, stopped together."""

import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from image_processor.lifeline import adopt_orphans, bury_orphans
from image_processor.signals import STOP_SIGNALS, on_signals
from image_processor.telemetry import emit

QUICK_DEATH_SECONDS = 2.0
"""A process that lived shorter is restarted with a growing delay."""
MIN_DELAY_SECONDS = 0.2
MAX_DELAY_SECONDS = 2.0
HURRY_SECONDS = 5.0
"""How long a member may take to give up its work after the second SIGTERM; then it is killed."""


@dataclass(frozen=True, kw_only=True)
class Member:
    """One process of the group, made anew at every start."""

    name: str
    command: Callable[[], Sequence[str]]
    pass_fds: tuple[int, ...] = ()
    on_death: Callable[[], None] = lambda: None
    """Called once after each death that was not asked for, or had to be forced."""


@dataclass
class _Running:
    member: Member
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    delay_seconds: float = 0.0
    """Between its last death and its restart."""
    restart_at: float | None = None


@dataclass(frozen=True)
class _Died:
    name: str
    process: subprocess.Popen[bytes]


@dataclass(frozen=True)
class _ChildEnded:
    """Some child, perhaps none of the members: what a killed one started comes to us, dead or alive."""


class ProcessGroup:
    """
    Runs its members until SIGTERM or SIGINT, which it hands on; so it does with a second one.

    What members leave behind when they are killed is waited for: in a container nobody else would.
    A member that has not ended after both is killed; a third signal kills at once.
    """

    def __init__(self, members: Sequence[Member], *, grace_seconds: float) -> None:
        self._running = {member.name: _Running(member) for member in members}
        self._grace_seconds = grace_seconds
        self._events: queue.SimpleQueue[_Event] = queue.SimpleQueue()

    def run(self) -> None:
        """Start everything and keep it alive; returns when all have been stopped."""
        adopt_orphans()
        on_signals((*STOP_SIGNALS, signal.SIGCHLD), self._signalled)
        for running in self._running.values():
            self._start(running)
        while not isinstance(event := self._next_event(), int):
            if isinstance(event, _Died):
                self._died(event)
            elif event:
                self._bury_orphans()
            self._restart_due()
        self._stop_all()

    def _signalled(self, number: int) -> None:
        self._events.put(_ChildEnded() if number == signal.SIGCHLD else number)

    def _bury_orphans(self) -> None:
        if buried := bury_orphans({process.pid: process for process in self._processes()}):
            emit("process.orphans.buried", count=buried)

    def _next_event(self) -> "_Event | None":
        due = [running.restart_at for running in self._running.values() if running.restart_at is not None]
        try:
            return self._events.get(timeout=max(0.0, min(due) - time.monotonic()) if due else None)
        except queue.Empty:
            return None

    def _start(self, running: _Running) -> None:
        member = running.member
        running.started_at, running.restart_at = time.monotonic(), None
        try:
            # A session of its own: Ctrl-C is ours to answer, and reaches the members as one SIGTERM.
            process = subprocess.Popen(
                list(member.command()),
                pass_fds=member.pass_fds,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:  # no memory, no process number: that passes
            emit("process.start.failed", name=member.name, error=str(error))
            self._restart_later(running)
            return
        running.process = process
        emit("process.started", name=member.name, pid=process.pid)
        threading.Thread(target=self._watch, args=(member.name, process), daemon=True).start()

    def _watch(self, name: str, process: subprocess.Popen[bytes]) -> None:
        process.wait()
        self._events.put(_Died(name, process))

    def _died(self, died: _Died) -> None:
        running = self._running[died.name]
        running.process = None
        emit("process.died", name=died.name, pid=died.process.pid, exit_code=died.process.returncode)
        self._restart_later(running)
        running.member.on_death()

    def _restart_later(self, running: _Running) -> None:
        now = time.monotonic()
        is_quick = now - running.started_at < QUICK_DEATH_SECONDS
        running.delay_seconds = _longer(running.delay_seconds) if is_quick else 0.0
        running.restart_at = now + running.delay_seconds

    def _restart_due(self) -> None:
        now = time.monotonic()
        for running in self._running.values():
            if running.restart_at is not None and running.restart_at <= now:
                self._start(running)

    def _stop_all(self) -> None:
        for seconds in (self._grace_seconds, HURRY_SECONDS):
            for process in self._processes():
                process.terminate()
            if self._all_ended(seconds):
                return
        for running in self._running.values():
            if running.process and running.process.poll() is None:
                running.process.kill()
                running.process.wait()
                running.member.on_death()

    def _processes(self) -> list[subprocess.Popen[bytes]]:
        return [running.process for running in self._running.values() if running.process]

    def _all_ended(self, seconds: float) -> bool:
        """Whether all processes ended within so many seconds, and before the next signal."""
        ends_at = time.monotonic() + seconds
        while any(process.poll() is None for process in self._processes()):
            try:
                event = self._events.get(timeout=max(0.0, ends_at - time.monotonic()))
            except queue.Empty:
                return False
            if isinstance(event, int):
                return False
        return True


_Event = _Died | _ChildEnded | int
"""An integer is a signal to stop."""


def _longer(seconds: float) -> float:
    return min(MAX_DELAY_SECONDS, max(MIN_DELAY_SECONDS, 2 * seconds))
