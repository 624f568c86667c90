"""What the parent may not know: pyvips stays out of it."""

import subprocess
import sys

SCRIPT = """
import sys
import {module}
print(*sorted(name for name in sys.modules if name.split(".")[0] in {{"pyvips", "_libvips", "cffi"}}))
"""


def imported_beside(module):
    command = [sys.executable, "-c", SCRIPT.format(module=module)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()


def test_the_isolated_engine_does_not_import_pyvips():
    assert imported_beside("image_processor.engine.isolate") == []


def test_the_fake_engine_does_not_import_pyvips():
    assert imported_beside("image_processor.testing.fake_engine") == []


def test_the_engine_itself_does():
    assert "pyvips" in imported_beside("image_processor.engine.vips.engine")
