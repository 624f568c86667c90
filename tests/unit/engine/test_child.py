"""The process that decodes, as its parent sees it end."""

import os
import sys
import time

import pytest

from image_processor.engine.child import Child, ChildEndedError

LAST = "terminate called after throwing an instance of 'std::bad_alloc'"
# The parent finds the end of both pipes at the same time.
DYING = f"import os; os.write(2, {LAST.encode()!r}); os.abort()"


def test_what_a_process_says_as_it_dies_is_heard():
    for _ in range(5):
        child = Child([sys.executable, "-I", "-c", DYING], {})
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(ChildEndedError):
            child.ask(b"", deadline=time.monotonic() + 30, is_aside=lambda _: False)
        assert child.end() == -6
        assert LAST in child.stderr
