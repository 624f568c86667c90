"""Threads for calls that wait; those of the storage in shares of their own: while it is slow, no other is."""

from collections.abc import AsyncIterator, Callable, Generator
from functools import partial
from typing import ParamSpec, TypeVar

from anyio import CapacityLimiter, to_thread

P = ParamSpec("P")
T = TypeVar("T")

# No more together than the client of S3 keeps connections for, or nearly; and none of those 40 threads that
# answer what the database knows.
_READING = CapacityLimiter(24)
_WRITING = CapacityLimiter(12)
_CHECKING = CapacityLimiter(2)


async def looking(work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """
    What the work gives or raises, among those that the database answers.

    FastAPI takes two threads for a request where the route is no coroutine: one to call it, one to check what
    it gave. What is asked for most often asks here.
    """
    return await to_thread.run_sync(partial(work, *args, **kwargs))


async def reading(work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """What the work gives or raises, when it was its turn among those that read of the storage."""
    return await to_thread.run_sync(partial(work, *args, **kwargs), limiter=_READING)


async def writing(work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """The same among those that change the storage."""
    return await to_thread.run_sync(partial(work, *args, **kwargs), limiter=_WRITING)


async def checking(work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """The same for a look at the storage's health; one that is cancelled is not waited for."""
    return await to_thread.run_sync(partial(work, *args, **kwargs), limiter=_CHECKING, abandon_on_cancel=True)


async def read_out(chunks: Generator[bytes, None, None]) -> AsyncIterator[bytes]:
    """The chunks, each read when it was its turn; they are closed behind the last, or where that is left."""
    try:
        while chunk := await reading(next, chunks, b""):
            yield chunk
    finally:
        chunks.close()
