"""Fixtures of the tests that drive a real service."""

from pathlib import Path

import pytest

from image_processor.testing import sample_images


@pytest.fixture
def camera_photo(request) -> bytes:
    """A photo of a camera; where the folder of photos is absent, a picture of ours of that size."""
    folder = Path(__file__).parents[3] / "shared" / "photos" / "camera"
    photo = folder / "Canon_EOS_5D.jpg"
    return photo.read_bytes() if photo.is_file() else sample_images.photo(width=4000, height=3000)
