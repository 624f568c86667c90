"""`image-processor inspect` as a user types it, with a real child process behind it."""

import json

import pytest
from typer.testing import CliRunner

from image_processor.cli import app
from image_processor.testing import sample_images

pytestmark = pytest.mark.slow


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("DATA_PATH", str(tmp_path / "data"))
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments):
        return CliRunner().invoke(app, ["inspect", *map(str, arguments)])

    return run


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "with [brackets].jpg"
    path.write_bytes(sample_images.photo(320, 240, orientation=6, with_metadata=True))
    return path


def test_a_table_of_what_the_header_says(run, photo):
    done = run(photo)
    assert done.exit_code == 0
    for words in ("with [brackets].jpg", "width", "320", "orientation", "6", "Camera of nobody"):
        assert words in done.stdout
    assert "48.858333" not in done.stdout


def test_a_line_of_json_for_each_file(run, photo, tmp_path):
    (tmp_path / "other.png").write_bytes(sample_images.png_with_alpha(30, 20))
    done = run(photo, tmp_path / "other.png", "--json", "--colors", 3, "--hashes", "--gps")
    assert done.exit_code == 0
    first, second = map(json.loads, done.stdout.splitlines())
    assert (first["file"], first["width"], first["height"]) == (str(photo), 320, 240)
    assert first["exif"]["gps"] == {"latitude": 48.858333, "longitude": 2.294444}
    assert {"dominant_color", "palette", "blurhash", "thumbhash"} <= set(first)
    assert (second["format"], second["has_alpha"]) == ("png", True)
    assert second["palette"][0]["color"] == "#E62828"


def test_the_others_are_told_where_one_cannot_be_read(run, photo, tmp_path):
    diary = tmp_path / "diary.txt"
    diary.write_text("Dear diary")
    done = run(diary, photo, "--json")
    assert done.exit_code == 1
    assert json.loads(done.stdout)["file"] == str(photo)
    assert "diary.txt: The file looks like text." in done.stderr


def test_what_is_not_there_is_one_sentence(run, tmp_path):
    done = run(tmp_path / "nothing.jpg")
    assert done.exit_code != 0
    assert "There is no file" in str(done.exception)
