"""What the processes of a run have seen, one line each in one file: beside the database, a second witness."""

import json
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Ledger:
    """Lines of JSON; each is written whole, whichever process writes it and however it ends after that."""

    path: Path

    def note(self, what: str, **fields: Any) -> None:
        line = json.dumps({"what": what, "time": time.time(), "pid": os.getpid(), **fields}) + "\n"
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(file, line.encode())
        finally:
            os.close(file)

    def lines(self, what: str | None = None) -> list[dict[str, Any]]:
        """Those of one kind, or all, oldest first."""
        if not self.path.exists():
            return []
        lines = [json.loads(line) for line in self.path.read_text().splitlines()]
        return [line for line in lines if what in (None, line["what"])]


class Counter:
    """Counts the renders of each picture, over all processes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()

    def next(self, name: str) -> int:
        """How often this was called before with that name."""
        with self._lock, (self._folder / name).open("ab") as file:
            file.write(b".")
            file.flush()
            return os.fstat(file.fileno()).st_size - 1
