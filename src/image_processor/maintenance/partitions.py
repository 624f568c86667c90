"""Two lists of things with keys, far larger than memory, brought together: by parts, each of which fits."""

import json
import zlib
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

from image_processor.errors import disk_errors

PARTITIONS = 128
"""Ten million objects make parts of about 80 000: some 50 MB in memory."""


class Partitions:
    """Values by key, in as many files as there are parts: the same key is in the same part of any list."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = name

    def write(self, items: Iterable[tuple[str, Any]]) -> None:
        """Keep the items, whose values are what JSON knows."""
        with _translated(), ExitStack() as stack:
            files = [stack.enter_context(self._path(n).open("w", encoding="utf-8")) for n in _NUMBERS]
            for key, value in items:
                files[zlib.crc32(key.encode()) % PARTITIONS].write(json.dumps([key, value]) + "\n")

    def read(self, number: int) -> Iterator[tuple[str, Any]]:
        """The items of one part, in the order in which they were written."""
        with _translated(), self._path(number).open(encoding="utf-8") as lines:
            for line in lines:
                key, value = json.loads(line)
                yield key, value

    def _path(self, number: int) -> Path:
        return self._folder / f"{self._name}-{number}"


_NUMBERS = range(PARTITIONS)


def _translated() -> AbstractContextManager[None]:
    return disk_errors(
        full="There is no room for the lists that are compared.",
        failed="The lists that are compared cannot be kept",
    )
