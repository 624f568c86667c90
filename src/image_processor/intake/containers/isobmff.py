"""The header of AVIF and HEIC files (ISO 23008-12): which of their pictures counts, and how large it is."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from image_processor.intake.containers.base import Cursor, Header

MAX_PROPERTIES = 10_000
"""The most that can be told apart takes 15 bits; a telephone's photo of 48 tiles has a dozen."""
_SIZE, _APERTURE, _TURN = b"ispe", b"clap", b"irot"

Size = tuple[int, int]
"""Width and height in pixels."""


@dataclass
class _Found:
    """What the boxes have said so far, in whichever order they stood."""

    primary: int | None = None
    properties: list[tuple[bytes, Size]] = field(default_factory=list)
    """Name and value of each, in the order by which they are numbered from 1."""
    of_items: dict[int, list[int]] = field(default_factory=dict)
    """The numbers of an item's properties."""


def read_header(cursor: Cursor) -> Header:
    """The size of the primary picture, cut and turned as the file says; a sequence counts as that picture."""
    kind, end = _next_box(cursor, None)
    if kind != b"ftyp":
        raise cursor.damaged("it does not begin as one")
    cursor.skip(end - cursor.position)
    found = _Found()
    while not cursor.is_at_end:
        kind, end = _next_box(cursor, None)
        if kind == b"meta":
            cursor.skip(4)
            _read_meta(cursor, end, found)
            break
        cursor.skip(end - cursor.position)
    width, height = _size_of(cursor, found)
    return Header(width=width, height=height)


def _next_box(cursor: Cursor, end: int | None) -> tuple[bytes, int]:
    """The name of the next box and where it ends; the cursor stands at its first byte."""
    cursor.step()
    start = cursor.position
    length, kind = cursor.number(4, "big"), cursor.take(4)
    if length == 1:
        length = cursor.number(8, "big")
    elif length == 0:
        return kind, cursor.end if end is None else end
    box_end = start + length
    if box_end < cursor.position or (end is not None and box_end > end):
        raise cursor.damaged("one of its boxes has an impossible length")
    cursor.check_room(box_end - cursor.position)
    return kind, box_end


def _boxes(cursor: Cursor, end: int) -> Iterator[tuple[bytes, int]]:
    while cursor.position < end:
        kind, box_end = _next_box(cursor, end)
        yield kind, box_end
        if cursor.position > box_end:
            raise cursor.damaged("one of its boxes is shorter than what it holds")
        cursor.skip(box_end - cursor.position)


def _read_meta(cursor: Cursor, end: int, found: _Found) -> None:
    for kind, box_end in _boxes(cursor, end):
        if kind == b"pitm":
            found.primary = _read_primary(cursor)
        elif kind == b"iprp":
            _read_properties(cursor, box_end, found)


def _read_primary(cursor: Cursor) -> int:
    version = cursor.byte()
    cursor.skip(3)
    return cursor.number(4 if version else 2, "big")


def _read_properties(cursor: Cursor, end: int, found: _Found) -> None:
    for kind, box_end in _boxes(cursor, end):
        if kind == b"ipco":
            _read_values(cursor, box_end, found)
        elif kind == b"ipma":
            _read_associations(cursor, box_end, found)


def _read_values(cursor: Cursor, end: int, found: _Found) -> None:
    for kind, _ in _boxes(cursor, end):
        if len(found.properties) >= MAX_PROPERTIES:
            raise cursor.damaged(f"it has more than {MAX_PROPERTIES} properties")
        value = (0, 0)
        if kind == _SIZE:
            cursor.skip(4)
            value = cursor.number(4, "big"), cursor.number(4, "big")
        elif kind == _APERTURE:
            value = _fraction(cursor), _fraction(cursor)
        elif kind == _TURN:
            value = cursor.byte() & 0x03, 0
        found.properties.append((kind, value))


def _fraction(cursor: Cursor) -> int:
    numerator, denominator = cursor.number(4, "big"), cursor.number(4, "big")
    return numerator // denominator if denominator else 0


def _read_associations(cursor: Cursor, end: int, found: _Found) -> None:
    version, flags = cursor.byte(), cursor.number(3, "big")
    length = 2 if flags & 1 else 1
    for _ in range(cursor.number(4, "big")):
        cursor.step()
        if cursor.position >= end:
            raise cursor.damaged("one of its boxes is shorter than what it holds")
        item = cursor.number(4 if version else 2, "big")
        for _ in range(cursor.byte()):
            cursor.step()
            number = cursor.number(length, "big")
            # The highest bit says whether a reader must know the property.
            found.of_items.setdefault(item, []).append(number & (1 << 8 * length - 1) - 1)


def _size_of(cursor: Cursor, found: _Found) -> Size:
    if found.primary is None:
        raise cursor.unsupported("an image sequence without a still picture")
    size = (0, 0)
    for number in found.of_items.get(found.primary, ()):
        if not 0 < number <= len(found.properties):
            continue
        kind, value = found.properties[number - 1]
        if kind == _SIZE:
            size = value
        elif kind == _APERTURE and all(value):
            size = min(size[0], value[0]), min(size[1], value[1])
        elif kind == _TURN and value[0] % 2:
            size = size[1], size[0]
    if not all(size):
        raise cursor.damaged("its primary picture has no size")
    return size
