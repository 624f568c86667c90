"""One piece of work for each of many things, some at a time, with as many in memory as are under way."""

from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

Item = TypeVar("Item")
Product = TypeVar("Product")

WINDOW = 4
"""So many things for each thread are taken before the first of them is done."""
LOOK_SECONDS = 0.5
"""A main thread that waits on a lock may sleep through Ctrl-C: it looks up so often."""


def in_parallel(
    work: Callable[[Item], Product], items: Iterable[Item], *, threads: int
) -> Generator[Product]:
    """
    What the work gives for each thing, as it is done; what it raises is raised here.

    Closing the iterator begins nothing more and waits for what is under way.
    """
    pool = ThreadPoolExecutor(threads)
    pending: set[Future[Product]] = set()
    try:
        for item in items:
            pending.add(pool.submit(work, item))
            if len(pending) >= WINDOW * threads:
                yield from _finished(pending)
        while pending:
            yield from _finished(pending)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _finished(pending: set[Future[Product]]) -> Iterator[Product]:
    done, _ = wait(pending, timeout=LOOK_SECONDS, return_when=FIRST_COMPLETED)
    pending -= done
    for future in done:
        yield future.result()
