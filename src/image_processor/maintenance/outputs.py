"""Finds objects that a worker stored after its image had been purged, and has it purged again."""

import re
import time
from collections.abc import Iterator
from itertools import islice

from image_processor.jobs.strays import StrayRepository
from image_processor.storage.base import Storage
from image_processor.storage.keys import is_incoming

KEYS_PER_TURN = 500
REST_SECONDS = 24 * 3600.0
"""Between the end of one look through the storage and the beginning of the next."""

_ID = re.compile("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""The ids of images are random UUIDs: one that stands in a key and is known here is no coincidence."""


class OutputSweep:
    """
    One look through all keys, a part of it each turn, and again a day later.

    A key is but a trace: what is removed are the keys that the image's own row makes, by the purge. So
    nothing is touched that this database does not know as deleted or failed; what others store stays.
    """

    def __init__(self, storage: Storage, strays: StrayRepository) -> None:
        self._storage = storage
        self._strays = strays
        self._keys: Iterator[str] = iter(())
        self._begins_at = 0.0

    def turn(self) -> int:
        """Look at the next keys; gives the number of images that are purged again."""
        try:
            keys = self._next_keys()
        except BaseException:
            self._keys, self._begins_at = iter(()), 0.0  # a listing that broke off does not go on
            raise
        outputs = (key for key in keys if not is_incoming(key))
        return self._strays.purge_again({image_id for key in outputs for image_id in _ID.findall(key)})

    def _next_keys(self) -> list[str]:
        keys = list(islice(self._keys, KEYS_PER_TURN))
        if not keys and time.monotonic() >= self._begins_at:
            self._keys, self._begins_at = self._storage.keys(""), time.monotonic() + REST_SECONDS
            keys = list(islice(self._keys, KEYS_PER_TURN))
        return keys
