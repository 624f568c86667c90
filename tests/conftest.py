"""Fixtures that every distance of test shares."""

from pathlib import Path

import pytest

PHOTOS = Path(__file__).parents[2] / "shared" / "photos"


@pytest.fixture(scope="session")
def photos() -> Path:
    """The folder of real camera files; the test is skipped where it is absent."""
    if not PHOTOS.is_dir():
        pytest.skip("the folder of camera photos, ../shared/photos, is not here")
    return PHOTOS
