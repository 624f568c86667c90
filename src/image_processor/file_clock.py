"""The clock that the files of a folder are dated by. This process's own may be ahead of it, or behind."""

import os
from pathlib import Path


def now(folder: Path | int) -> float:
    """
    The time, in epoch seconds, that a file written in this folder at this moment is dated with.

    `folder` is a path or an open descriptor; its own date is set to that time. Raises OSError.
    """
    os.utime(folder)
    return os.stat(folder).st_mtime  # noqa: PTH116 - a path cannot be a descriptor
