"""EXIF to the facts worth telling: a bounded reader of strangers' directories. No pyvips, and no writing."""

import math
import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from image_processor.engine.base import MAX_FACT_LENGTH, ExifSummary, Position

PREFIX = b"Exif\0\0"
MAX_ENTRIES = 512
"""Of one directory; cameras write fewer than a hundred."""
MAX_NUMBERS = 4
MAX_TEXT_BYTES = 4 * MAX_FACT_LENGTH
LARGEST_NUMBER = 1e9
NOTHING = ExifSummary()

Read = Callable[[int, int], bytes]
"""The bytes at an offset, so many or fewer."""

_BYTE_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
_FORMATS = {1: "B", 3: "H", 4: "I", 5: "II", 9: "i", 10: "ii"}
_SHORT, _LONG = 3, 4
_TEXT_TYPES = frozenset({1, 2, 7, 129})
_EXIF_DIRECTORY, _GPS_DIRECTORY = 0x8769, 0x8825
_ORIENTATION = 0x0112
_MAKE, _MODEL, _SOFTWARE, _ARTIST, _COPYRIGHT = 0x010F, 0x0110, 0x0131, 0x013B, 0x8298
_EXPOSURE, _F_NUMBER, _ISO, _FOCAL_LENGTH, _FOCAL_LENGTH_35MM = 0x829A, 0x829D, 0x8827, 0x920A, 0xA405
_LENS = 0xA434
_TIMES = ((0x9003, 0x9011), (0x9004, 0x9012))
"""Taken, then digitised: each a time and its offset from UTC."""
_GPS_VERSION = 0
_LATITUDE, _LONGITUDE = (1, 2), (3, 4)
"""Which hemisphere, then degrees, minutes and seconds."""
_TIME = re.compile(r"(\d{4})[:-](\d\d)[:-](\d\d)[ T](\d\d:\d\d:\d\d)")
_OFFSET = re.compile(r"[+-]\d\d:\d\d")


@dataclass(frozen=True)
class _Entry:
    kind: int
    count: int
    inline: bytes
    """Its value where that fits into four bytes; else the offset of its value."""


@dataclass(frozen=True)
class _Directory:
    """The tags of one directory; what makes no sense is as if it were not there."""

    read: Read
    order: str
    entries: Mapping[int, _Entry]

    def text(self, tag: int) -> str | None:
        entry = self.entries.get(tag)
        if entry is None or entry.kind not in _TEXT_TYPES:
            return None
        return printable(self._value(entry, 1, MAX_TEXT_BYTES))

    def numbers(self, tag: int) -> list[float]:
        entry = self.entries.get(tag)
        if entry is None or entry.kind not in _FORMATS:
            return []
        one = struct.Struct(self.order + _FORMATS[entry.kind])
        data = self._value(entry, one.size, MAX_NUMBERS)
        whole = len(data) - len(data) % one.size
        return [_quotient(*parts) for parts in one.iter_unpack(data[:whole])]

    def positive(self, tag: int) -> float | None:
        first = next(iter(self.numbers(tag)), math.nan)
        return first if 0 < first <= LARGEST_NUMBER else None

    def whole(self, tag: int) -> int | None:
        number = self.positive(tag)
        return int(number) if number is not None and number >= 1 else None

    def below(self, tag: int) -> "_Directory":
        """The directory that a tag points to, empty where there is none."""
        entry = self.entries.get(tag)
        if entry is None or entry.kind not in {_LONG, 13}:
            return _Directory(self.read, self.order, {})
        return _directory(self.read, self.order, _offset(self.order, entry.inline))

    def _value(self, entry: _Entry, size: int, most: int) -> bytes:
        length = size * entry.count
        wanted = size * min(entry.count, most)
        if length <= len(entry.inline):
            return entry.inline[:wanted]
        return self.read(_offset(self.order, entry.inline), wanted)


def read_exif(read: Read, *, with_gps: bool = False) -> ExifSummary | None:
    """What a TIFF structure tells; None where that is nothing. Never an error, and only a few reads."""
    first = _first_directory(read)
    summary = _summary(first, with_gps=with_gps) if first else NOTHING
    return None if summary == NOTHING else summary


def _summary(first: "_Directory", *, with_gps: bool) -> ExifSummary:
    camera, place = first.below(_EXIF_DIRECTORY), first.below(_GPS_DIRECTORY)
    return ExifSummary(
        camera_make=first.text(_MAKE),
        camera_model=first.text(_MODEL),
        lens=camera.text(_LENS),
        software=first.text(_SOFTWARE),
        taken_at=_taken_at(camera),
        exposure_seconds=camera.positive(_EXPOSURE),
        f_number=camera.positive(_F_NUMBER),
        iso=camera.whole(_ISO),
        focal_length_mm=camera.positive(_FOCAL_LENGTH),
        focal_length_35mm=camera.whole(_FOCAL_LENGTH_35MM),
        artist=first.text(_ARTIST),
        copyright=first.text(_COPYRIGHT),
        has_gps=any(tag != _GPS_VERSION for tag in place.entries),
        gps=_position(place) if with_gps else None,
    )


def read_orientation(read: Read) -> int:
    """EXIF's orientation, 1 to 8; 1 where there is none."""
    first = _first_directory(read)
    found = (first.whole(_ORIENTATION) if first else None) or 1
    return found if found in range(1, 9) else 1


def within(data: bytes) -> Read:
    """Reads from an EXIF block, with or without its prefix."""
    block = memoryview(data)[len(PREFIX) if data.startswith(PREFIX) else 0 :]
    return lambda offset, count: bytes(block[offset : offset + count])


def printable(data: bytes) -> str | None:
    """The first text in bytes that end in zeros, as one printable line; None where nothing is left."""
    for part in data.split(b"\0"):
        try:
            text = part.decode()
        except UnicodeDecodeError:
            text = part.decode("latin-1")
        if line := one_line(text):
            return line
    return None


def one_line(text: str) -> str:
    """Without what cannot be printed, and not longer than a fact may be."""
    shown = "".join(character if character.isprintable() else " " for character in text)
    return " ".join(shown.split())[:MAX_FACT_LENGTH].rstrip()


def _first_directory(read: Read) -> _Directory | None:
    start = read(0, 8)
    order = _BYTE_ORDERS.get(start[:4])
    if order is None or len(start) < 8:
        return None
    return _directory(read, order, _offset(order, start[4:]))


def _directory(read: Read, order: str, at: int) -> _Directory:
    prefix = read(at, 2)
    count = min(struct.unpack(order + "H", prefix)[0], MAX_ENTRIES) if len(prefix) == 2 else 0
    one = struct.Struct(order + "HHI4s")
    data = read(at + 2, count * one.size)
    whole = len(data) - len(data) % one.size
    entries = {tag: _Entry(*rest) for tag, *rest in one.iter_unpack(data[:whole])}
    return _Directory(read, order, entries)


def _offset(order: str, four: bytes) -> int:
    (offset,) = struct.unpack(order + "I", four)
    return int(offset)


def _quotient(number: int, divisor: int = 1) -> float:
    return number / divisor if divisor else math.nan


def _taken_at(camera: _Directory) -> str | None:
    for time_tag, offset_tag in _TIMES:
        match = _TIME.fullmatch(camera.text(time_tag) or "")
        offset = camera.text(offset_tag) or ""
        for said in (offset, "") if _OFFSET.fullmatch(offset) else ("",):
            if match and _exists(time := "{}-{}-{}T{}".format(*match.groups()) + said):
                return time
    return None


def _exists(time: str) -> bool:
    """The thirtieth of February does not, nor an hour that no zone has."""
    try:
        datetime.fromisoformat(time)
    except ValueError:
        return False
    return True


def _position(place: _Directory) -> Position | None:
    latitude, longitude = _degrees(place, _LATITUDE, "NS", 90), _degrees(place, _LONGITUDE, "EW", 180)
    if latitude is None or longitude is None:
        return None
    return Position(latitude=latitude, longitude=longitude)


def _degrees(place: _Directory, tags: tuple[int, int], hemispheres: str, most: float) -> float | None:
    hemisphere, parts = (place.text(tags[0]) or "?")[0], place.numbers(tags[1])[:3]
    if hemisphere not in hemispheres or len(parts) < 3:
        return None
    degrees = sum(part / divisor for part, divisor in zip(parts, (1, 60, 3600), strict=True))
    if not 0 <= degrees <= most:
        return None
    return round(-degrees if hemisphere == hemispheres[1] else degrees, 6)
