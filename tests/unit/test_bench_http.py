"""The measurement beside bare FastAPI runs, and tells of every side."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from image_processor.testing import sample_images

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_it_prints_a_line_for_each_side(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(sample_images.photo(640, 480))
    options = ["--rounds", "1", "--seconds", "0.2", "--clients", "4", "--folder", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "bench.http", *options],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": "tests"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = [
        line.split("|")[1:-1] for line in done.stdout.splitlines() if line.startswith(("| idle", "| busy"))
    ]
    assert [row[2].strip() for row in rows] == [
        *("bare", "bare, a row looked up", "ours"),
        *("bare", "bare, durable", "ours") * 2,
    ] * 2
    assert all(int(row[3]) >= 4 for row in rows)
