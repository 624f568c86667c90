"""The real codec, but that an original's width may be an illness: `sick_codec.py GATE ...`."""

import fcntl
import os
import signal
import sys
from pathlib import Path

from image_processor.engine import codec

CRASHES, HANGS, IS_DEAF, IS_GREEDY, WAITS = range(401, 406)


def crash():
    os.kill(os.getpid(), signal.SIGSEGV)


def hang():
    """Work of libvips' without an end."""
    import pyvips  # noqa: PLC0415 - the codec's own rights are given up first

    while True:
        pyvips.Image.gaussnoise(900, 900).gaussblur(4).avg()


def be_deaf():
    """The same, and whatever a signal raises in it is lost, as in a callback of pyvips'."""

    def limit(*_):
        raise TimeoutError

    for number in set(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, limit)
    signal.setitimer(signal.ITIMER_REAL, 0.2, 0.2)
    while True:
        try:
            hang()
        except TimeoutError:
            continue


def be_greedy():
    taken = []
    while True:
        taken.append(b"\1" * (64 << 20))


def main(gate, *arguments):
    # Opened before the process gives up its rights.
    with Path(gate).open() as file:

        def wait():
            fcntl.flock(file, fcntl.LOCK_SH)
            fcntl.flock(file, fcntl.LOCK_UN)

        illnesses = {CRASHES: crash, HANGS: hang, IS_DEAF: be_deaf, IS_GREEDY: be_greedy, WAITS: wait}
        work = codec._work

        def ill(engine, job, on_progress):
            rendering = work(engine, job, on_progress)
            illnesses.get(rendering.rendering.width, int)()
            return rendering

        codec._work = ill
        codec.main(arguments)


if __name__ == "__main__":
    main(*sys.argv[1:])
