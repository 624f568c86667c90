"""What the tests share: a media folder of their own, pictures of every kind, waits that nobody waits."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import pillow_heif
import pytest
from django.contrib.auth.models import User
from django.core.cache import cache
from image_processor.contrib.django.rendering import local_renderer
from PIL import Image

from users.services.image_storage import ImageStorageService

pillow_heif.register_heif_opener()
RED, BLUE = (200, 40, 30), (30, 60, 200)


@pytest.fixture(scope="session", autouse=True)
def codec() -> Iterator[None]:
    """The process that decodes ends with the tests."""
    yield
    local_renderer().close()


@pytest.fixture(autouse=True)
def media(tmp_path: Path, settings) -> Path:
    settings.MEDIA_ROOT = tmp_path
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    settings.IMAGE_PROCESSOR = {**settings.IMAGE_PROCESSOR, "BASE_URL": "https://pockitflyer.example"}
    return tmp_path


@pytest.fixture(autouse=True)
def closed_breaker(media: Path) -> None:
    cache.clear()


@pytest.fixture
def stored(media: Path) -> Callable[[], list[Path]]:
    """`stored()`: all files below MEDIA_ROOT."""
    return lambda: sorted(path for path in media.rglob("*") if path.is_file())


@pytest.fixture
def picture() -> Callable[..., bytes]:
    """`picture("PNG", 300, 200)`: its left half is red, its right half blue."""

    def made(kind: str = "JPEG", width: int = 300, height: int = 200, **options) -> bytes:
        image = Image.new("RGB", (width, height), RED)
        image.paste(BLUE, (width // 2, 0, width, height))
        file = io.BytesIO()
        image.save(file, kind, **options)
        return file.getvalue()

    return made


@pytest.fixture
def waits() -> list[float]:
    """The seconds that the service would have slept."""
    return []


@pytest.fixture
def service(db, waits: list[float]) -> ImageStorageService:
    return ImageStorageService(sleep=waits.append)


@pytest.fixture
def ada(db) -> User:
    return User.objects.create_user("ada", password="countess of lovelace")
