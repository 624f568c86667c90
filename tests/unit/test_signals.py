"""Stop signals: each reaches its receiver, whichever thread the kernel gives it to."""

import signal
import subprocess
import sys

import pytest

GIVEN_TO_ANOTHER_THREAD = """
import os, queue, signal, threading
from image_processor.signals import on_stop_signals

received = queue.SimpleQueue()
on_stop_signals(received.put)

def get_signalled():
    signal.pthread_kill(threading.get_ident(), signal.{name})

threading.Timer(0.2, get_signalled).start()  # when the main thread waits below
print(signal.Signals(received.get()).name)
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_waiting_main_thread_hears_a_signal_that_another_thread_got(name):
    """The kernel may choose any thread; only the main thread runs handlers, and a lock keeps it asleep."""
    code = GIVEN_TO_ANOTHER_THREAD.format(name=name)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.stdout.strip(), done.stderr) == (name, "")


def test_every_signal_is_a_call():
    code = """
import os, queue, signal
from image_processor.signals import on_stop_signals
received = queue.SimpleQueue()
on_stop_signals(received.put)
for name in ("SIGTERM", "SIGINT", "SIGTERM"):
    os.kill(os.getpid(), getattr(signal, name))
    print(signal.Signals(received.get(timeout=20)).name)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.stdout.split() == [signal.SIGTERM.name, signal.SIGINT.name, signal.SIGTERM.name], done.stderr
