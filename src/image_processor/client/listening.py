"""Server-Sent Events, read as they come in."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from image_processor.client.refusals import UnexpectedAnswerError

MAX_EVENT_BYTES = 64 * 1024
LONGEST_RETRY_SECONDS = 30.0
_END_OF_LINE = re.compile(rb"\r\n|\n|\r(?=.)", re.DOTALL)
"""A carriage return at the end of what is there may be half of an end."""


@dataclass(frozen=True)
class Event:
    """One event of a stream."""

    name: str
    data: str


@dataclass
class EventReader:
    """Takes the bytes of a stream in any pieces; knows the last id, also over several streams."""

    last_id: str = ""
    retry_seconds: float = 0.0
    """How long the service asks to wait before connecting again."""
    _rest: bytes = b""
    _fields: dict[str, str] = field(default_factory=dict)
    _data: list[str] = field(default_factory=list)
    _size: int = 0

    def begin(self) -> None:
        """Forget what was left of the stream before."""
        self._rest = b""
        self._forget()

    def feed(self, piece: bytes) -> Iterator[Event]:
        """The events that this completes. Raises UnexpectedAnswerError for one beyond all measure."""
        *lines, self._rest = _END_OF_LINE.split(self._rest + piece)
        for line in lines:
            if event := self._take(line.decode(errors="replace")):
                yield event
        self._check_size(len(self._rest))

    def _take(self, line: str) -> Event | None:
        if not line:
            return self._finish()
        self._size += len(line)
        self._check_size(self._size)
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "retry" and value.isdecimal():
            self.retry_seconds = min(int(value[:6]) / 1000, LONGEST_RETRY_SECONDS)
        elif name == "data":
            self._data.append(value)
        elif name in {"event", "id"}:
            self._fields[name] = value
        return None

    def _finish(self) -> Event | None:
        found, data = self._fields, self._data
        self._forget()
        self.last_id = found.get("id", self.last_id)
        return Event(found.get("event", "message"), "\n".join(data)) if data else None

    def _forget(self) -> None:
        self._fields, self._data, self._size = {}, [], 0

    def _check_size(self, size: int) -> None:
        if size > MAX_EVENT_BYTES:
            raise UnexpectedAnswerError("The service sends an event that does not end.")
