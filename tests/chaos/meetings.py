"""Meetings that a run arranges, by notes that all its processes find: who waits for whom, who has come."""

import json
import os
import uuid
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any


class Word(StrEnum):
    """What is noted of a picture."""

    ASLEEP = "asleep"
    """Its first worker is about to fall asleep, right before it says how its attempt ended."""
    BEGUN = "begun"
    """Another worker has begun with it since, and goes on only once the first has spoken."""
    SPOKEN = "spoken"
    """Who slept, or waited for the cancel, has been answered, or is dead."""
    READY = "ready"
    """A worker is about to commit, and waits for the cancel."""
    CANCELLED = "cancelled"
    """The user has been answered that it will be."""


@dataclass(frozen=True)
class Meetings:
    """One file for each note, which is there whole or not at all."""

    folder: Path

    def note(self, word: Word, tag: str, **fields: Any) -> None:
        """The last note stands."""
        self._written(word, tag, fields).replace(self._path(word, tag))

    def note_first(self, word: Word, tag: str, **fields: Any) -> bool:
        """The first note stands; whether it was this one."""
        draft = self._written(word, tag, fields)
        try:
            os.link(draft, self._path(word, tag))
        except FileExistsError:
            return False
        finally:
            draft.unlink()
        return True

    def _written(self, word: Word, tag: str, fields: dict[str, Any]) -> Path:
        draft = self.folder / f"draft {uuid.uuid4()}"
        draft.write_text(json.dumps({"word": word, "tag": tag, "pid": os.getpid(), **fields}))
        return draft

    def _path(self, word: Word, tag: str) -> Path:
        return self.folder / f"{word} {tag}"

    def of(self, word: Word, tag: str) -> dict[str, Any] | None:
        """What was noted; None where nothing was."""
        try:
            return json.loads(self._path(word, tag).read_text())
        except FileNotFoundError:
            return None

    def sleepers(self, pid: int) -> list[dict[str, Any]]:
        """The notes of those in this process who fell asleep and have not spoken since."""
        return [note for note in self._silent(Word.ASLEEP) if note["pid"] == pid]

    def busy(self, pid: int) -> list[dict[str, Any]]:
        """The same, and of those who wait for a cancel: this process is not to be disturbed."""
        silent = self._silent(Word.ASLEEP) + self._silent(Word.READY)
        return [note for note in silent if note["pid"] == pid]

    def is_asleep(self, kind: str) -> bool:
        """Whether anybody sleeps over a picture of this kind: were all asleep, none could meet another."""
        return any(note["tag"].endswith(f" {kind}") for note in self._silent(Word.ASLEEP))

    def _silent(self, word: Word) -> list[dict[str, Any]]:
        notes = [json.loads(path.read_text()) for path in self.folder.glob(f"{word} *")]
        return [note for note in notes if not self.of(Word.SPOKEN, note["tag"])]
