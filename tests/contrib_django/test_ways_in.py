"""A project with plain ImageFields of Django's moves to ours, and back; each step as people type it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image, ImageOps

pytestmark = pytest.mark.slow

SETTINGS = """
SECRET_KEY = "only for tests"
INSTALLED_APPS = ["image_processor.contrib.django", "people"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "db.sqlite3"}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
MEDIA_ROOT = "media"
MEDIA_URL = "/media/"
USE_TZ = True
IMAGE_PROCESSOR = {"PRUNE_SECONDS": 0}
"""
PLAIN = """
from django.db import models


class Person(models.Model):
    photo = models.ImageField(upload_to="photos")
"""
OURS = """
from django.db import models

from image_processor.contrib.django.details import ImageDetailsField
from image_processor.contrib.django.fields import ImageField


class Person(models.Model):
    photo = ImageField(upload_to="photos", details="photo_details")
    photo_details = ImageDetailsField()
"""
BACK = PLAIN.replace('"photos"', '"photos", max_length=255')
BEGIN = """
import contextlib, io, json
from pathlib import Path
import django

django.setup()
from django.core.files import File
from django.core.management import call_command
from people.models import Person


def manage(command, *words):
    with contextlib.redirect_stdout(io.StringIO()) as said:
        call_command(command, *words)
    return said.getvalue()


def rows():
    return [[row.photo.name, row.photo.url] for row in Person.objects.order_by("pk")]


def files():
    return sorted(path.relative_to("media").as_posix() for path in Path("media").rglob("*") if path.is_file())


told = {}
manage("makemigrations", "people", "--no-input")
manage("migrate", "--no-input")
"""
WITH_PLAIN = """
for path in map(Path, {paths!r}):
    with path.open("rb") as file:
        Person.objects.create(photo=File(file, name=path.name))
told.update(rows=rows(), files=files())
"""
WITH_OURS = """
told.update(first=rows(), empty=[len(row.photo.variants) for row in Person.objects.all()])
told["rebuilt"] = manage("image_processor_rebuild", "--missing")
told["verified"] = manage("image_processor_verify", "--deep")
told.update(rows=rows(), files=files())
told["known"] = [
    [sorted(row.photo.variants), row.photo.width, row.photo.height] for row in Person.objects.order_by("pk")
]
told["pruned"] = manage("image_processor_prune")
told["pruned_all"] = manage("image_processor_prune", "--folder", "photos", "--any-name")
told["verified_again"] = manage("image_processor_verify")
"""
WITH_PLAIN_AGAIN = """
told.update(rows=rows(), files=files())
"""


def become(folder: Path, models: str, script: str) -> dict:
    """The project has these models from now on; what the script tells when it is run there."""
    (folder / "people" / "models.py").write_text(models)
    done = subprocess.run(
        [sys.executable, "-c", f"{BEGIN}{script}\nprint(json.dumps(told))"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), "DJANGO_SETTINGS_MODULE": "project"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def project(tmp_path) -> Path:
    (tmp_path / "people").mkdir()
    (tmp_path / "people" / "__init__.py").touch()
    (tmp_path / "project.py").write_text(SETTINGS)
    return tmp_path


@pytest.mark.timeout(300)
def test_a_table_of_plain_django_moves_in_and_back(photos, project):
    chosen = [next((photos / kind).glob("*.jp*g")) for kind in ("gps", "orientation", "cmyk")]
    before = become(project, PLAIN, WITH_PLAIN.format(paths=[str(path) for path in chosen]))

    ours = become(project, OURS, WITH_OURS)
    assert (ours["first"], ours["empty"]) == (before["rows"], [0, 0, 0])
    assert "3 rebuilt" in ours["rebuilt"]
    assert "3 ready. Faults: 0." in ours["verified"]
    assert set(before["files"]) < set(ours["files"])
    assert "0 removed" in ours["pruned"]
    assert "3 removed" in ours["pruned_all"]
    assert "Faults: 0." in ours["verified_again"]

    back = become(project, BACK, WITH_PLAIN_AGAIN)
    assert back["rows"] == ours["rows"]
    assert set(back["files"]) == set(ours["files"]) - set(before["files"])
    for (name, _), (variants, *size), path in zip(back["rows"], ours["known"], chosen, strict=True):
        assert variants == ["original", "profile", "thumbnail"]
        assert_same_picture(project / "media" / name, path, tuple(size))


def assert_same_picture(made: Path, source: Path, size: tuple) -> None:
    """Upright, in RGB, with all its pixels and without a word of metadata."""
    with Image.open(made) as after, Image.open(source) as before:
        upright = ImageOps.exif_transpose(before)
        assert (after.mode, after.size) == ("RGB", size)
        assert after.size == upright.size
        assert not after.getexif()
