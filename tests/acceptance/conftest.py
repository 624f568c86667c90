"""Fixtures of the tests that drive a real service."""

import functools
from pathlib import Path

import pytest

from image_processor.testing import sample_images
from running_service import IS_SOAK


@pytest.fixture
def heavy_photo(request) -> bytes:
    """What keeps a codec busy for half a second, so that it can be met at work; in `make soak` a camera's."""
    return request.getfixturevalue("camera_photo") if IS_SOAK else _heavy_photo()


@functools.cache
def _heavy_photo() -> bytes:
    return sample_images.photo(width=2400, height=1800)


@pytest.fixture
def camera_photo(request) -> bytes:
    """A photo of a camera; where the folder of photos is absent, a picture of ours of that size."""
    folder = Path(__file__).parents[3] / "shared" / "photos" / "camera"
    photo = folder / "Canon_EOS_5D.jpg"
    return photo.read_bytes() if photo.is_file() else sample_images.photo(width=4000, height=3000)
