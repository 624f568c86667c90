"""Fixtures that every distance of test shares."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from running_service import Service

PHOTOS = Path(__file__).parents[2] / "shared" / "photos"


# A busy machine is no fault of the example at hand.
settings.register_profile("patient", parent=settings(), deadline=None)
settings.load_profile("patient")


def pytest_configure() -> None:
    """A shell starts its background jobs with SIGINT ignored, and what we start would inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def photos() -> Path:
    """The folder of real camera files; the test is skipped where it is absent."""
    if not PHOTOS.is_dir():
        pytest.skip("the folder of camera photos, ../shared/photos, is not here")
    return PHOTOS


@pytest.fixture
def start_service(tmp_path: Path) -> Iterator[Callable[..., Service]]:
    started: list[Service] = []

    def start(**options) -> Service:
        service = Service(tmp_path, **options)
        started.append(service)
        service.start()
        return service

    yield start
    for service in started:
        service.stop()


@pytest.fixture
def service(start_service) -> Service:
    return start_service()
