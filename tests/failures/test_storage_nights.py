"""Nights of the storage: what is down, slow, or broken in one place must not cost what has nothing to do with it."""

import threading
import time

import pytest

from image_processor.errors import StorageDownError
from image_processor.runner import Places
from image_processor.storage.memory import MemoryStorage
from integration.workshop import FailingEngine, Workshop


class DownForWriting(MemoryStorage):
    """Refuses every put at once, as an open breaker does."""

    def put(self, key, source, *, content_type):
        raise StorageDownError("The storage failed several times in a row and is left alone for now.")


@pytest.mark.parametrize("turn", range(20))
def test_no_attempt_is_charged_when_several_puts_at_once_meet_an_outage(tmp_path, turn):
    shop = Workshop(tmp_path, DownForWriting())
    try:
        from dataclasses import replace
        shop.runner = replace(shop.runner, places=replace(shop.runner.places, puts_at_once=4))
        attempt = shop.run()
        assert shop.outcome(attempt) == ("retrying", None, 0)
    finally:
        shop.close()
