"""A request is killed at any of its steps: the row names files that are there, prune removes the rest."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from django.core.management import call_command
from PIL import Image

from contrib_django.gallery.models import Profile
from image_processor.contrib.django import queues
from image_processor.contrib.django.details import State

SIGKILL = 9
Kill = Callable[[str, int, int], tuple[int, list[str]]]


@pytest.fixture
def kill(each_database, media, photo_bytes) -> Iterator[Kill]:
    """`kill(way, step, pk)`: the signal that ended the request, and its steps where none did."""
    database = {**each_database.settings_dict, "NAME": str(each_database.settings_dict["NAME"])}
    given = {
        "PYTHONPATH": str(Path(__file__).parents[1]),
        "GALLERY_MEDIA": str(media),
        "GALLERY_DATABASE": json.dumps(database),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "contrib_django.killed_request", str(len(photo_bytes))],
        env={**os.environ, **given},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    process.stdin.write(photo_bytes)

    def killed(way: str, step: int, pk: int) -> tuple[int, list[str]]:
        process.stdin.write(json.dumps([way, step, pk]).encode() + b"\n")
        process.stdin.flush()
        steps = []
        while isinstance(answer := json.loads(process.stdout.readline()), list):
            steps = answer
        return answer, steps

    with closing(process.stdout):
        yield killed
        process.stdin.close()
        assert process.wait(60) == 0


class World:
    """A row as it was before the request, with its files; another row keeps its picture all the time."""

    def __init__(self, row: Profile, other: Profile, media: Path, files: Callable[[], list[str]]) -> None:
        self.columns = {field.attname: getattr(row, field.attname) for field in row._meta.concrete_fields}
        self.columns["picture"] = row.picture.name
        self.media = media
        self.list_files = files
        self.pk = row.pk
        self.others = set(other.picture_details.names)
        self.files = {name: (media / name).read_bytes() for name in self.named()}

    def restore(self) -> None:
        for name in self.named() - self.files.keys():
            (self.media / name).unlink()
        for name, data in self.files.items():
            (self.media / name).write_bytes(data)
        Profile(**self.columns).save_base(raw=True)

    def row(self) -> Profile | None:
        """As any process reads it."""
        return Profile.objects.filter(pk=self.pk).first()

    def named(self) -> set[str]:
        row = self.row()
        return {row.picture.name, *row.picture_details.names} if row and row.picture else set()

    def is_whole(self) -> bool:
        """What is named is there, and can be read to its end."""
        for name in self.named():
            with Image.open(self.media / name) as picture:
                picture.load()
        return True

    def is_clean(self) -> bool:
        """What is there is named."""
        return set(self.list_files()) == self.named() | self.others


@pytest.fixture
def make_world(user, upload, media, files, settings) -> Callable[..., World]:
    """`make_world(before)`: a row of which `before(row, upload)` was done."""

    def made(before: Callable) -> World:
        other = Profile.objects.create(user=type(user).objects.create_user("grace"), picture=upload())
        row = Profile.objects.create(user=user)
        settings.IMAGE_PROCESSOR = {
            "PRUNE_SECONDS": 0,
            "VARIANTS": "tasks" if before is waiting else "request",
        }
        before(row, upload)
        return World(row, other, media, files)

    return made


def prune() -> None:
    call_command(
        "image_processor_prune", "gallery.Profile", force=True, stdout=io.StringIO(), stderr=io.StringIO()
    )


def empty(row: Profile, _) -> None:
    """Without a picture."""


def with_picture(row: Profile, upload) -> None:
    row.picture = upload()
    row.save()


def waiting(row: Profile, upload) -> None:
    """For a worker."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(queues, "enqueue", lambda _: None)
        with_picture(row, upload)


@pytest.mark.parametrize(
    ("before", "way", "least"),
    [
        (with_picture, "save", 20),
        pytest.param(empty, "save", 15, marks=pytest.mark.slow),
        pytest.param(with_picture, "clear", 12, marks=pytest.mark.slow),
        pytest.param(with_picture, "delete", 10, marks=pytest.mark.slow),
        pytest.param(waiting, "finish", 15, marks=pytest.mark.slow),
    ],
)
def test_whichever_step_is_the_last(before, way, least, kill, make_world):
    world = make_world(before)
    signaled, steps = kill(way, 0, world.pk)
    assert signaled == 0
    print(len(steps), *steps, sep=", ")
    assert len(steps) >= least

    for number, step in enumerate(steps, 1):
        world.restore()
        assert kill(way, number, world.pk) == (SIGKILL, [])
        assert world.is_whole()
        prune()
        assert world.is_whole()
        assert world.is_clean(), f"killed at step {number}: {step}"

    world.restore()
    assert kill(way, 0, world.pk) == (0, steps)
    assert world.is_clean()
    assert way in {"clear", "delete"} or world.row().picture.state is State.READY
