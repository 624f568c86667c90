"""What a process loads, in fresh interpreters; and how modules are named and opened."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import image_processor

PACKAGE = Path(image_processor.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
DECODERS = ("pyvips", "PIL", "numpy")
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "misc", "common", "manager", "handler", "base_service"}
MAX_OPENING_LINES = 3


def loaded_by(statement):
    """All modules in an interpreter that has run nothing but this statement."""
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.slow
@pytest.mark.parametrize(
    "statement",
    [
        "import image_processor.api.server",
        "import image_processor.worker.process",
        "import image_processor.cli",
        "import image_processor.bootstrap, image_processor.engine.isolate",
        "import image_processor",
    ],
)
def test_no_process_but_the_codec_child_can_decode(statement):
    loaded = loaded_by(statement)
    assert "image_processor" in loaded
    assert not [name for name in loaded if name.split(".")[0] in DECODERS]


@pytest.mark.slow
def test_the_worker_knows_no_web_framework():
    loaded = loaded_by("import image_processor.worker.process")
    assert not [name for name in loaded if name.split(".")[0] in {"fastapi", "starlette", "uvicorn"}]


@pytest.mark.slow
def test_a_wired_worker_has_still_no_decoder(tmp_path):
    wire = f"""
import os
os.environ["DATA_PATH"] = {str(tmp_path)!r}
from image_processor.bootstrap import build_worker
from image_processor.settings import load_settings
parts = build_worker(load_settings())
parts.new_engine().close()
parts.close()
"""
    assert not [name for name in loaded_by(wire) if name.split(".")[0] in DECODERS]


def test_every_module_opens_with_what_lives_there():
    openings = {path.relative_to(PACKAGE): _opening(path) for path in MODULES}
    assert [path for path, lines in openings.items() if not 0 < len(lines) <= MAX_OPENING_LINES] == []


def _opening(path):
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return docstring.split("\n\n")[0].splitlines()


def test_no_module_has_a_name_that_says_nothing():
    names = [path.relative_to(PACKAGE).with_suffix("") for path in MODULES]
    assert [name for name in names if not VAGUE_NAMES.isdisjoint(name.parts)] == []
