"""The header of a TIFF file, classic and BigTIFF: the directory of its first page, and no more."""

from collections.abc import Mapping
from typing import Literal, NamedTuple

from image_processor.intake.containers.base import Cursor, Header

MAX_ENTRIES = 4096
"""Tags of one page; the fullest of camera files have some hundred."""
_WIDTH, _HEIGHT = 256, 257
_TYPE_BYTES: Mapping[int, int] = {1: 1, 3: 2, 4: 4, 16: 8}
"""The types in which a whole number may stand, and their lengths."""
_ORDERS: Mapping[bytes, Literal["little", "big"]] = {b"II": "little", b"MM": "big"}


class _Layout(NamedTuple):
    """How long the numbers are that describe a directory."""

    offset_bytes: int
    count_bytes: int

    @property
    def entry_bytes(self) -> int:
        return 4 + 2 * self.offset_bytes


_LAYOUTS: Mapping[int, _Layout] = {42: _Layout(4, 2), 43: _Layout(8, 8)}


def read_header(cursor: Cursor) -> Header:
    """The size of the first page; of a file with several that is the one to be decoded."""
    order = _ORDERS.get(cursor.take(2))
    layout = _LAYOUTS.get(cursor.number(2, order)) if order else None
    if order is None or layout is None:
        raise cursor.damaged("it does not begin as one")
    if layout.offset_bytes == 8 and (cursor.number(2, order), cursor.number(2, order)) != (8, 0):
        raise cursor.damaged("it does not begin as one")
    _go_to_directory(cursor, cursor.number(layout.offset_bytes, order))
    count = cursor.number(layout.count_bytes, order)
    if not 0 < count <= MAX_ENTRIES:
        raise cursor.damaged("its first page has no tags, or too many")
    tags = dict(_read_tag(cursor, layout, order) for _ in range(count))
    width, height = tags.get(_WIDTH), tags.get(_HEIGHT)
    if not width or not height:
        raise cursor.damaged("its first page gives no size")
    return Header(width=width, height=height)


def _go_to_directory(cursor: Cursor, offset: int) -> None:
    if offset < cursor.position:
        raise cursor.damaged("its first page begins before its header ends")
    cursor.skip(offset - cursor.position)


def _read_tag(cursor: Cursor, layout: _Layout, order: Literal["little", "big"]) -> tuple[int, int]:
    """The number of a tag, and its value where that is one whole number; else 0."""
    cursor.step()
    entry = cursor.take(layout.entry_bytes)
    tag, kind = int.from_bytes(entry[:2], order), int.from_bytes(entry[2:4], order)
    count = int.from_bytes(entry[4 : 4 + layout.offset_bytes], order)
    value = entry[4 + layout.offset_bytes :]
    length = _TYPE_BYTES.get(kind, 0)
    return tag, int.from_bytes(value[:length], order) if count == 1 and length <= len(value) else 0
