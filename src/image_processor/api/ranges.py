"""One byte range of one file, as HTTP asks for it (RFC 9110, 14). Several ranges get the whole file."""

import re
from dataclasses import dataclass

_SINGLE_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})", re.IGNORECASE)


@dataclass(frozen=True)
class ByteRange:
    """The bytes from `start` up to but without `end`."""

    start: int
    end: int

    @property
    def length(self) -> int:
        """Bytes in the range."""
        return self.end - self.start

    def content_range(self, size: int) -> str:
        """The value of a Content-Range header, for a file of so many bytes."""
        return f"bytes {self.start}-{self.end - 1}/{size}"


class UnsatisfiableRangeError(Exception):
    """The range asked for lies outside the file."""


def parse_range(value: str | None, size: int) -> ByteRange | None:
    """
    The one range that a Range header asks for, clipped to the file; None for the whole file.

    Raises UnsatisfiableRangeError.
    """
    match = _SINGLE_RANGE.fullmatch(value.strip()) if value else None
    first, last = match.groups() if match else ("", "")
    if not first and not last:
        return None
    if not first:
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(size, int(last) + 1 if last else size)
        if last and int(last) < int(first):
            return None
    if start >= end:
        raise UnsatisfiableRangeError
    return ByteRange(start, end)
