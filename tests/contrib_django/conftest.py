"""What the tests of the Django app share: databases, media folders, photos."""

import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import django
import pytest
from django.core.cache import caches
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connections
from PIL import Image

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "contrib_django.settings")
django.setup()

from image_processor.contrib.django.rendering import local_renderer  # noqa: E402 - once Django is set up


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings_parallel_suffix, request):
    """With TEST_DATABASE=postgres: start the server before anybody connects."""
    chosen = connections.databases["default"]
    if chosen["ENGINE"].endswith("postgresql") and not chosen["PORT"]:
        chosen["PORT"] = str(request.getfixturevalue("postgres").port)


@pytest.fixture(scope="session", autouse=True)
def codec() -> Iterator[None]:
    """The process that decodes ends with the tests."""
    yield
    local_renderer().close()


@pytest.fixture(autouse=True)
def media(tmp_path: Path, settings) -> Path:
    """MEDIA_ROOT, empty, of this test alone; caches are empty too."""
    folder = tmp_path / "media"
    folder.mkdir()
    settings.MEDIA_ROOT = str(folder)
    for cache in caches.all(initialized_only=True):
        cache.clear()
    return folder


@pytest.fixture
def memory_media(settings) -> Path:
    """Pictures are kept in memory, as `InMemoryStorage` does."""
    settings.STORAGES = {
        **settings.STORAGES,
        "default": {"BACKEND": "django.core.files.storage.InMemoryStorage"},
    }


@pytest.fixture
def files(media: Path):
    """`files()`: the names of all files under MEDIA_ROOT, sorted."""

    def listed() -> list[str]:
        return sorted(path.relative_to(media).as_posix() for path in media.rglob("*") if path.is_file())

    return listed


def picture_bytes(width=320, height=240, color=(200, 60, 40), kind="JPEG", **options) -> bytes:
    """A picture of one colour with a darker left half: not everything in it is alike."""
    image = Image.new("RGB", (width, height), color)
    image.paste(tuple(level // 2 for level in color), (0, 0, width // 2, height))
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture
def make_photo():
    """`make_photo(width, height, color, kind)`: the bytes of a picture."""
    return picture_bytes


@pytest.fixture(scope="session")
def photo_bytes() -> bytes:
    """A JPEG of 320 x 240 pixels."""
    return picture_bytes(quality=90)


@pytest.fixture
def upload(photo_bytes):
    """`upload()`: a file as a form brings it; `upload(data, name)` another one."""

    def uploaded(data: bytes = photo_bytes, name: str = "IMG 0815.jpg") -> SimpleUploadedFile:
        return SimpleUploadedFile(name, data, content_type="image/jpeg")

    return uploaded


@pytest.fixture
def user(db, django_user_model):
    return django_user_model.objects.create_user("ada", "ada@example.com", "secret")


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.slow)])
def each_database(request, transactional_db, django_db_blocker):
    """The test runs on SQLite and on a real PostgreSQL; what is committed there is gone afterwards."""
    if request.param == "sqlite" or connections["default"].vendor == "postgresql":
        yield connections["default"]
        return
    server = request.getfixturevalue("postgres")
    yield from _with_postgres(server)


def _with_postgres(server) -> Iterator:
    from django.core.management import call_command  # noqa: PLC0415 - as above

    from contrib_django.settings import POSTGRES  # noqa: PLC0415

    url = server.new_database()
    former, former_settings = connections["default"], connections.databases["default"]
    given = {**former_settings, **POSTGRES, "PORT": str(server.port), "NAME": url.rsplit("/", 1)[1]}
    connections.databases["default"] = {
        **given,
        "OPTIONS": {},
        "TEST": {**former_settings["TEST"], "NAME": None},
    }
    del connections["default"]
    try:
        call_command("migrate", run_syncdb=True, verbosity=0)
        yield connections["default"]
    finally:
        connections["default"].close()
        connections.databases["default"] = former_settings
        connections["default"] = former
        server.drop_database(url)


@pytest.fixture
def no_room(media: Path):
    """A storage that takes nothing: MEDIA_ROOT is a file."""
    shutil.rmtree(media)
    media.write_bytes(b"")
    return media
