"""The real codec, but for a gate: `gated_codec.py GATE ...` answers only once it can share a lock on GATE."""

import fcntl
import sys
from pathlib import Path

from image_processor.engine import codec


def main(gate, *arguments):
    # Opened before the process gives up its rights; the kernel keeps whoever holds the lock and who waits.
    with Path(gate).open() as file:
        work = codec._work

        def gated(*given):
            answer = work(*given)
            fcntl.flock(file, fcntl.LOCK_SH)
            fcntl.flock(file, fcntl.LOCK_UN)
            return answer

        codec._work = gated
        codec.main(arguments)


if __name__ == "__main__":
    main(*sys.argv[1:])
