"""A migrated SQLite file to copy: 70 ms less for each test that does not ask how it is made."""

import functools
import tempfile
from contextlib import closing
from pathlib import Path

from image_processor.jobs.database import Database


def put_migrated(path: Path) -> Path:
    """An empty database of the newest version at `path`, unless something is there."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_migrated())
    return path


@functools.cache
def _migrated() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "migrated.db"
        with closing(Database.open(path)) as database:
            database.migrate()
        assert [found.name for found in path.parent.iterdir()] == [path.name], "all of it is in the one file"
        return path.read_bytes()
