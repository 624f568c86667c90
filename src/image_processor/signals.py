"""The signals that a process answers, as calls on a thread of their own. The answers are given elsewhere."""

import os
import signal
import threading
from collections.abc import Callable, Collection
from functools import partial

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def on_stop_signals(receive: Callable[[int], None]) -> None:
    """Call `receive` with the number of each SIGTERM and SIGINT from now on. Main thread only."""
    on_signals(STOP_SIGNALS, receive)


def on_signals(numbers: Collection[signal.Signals], receive: Callable[[int], None]) -> None:
    """
    Call `receive` with the number of each of these signals from now on. Main thread only, and once.

    A handler in Python runs on the main thread only, and the kernel may give the signal to another one:
    a main thread that waits on a lock then sleeps on. The pipe is written whichever thread got the signal.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing)
    for number in numbers:
        signal.signal(number, _left_to_the_pipe)
    deliver = partial(_deliver, reading, frozenset(numbers), receive)
    threading.Thread(target=deliver, name="signals", daemon=True).start()


def _left_to_the_pipe(_number: int, _frame: object) -> None:
    """A signal needs a handler in Python for its number to be written to the pipe."""


def _deliver(reading: int, wanted: Collection[int], receive: Callable[[int], None]) -> None:
    while numbers := os.read(reading, 64):
        for number in numbers:
            if number in wanted:
                receive(number)
