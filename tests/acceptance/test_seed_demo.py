"""The demo script that the library was ordered with, to the letter; and the examples of its documents."""

import re
from pathlib import Path

import pytest

from image_processor.testing import sample_images

DOCS = Path(__file__).parents[2] / "docs"
FENCE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
DEMO = """
from image_processor import ImageProcessor

processor = ImageProcessor()

# Resize
result = processor.resize("input.jpg", width=800, height=600)
assert result.size == (800, 600)

# Resize preserving aspect ratio
result = processor.resize("input.jpg", width=800, preserve_aspect=True)
assert result.size[0] == 800  # width is 800
# height calculated to preserve ratio

# Crop
result = processor.crop("input.jpg", x=100, y=100, width=500, height=500)
assert result.size == (500, 500)

# Convert to WebP
result = processor.convert("input.jpg", format="webp", quality=90)
assert result.format == "WEBP"

# Chain operations
result = processor.process("input.jpg", [
    {"op": "resize", "width": 1200},
    {"op": "crop", "aspect": "16:9"},
    {"op": "convert", "format": "webp", "quality": 85}
])
"""


def run(folder, monkeypatch, photo):
    (folder / "input.jpg").write_bytes(photo)
    monkeypatch.chdir(folder)
    names = {}
    exec(DEMO, names)
    assert (names["result"].size, names["result"].format) == ((1200, 675), "WEBP")


@pytest.mark.parametrize("orientation", [1, 6])
def test_the_demo_runs_as_printed(tmp_path, monkeypatch, orientation):
    run(tmp_path, monkeypatch, sample_images.photo(1600, 1200, orientation=orientation))


@pytest.mark.slow
def test_the_demo_runs_on_a_camera_photo(tmp_path, monkeypatch, camera_photo):
    run(tmp_path, monkeypatch, camera_photo)


def examples():
    """Every piece of Python in the pages on the library."""
    for page in ("tutorial/library.md", "howto/choose-a-format.md"):
        text = (DOCS / page).read_text(encoding="utf-8")
        for number, code in enumerate(FENCE.findall(text)):
            yield pytest.param(code, id=f"{page}-{number}")


@pytest.mark.slow
@pytest.mark.parametrize("code", list(examples()))
def test_the_examples_of_the_documents_run(tmp_path, monkeypatch, capsys, code):
    (tmp_path / "photos").mkdir()
    for name in ("photo.jpg", "photos/one.jpg"):
        (tmp_path / name).write_bytes(sample_images.photo(800, 700))
    (tmp_path / "logo.png").write_bytes(sample_images.png_with_alpha())
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    assert ("# blur:" in code) == ("blur: sigma is 1000" in capsys.readouterr().out)
