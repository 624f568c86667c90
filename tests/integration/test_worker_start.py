"""A worker that cannot even begin says so in one sentence; whoever started it may try again."""

import os
import subprocess
import sys

import pytest

COMMANDS = {
    "as the service starts it": ("-m", "image_processor.worker"),
    "as people do": ("-c", "from image_processor.cli import main; main()", "worker"),
}
NOBODY_LISTENS = "postgresql://nobody@127.0.0.1:1/none"


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_a_database_that_is_down_is_told_in_a_sentence(command, tmp_path):
    environment = os.environ | {"DATABASE_URL": NOBODY_LISTENS, "DATA_PATH": str(tmp_path)}
    ended = subprocess.run(
        [sys.executable, *command], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith("image-processor: ")
    assert ended.stderr.endswith(".\n")
    assert len(ended.stderr.splitlines()) == 1
