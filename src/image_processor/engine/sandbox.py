"""What a process gives up before it decodes: rlimits, prctl, Landlock; and a report of what is active."""

import contextlib
import ctypes
import os
import resource
import signal
import socket
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

from image_processor.engine import landlock
from image_processor.lifeline import end_with_parent
from image_processor.pipeline.value import Value

MIB = 1024 * 1024
MAX_FILE_BYTES = 1024 * MIB
"""Twice an uncompressed PNG of 120 megapixels with alpha."""
MAX_OPEN_FILES = 64
OOM_SCORE = 800
"""Out of memory, the kernel takes this process first, and not the one that holds the lease."""
NICENESS = 5

_PR_SET_NO_NEW_PRIVS = 38
_LIBRARIES = ("/usr/lib", "/usr/lib64", "/usr/local/lib", "/lib", "/lib64", "/etc/ld.so.cache")
_FONTS_AND_ZONES = ("/usr/share", "/etc/fonts", "/etc/localtime")
_DEVICES = ("/dev/null", "/dev/urandom", "/proc/self")


class Policy(Value):
    """What a process may still do."""

    parent_pid: int
    """Ends together with this process."""
    memory_bytes: int
    """Private writable memory: heap, stacks and anonymous mappings."""
    readable: tuple[Path, ...] = ()
    """Directories to read from, besides the libraries of Python and of the system."""
    writable: tuple[Path, ...] = ()
    """Directories to read from and to write files into."""


class Protections(Value):
    """Which protections are active in one process; False or None where this kernel has them not."""

    memory_bytes: int | None
    file_bytes: int | None
    open_files: int | None
    no_core_dump: bool
    no_new_privileges: bool
    oom_score: int | None
    niceness: int
    files_restricted: bool
    """Files outside the given directories can be neither read nor written."""
    network_restricted: bool
    """No TCP connection can be opened or accepted."""
    signals_restricted: bool
    """Processes other than itself cannot be signalled."""


def protect(policy: Policy) -> Protections:
    """
    Put this process under `policy` for good and report what is active.

    Called before the first thread starts: Landlock holds for the calling thread and those it starts.
    """
    _limit_resources(policy.memory_bytes)
    _yield_to_others()
    end_with_parent(policy.parent_pid, signal.SIGKILL)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    landlock.restrict(readable=(*_system_paths(), *policy.readable), writable=policy.writable)
    return describe()


def limit_cpu(seconds: int) -> None:
    """Let the kernel end this process after so many more seconds of processor time, rounded up."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(usage.ru_utime + usage.ru_stime) + seconds + 1
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def describe() -> Protections:
    """The protections that are active in this process, found by asking the kernel or by trying."""
    return Protections(
        memory_bytes=_soft_limit(resource.RLIMIT_DATA),
        file_bytes=_soft_limit(resource.RLIMIT_FSIZE),
        open_files=_soft_limit(resource.RLIMIT_NOFILE),
        no_core_dump=_soft_limit(resource.RLIMIT_CORE) == 0,
        no_new_privileges="NoNewPrivs:\t1" in _proc("status"),
        oom_score=int(_proc("oom_score_adj") or 0) if sys.platform == "linux" else None,
        niceness=os.nice(0),
        files_restricted=not _can_list_the_root(),
        network_restricted=not _can_open_a_port(),
        signals_restricted=not _can_signal_the_parent(),
    )


def _limit_resources(memory_bytes: int) -> None:
    limits = (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, MAX_FILE_BYTES),
        (resource.RLIMIT_NOFILE, MAX_OPEN_FILES),
        # Not RLIMIT_AS: it counts what glibc and libvips reserve and never touch.
        (resource.RLIMIT_DATA, memory_bytes),
    )
    for kind, most in limits:
        hard = resource.getrlimit(kind)[1]
        bound = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (bound, bound))


def _yield_to_others() -> None:
    os.nice(NICENESS)
    with contextlib.suppress(OSError):  # a container may forbid it; describe() then says so
        Path("/proc/self/oom_score_adj").write_text(str(OOM_SCORE), encoding="ascii")


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, ctypes.c_ulong(value), 0, 0, 0)


def _system_paths() -> Iterable[Path]:
    python = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    package = str(Path(__file__).parents[1])
    paths = (*_LIBRARIES, *_FONTS_AND_ZONES, *_DEVICES, *python, package)
    return tuple(dict.fromkeys(map(Path, paths)))


def _soft_limit(kind: int) -> int | None:
    soft = resource.getrlimit(kind)[0]
    return None if soft == resource.RLIM_INFINITY else soft


def _proc(name: str) -> str:
    try:
        return Path("/proc/self", name).read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""


def _can_list_the_root() -> bool:
    try:
        os.scandir("/").close()
    except PermissionError:
        return False
    return True


def _can_open_a_port() -> bool:
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.bind(("127.0.0.1", 0))
    except PermissionError:
        return False
    except OSError:  # no such network here: nothing is known, so nothing is promised
        return True
    return True


def _can_signal_the_parent() -> bool:
    try:
        os.kill(os.getppid(), 0)
    except OSError:
        return False
    return True
