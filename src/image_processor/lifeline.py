"""
Ties a process to its parent: when that is gone, however it went, so is the process. Linux only.

And the other way round: what is left of processes whose parent died, taken in and waited for.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Mapping
from subprocess import Popen

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


def end_with_parent(parent_pid: int, number: signal.Signals = signal.SIGTERM) -> None:
    """
    Have the kernel send `number` to this process when the thread that started it ends.

    Ends the process at once where the parent is gone already.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(number), 0, 0, 0)
    if os.getppid() != parent_pid:
        sys.exit(0)


def adopt_orphans() -> None:
    """
    Have the kernel hand over to this process what its children leave behind; process 1 is given it anyway.

    Whoever calls this has to `bury_orphans` at each SIGCHLD: nobody else will.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def bury_orphans(ours: Mapping[int, Popen[bytes]]) -> int:
    """
    Wait for every dead child that is not `ours`, so that no zombie remains; gives how many there were.

    The exit statuses of those which are ours, by process id, are left to their own Popen. Called by the
    thread that starts processes: a child that another is about to name would be taken for an orphan.
    """
    buried = 0
    while (pid := _dead_child()) is not None:
        if process := ours.get(pid):
            process.wait()  # it is dead, and would be found again and again
        buried += _bury(pid)
    return buried


def _bury(pid: int) -> bool:
    """Whether it was left to us: also a stranger with the number that one of ours had is."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG) is not None
    except ChildProcessError:
        return False


def _dead_child() -> int | None:
    """The process id of one, which can still be waited for."""
    try:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return found.si_pid if found else None
