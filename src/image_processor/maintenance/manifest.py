"""What a backup's folder holds and how that is written down: the manifest, and lists of files with hashes."""

import gzip
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError

from image_processor.errors import (
    InvalidRequestError,
    StorageDamageError,
    disk_errors,
)
from image_processor.pipeline.value import Value
from image_processor.storage.base import ListedObject

MANIFEST = "manifest.json"
DATABASE = "processor.db"
OBJECTS = "objects.jsonl.gz"
"""The objects that the database knows of, one a line: `{"key": …, "size": …, "sha256": …}`."""
STAGED = "staged.jsonl.gz"
"""The same of the originals that wait for their worker; `key` is the name in the stage."""
FILES = "storage"
"""The folder of the objects, where they were copied too."""
STAGING = "staging"
"""The folder of those originals."""
CHUNK_BYTES = 1024 * 1024

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Part(Value):
    """One file of the backup."""

    size_bytes: int
    sha256: Sha256


class List(Part):
    """A file that lists others."""

    entries: int
    entries_bytes: int
    """The sum of their sizes."""


class Manifest(Value):
    """What a backup holds."""

    format: Literal[1] = 1
    version: str
    """Of the program that made it."""
    created_at: str
    """ISO 8601, UTC."""
    storage_backend: str
    database: Part | None = None
    """None where it is a server's, and dumped with the server's own tools."""
    rows: Mapping[str, int]
    """The number of rows by table."""
    staged: List
    objects: List
    has_files: bool
    """Whether the listed objects are in the backup."""
    absent_objects: int = 0
    """Objects that a row names and that could not be copied, because they were gone or damaged."""

    def write(self, folder: Path) -> None:
        """Write it into the backup's folder."""
        (folder / MANIFEST).write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The manifest of a backup. Raises InvalidRequestError where there is none that can be read."""
        try:
            return cls.model_validate_json((folder / MANIFEST).read_bytes())
        except OSError as error:
            raise InvalidRequestError(f"{folder} holds no backup: there is no {MANIFEST}.") from error
        except ValidationError as error:
            raise InvalidRequestError(
                f"The {MANIFEST} in {folder} is damaged, or of a newer version."
            ) from error


@dataclass(frozen=True, kw_only=True)
class Entry(ListedObject):
    """A file of which its hash is known."""

    modified_at: float = 0.0
    sha256: str


class EntryWriter:
    """Writes a list. `entries` counts what was added."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = gzip.open(path, "wt", encoding="utf-8")  # noqa: SIM115 - closed on exit
        self.entries = 0
        self._entries_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, entry: Entry) -> None:
        """Write one more line."""
        line = {"key": entry.key, "size": entry.size_bytes, "sha256": entry.sha256}
        self._file.write(json.dumps(line) + "\n")
        self.entries += 1
        self._entries_bytes += entry.size_bytes

    def written(self) -> List:
        """What the closed list is."""
        part = part_of(self._path)
        return List(**part.model_dump(), entries=self.entries, entries_bytes=self._entries_bytes)


def read_entries(path: Path) -> Iterator[Entry]:
    """The entries of a list. Raises StorageDamageError where it cannot be read."""
    try:
        with translated("read the backup"), gzip.open(path, "rt", encoding="utf-8") as lines:
            for line in lines:
                told: dict[str, Any] = json.loads(line)
                yield Entry(key=told["key"], size_bytes=told["size"], sha256=told["sha256"])
    except (ValueError, KeyError, TypeError, EOFError) as error:
        raise StorageDamageError(f"{path.name} of the backup is damaged.") from error


def part_of(path: Path) -> Part:
    """What this file is. Raises StorageError where it cannot be read."""
    digest = hashlib.sha256()
    size_bytes = 0
    with translated("read the backup"), path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            size_bytes += len(chunk)
    return Part(size_bytes=size_bytes, sha256=digest.hexdigest())


def sync(path: Path) -> None:
    """Have a file's bytes, or a folder's names, survive a power cut. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def translated(action: str) -> AbstractContextManager[None]:
    """Turn the operating system's errors into ours."""
    return disk_errors(
        full="There is no room left on the disk.",
        failed=f"It failed to {action}",
    )
