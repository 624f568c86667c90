"""How long work and its amounts are shown: a bar on a terminal, lines now and then elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from image_processor.maintenance.migration import Amount

LINE_SECONDS = 10.0
Advance = Callable[[int], None]


def bytes_in_words(size_bytes: int) -> str:
    """Such as `14.6 MB`, in units of a thousand."""
    size = float(size_bytes)
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def in_words(amount: Amount) -> str:
    """Such as `1,000 objects (14.6 MB)`."""
    noun = "object" if amount.objects == 1 else "objects"
    return f"{amount.objects:,} {noun} ({bytes_in_words(amount.size_bytes)})"


@contextmanager
def shown(label: str, total: Amount, *, has_lines: bool = True) -> Iterator[Advance]:
    """
    What is to be called with the bytes of each object that is done.

    On standard error: a bar, or a line every ten seconds where that is no terminal and `has_lines`.
    """
    console = Console(stderr=True)
    if console.is_terminal:
        yield from _bar(console, label, total)
    elif has_lines:
        yield _lines(label, total)
    else:
        yield lambda _size_bytes: None


def _bar(console: Console, label: str, total: Amount) -> Iterator[Advance]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[objects]}"),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(label, total=total.size_bytes, objects="")
        done = 0

        def advance(size_bytes: int) -> None:
            nonlocal done
            done += 1
            progress.update(task, advance=size_bytes, objects=f"{done:,} of {total.objects:,}")

        yield advance


def _lines(label: str, total: Amount) -> Advance:
    done = Amount()
    began_at = told_at = time.monotonic()

    def advance(size_bytes: int) -> None:
        nonlocal done, told_at
        done = done.with_one(size_bytes)
        now = time.monotonic()
        if now - told_at >= LINE_SECONDS:
            told_at = now
            rate = bytes_in_words(round(done.size_bytes / (now - began_at)))
            sys.stderr.write(f"{label}: {done.objects:,} of {in_words(total)}, {rate}/s\n")

    return advance
