"""The system calls of Linux' Landlock: which files and sockets this thread may still use. Best effort."""

import ctypes
import os
import stat
import sys
from collections.abc import Iterable
from pathlib import Path

# linux/landlock.h; the numbers are the same on all architectures.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG = 1
_RULE_PATH_BENEATH = 1

_WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 1, 1 << 2, 1 << 3
_REMOVE_FILE, _MAKE_REG, _TRUNCATE = 1 << 5, 1 << 8, 1 << 14
_READ = _READ_FILE | _READ_DIR
_WRITE = _READ | _WRITE_FILE | _REMOVE_FILE | _MAKE_REG | _TRUNCATE
_FILE_RIGHTS = _READ_FILE | _WRITE_FILE | _TRUNCATE
_FS_RIGHTS_BY_VERSION = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
"""How many of the lowest bits are rights over files, by version of the interface."""
_TCP_BIND_AND_CONNECT = 0b11  # version 4
_ABSTRACT_SOCKETS_AND_SIGNALS = 0b11  # version 6


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _PathRule(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("allowed", ctypes.c_uint64), ("directory", ctypes.c_int32))


def restrict(*, readable: Iterable[Path], writable: Iterable[Path]) -> bool:
    """
    Forbid this thread everything but reading and writing below these paths; False where the kernel cannot.

    Nothing can be executed, no TCP port bound or connected to and no process outside signalled, as far as the
    kernel's version of the interface goes. Paths that do not exist are left out. The kernel asks for
    PR_SET_NO_NEW_PRIVS first.
    """
    version = supported_version()
    if version == 0:
        return False
    handled = _handled(version)
    ruleset = _call(
        _CREATE_RULESET, ctypes.byref(handled), ctypes.c_size_t(_size(version)), ctypes.c_uint32(0)
    )
    if ruleset < 0:
        return False
    try:
        for path in readable:
            _allow(ruleset, path, _READ & handled.files)
        _allow(ruleset, Path(os.devnull), _FILE_RIGHTS & handled.files)
        for path in writable:
            _allow(ruleset, path, _WRITE & handled.files)
        return _call(_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0)) == 0
    finally:
        os.close(ruleset)


def supported_version() -> int:
    """The version of the interface that this kernel offers, from 1; 0 where it has none."""
    if sys.platform != "linux":
        return 0
    return max(0, _call(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION_FLAG)))


def _handled(version: int) -> _Ruleset:
    rights = _FS_RIGHTS_BY_VERSION[min(version, max(_FS_RIGHTS_BY_VERSION))]
    return _Ruleset(
        files=(1 << rights) - 1,
        network=_TCP_BIND_AND_CONNECT if version >= 4 else 0,
        scoped=_ABSTRACT_SOCKETS_AND_SIGNALS if version >= 6 else 0,
    )


def _size(version: int) -> int:
    """An older kernel refuses a structure that is longer than the one it knows."""
    fields = 3 if version >= 6 else 2 if version >= 4 else 1
    return fields * ctypes.sizeof(ctypes.c_uint64)


def _allow(ruleset: int, path: Path, rights: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            rights &= _FILE_RIGHTS
        rule = _PathRule(allowed=rights, directory=descriptor)
        _call(_ADD_RULE, ctypes.c_int(ruleset), _RULE_PATH_BENEATH, ctypes.byref(rule), ctypes.c_uint32(0))
    finally:
        os.close(descriptor)


def _call(number: int, *arguments: object) -> int:
    return int(ctypes.CDLL(None, use_errno=True).syscall(ctypes.c_long(number), *arguments))
