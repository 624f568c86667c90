"""The marker segments at the head of a JPEG: walked, made and put in."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from mmap import mmap

from image_processor.errors import CorruptImageError

START = b"\xff\xd8"
APP0, APP1, APP2, APP13 = 0xE0, 0xE1, 0xE2, 0xED
MAX_BODY = 65_533
"""Bytes of one segment, its two bytes of length not counted."""
_START_OF_SCAN, _END = 0xDA, 0xD9
_MARKER, _LENGTH = 2, 2
_MAX_SEGMENTS = 4096
_COMMENT = 0xFE
_METADATA = frozenset({*range(0xE1, 0xEE), 0xEF, _COMMENT})
"""APP0 is JFIF's; APP14 is Adobe's, and says how colours are coded."""


@dataclass(frozen=True)
class Segment:
    """One segment of a file."""

    marker: int
    start: int
    """Where its marker stands."""
    body: bytes

    @property
    def body_start(self) -> int:
        """Where its body stands."""
        return self.start + _MARKER + _LENGTH

    @property
    def end(self) -> int:
        """Where the next one begins."""
        return self.body_start + len(self.body)


def segments_of(data: bytes | mmap) -> Iterator[Segment]:
    """What stands before the first scan. Raises CorruptImageError."""
    if data[:2] != START:
        raise CorruptImageError("The JPEG does not begin like one.")
    position = len(START)
    for _ in range(_MAX_SEGMENTS):
        while data[position : position + 2] == b"\xff\xff":
            position += 1
        marker = data[position + 1 : position + _MARKER]
        length = int.from_bytes(data[position + _MARKER : position + _MARKER + _LENGTH])
        if data[position : position + 1] != b"\xff" or not marker or length < _LENGTH:
            raise CorruptImageError("The JPEG is damaged: its segments do not follow one another.")
        if marker[0] in (_START_OF_SCAN, _END):
            return
        end = position + _MARKER + length
        yield Segment(marker[0], position, data[position + _MARKER + _LENGTH : end])
        position = end


def without_metadata(data: bytes) -> bytes:
    """The JPEG with no segment but those that its pixels need. Raises CorruptImageError."""
    kept, position = b"", 0
    for found in segments_of(data):
        kept += data[position : found.start]
        position = found.end if found.marker in _METADATA else found.start
    return kept + data[position:]


def segment(marker: int, body: bytes) -> bytes:
    """The segment as it stands in a file; its body has at most MAX_BODY bytes."""
    return bytes((0xFF, marker)) + (len(body) + _LENGTH).to_bytes(2) + body


def with_segments(data: bytes, added: Sequence[bytes]) -> bytes:
    """The JPEG with these segments behind JFIF and EXIF, which readers want to come first."""
    position = len(START)
    for found in segments_of(data):
        if found.marker != APP0 and not found.body.startswith(b"Exif\0"):
            break
        position = found.end
    return data[:position] + b"".join(added) + data[position:]
