"""An API in this process for each test."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from image_processor.api import edge
from integration.api.front import Front


@pytest.fixture(autouse=True)
def _no_lingering(monkeypatch):
    """Within one process no connection is reset; what comes after a refusal is to be left unread."""
    monkeypatch.setattr(edge, "LINGER_BYTES", 0)


@pytest.fixture
def make_front(tmp_path: Path) -> Iterator[Callable[..., Front]]:
    """A front with settings of the test's choice."""
    made: list[Front] = []

    def make(**overrides: Any) -> Front:
        front = Front(tmp_path, overrides)
        made.append(front)
        return front

    yield make
    for front in made:
        front.close()


@pytest.fixture
def front(make_front) -> Front:
    return make_front()


@pytest.fixture
def client(front):
    return front.client()
