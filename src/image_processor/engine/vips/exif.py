"""EXIF blocks, read and written anew: strangers' bytes go in, nothing that was not understood comes out."""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from mmap import mmap
from typing import Literal

from image_processor.engine.vips.geometry import Size

MAX_EXIF_BYTES = 60_000
"""A JPEG segment holds 65533; some of them are left to what encoders add."""
HEADER = b"Exif\0\0"

ARTIST, COPYRIGHT = 0x013B, 0x8298
ORIENTATION = 0x0112
PHOTO_POINTER, GPS_POINTER, INTEROP_POINTER = 0x8769, 0x8825, 0xA005
PIXEL_WIDTH, PIXEL_HEIGHT = 0xA002, 0xA003

Order = Literal["little", "big"]
ORDERS: Mapping[bytes, Order] = {b"II*\0": "little", b"MM\0*": "big"}
_WIDTHS: Mapping[int, int] = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    129: 1,
}
"""Bytes of one value, by EXIF's number of its type."""
_NUMBERS: Mapping[int, int] = {3: 2, 4: 4, 5: 4, 8: 2, 9: 4, 10: 4, 11: 4, 12: 8}
"""Bytes of one number: a fraction is two of them."""
_ASCII, _SHORT, _LONG, _UTF8 = 2, 3, 4, 129
HEAD, ROW = 8, 12
"""Bytes of a block's head, and of one tag in a directory."""
_INLINE, _LINK, _MAX_TAGS = 4, 4, 512
_FIRST_PRINTABLE = 0x20
_BLANKS = b"\0\t\n\r"
_START_OF_JPEG = b"\xff\xd8\xff"

_POINTERS = frozenset({PHOTO_POINTER, GPS_POINTER, INTEROP_POINTER})
_ABOUT_PIXELS = frozenset(
    {
        *(0x00FE, 0x00FF, *range(0x0100, 0x0108), 0x010A, 0x0111, *range(0x0115, 0x011A), 0x011C),
        *(*range(0x0120, 0x0126), 0x013D, *range(0x0140, 0x0148), 0x014A, *range(0x0150, 0x0157), 0x015B),
        *(*range(0x0200, 0x020A), *range(0x0211, 0x0215), 0x02BC, *range(0x5000, 0x5100)),
        *(0x83BB, 0x8649, 0x8773, *range(0xC600, 0xC800)),
    }
)
"""How the original's own pixels lie in it, its thumbnails, and the blocks that are carried by themselves."""


@dataclass(frozen=True)
class Entry:
    """One tag's value: EXIF's number of its type, and its bytes in the byte order of the block."""

    kind: int
    data: bytes

    def swapped(self) -> "Entry":
        """The same in the other byte order."""
        width = _NUMBERS.get(self.kind, 1)
        numbers = (self.data[at : at + width] for at in range(0, len(self.data), width))
        return Entry(self.kind, b"".join(number[::-1] for number in numbers))


Directory = Mapping[int, Entry]


@dataclass(frozen=True)
class Exif:
    """The directories that describe a photo; that of its thumbnail is never read."""

    order: Order
    main: Directory
    photo: Directory
    gps: Directory

    def copyright_only(self) -> "Exif | None":
        """Artist and copyright, as text; None where there is neither."""
        texts = ((tag, _text(self.main.get(tag))) for tag in (ARTIST, COPYRIGHT))
        kept = {tag: Entry(_ASCII, text) for tag, text in texts if text}
        return Exif(self.order, kept, {}, {}) if kept else None

    def describing(self, size: Size | None) -> "Exif":
        """The same for an upright picture of this size, which is left out where it is None."""
        sides = {PIXEL_WIDTH: size.width, PIXEL_HEIGHT: size.height} if size else {}
        photo = {tag: entry for tag, entry in self.photo.items() if tag not in (PIXEL_WIDTH, PIXEL_HEIGHT)}
        return replace(
            self,
            main={**self.main, ORIENTATION: Entry(_SHORT, (1).to_bytes(2, self.order))},
            photo={**photo, **{tag: self._long(side) for tag, side in sides.items()}},
        )

    def to_bytes(self) -> bytes:
        """A TIFF block, as it lies in PNG, WebP and AVIF, and in JPEG behind `HEADER`."""
        main, behind = self.linked(HEAD + _length(self._with_pointers(0, 0)))
        magic = next(magic for magic, order in ORDERS.items() if order == self.order)
        return magic + HEAD.to_bytes(4, self.order) + written(main, HEAD, self.order) + behind

    def ordered(self, order: Order) -> "Exif":
        """The same in this byte order."""
        if order == self.order:
            return self
        directories = (self.main, self.photo, self.gps)
        return Exif(order, *({tag: e.swapped() for tag, e in found.items()} for found in directories))

    def linked(self, position: int) -> tuple[Directory, bytes]:
        """The main directory with its pointers, and the others, which begin at `position` of a file."""
        gps_at = position + (_length(self.photo) if self.photo else 0)
        photo = written(self.photo, position, self.order) if self.photo else b""
        gps = written(self.gps, gps_at, self.order) if self.gps else b""
        return self._with_pointers(position, gps_at), photo + gps

    def _with_pointers(self, photo_at: int, gps_at: int) -> Directory:
        pointers: dict[int, Entry] = {}
        if self.photo:
            pointers[PHOTO_POINTER] = self._long(photo_at)
        if self.gps:
            pointers[GPS_POINTER] = self._long(gps_at)
        return {**self.main, **pointers}

    def _long(self, number: int) -> Entry:
        return Entry(_LONG, number.to_bytes(4, self.order))


def read_exif(block: bytes | mmap) -> Exif | None:
    """
    What a TIFF block (behind `HEADER` or not), or a TIFF file, says of its photo; None where it is none.

    Three directories at most are read, each once, so that no loop can be followed; a value of no known type,
    lies outside the block or holds a picture of its own is left out, and what exceeds MAX_EXIF_BYTES.
    """
    if isinstance(block, bytes):
        block = block.removeprefix(HEADER)
    order = ORDERS.get(block[:4])
    if order is None or len(block) < HEAD:
        return None
    reader = _Reader(block, order)
    main = reader.directory(reader.number(4, 4))
    photo = reader.directory(_pointer(main, PHOTO_POINTER, order))
    gps = reader.directory(_pointer(main, GPS_POINTER, order))
    return Exif(order, _described(main), _described(photo), _described(gps))


class _Reader:
    """Bounds that hold for one block as a whole."""

    def __init__(self, block: bytes | mmap, order: Order) -> None:
        self._block = block
        self._order = order
        self._left = MAX_EXIF_BYTES

    def number(self, at: int, length: int) -> int:
        return int.from_bytes(self._block[at : at + length], self._order)

    def directory(self, at: int) -> Directory:
        if not HEAD <= at <= len(self._block) - 2:
            return {}
        entries: dict[int, Entry] = {}
        for tag, entry in self._entries(at + 2, min(self.number(at, 2), _MAX_TAGS)):
            self._left -= ROW + len(entry.data)
            if self._left > 0 and _START_OF_JPEG not in entry.data:
                entries.setdefault(tag, entry)
        return entries

    def _entries(self, at: int, count: int) -> Iterator[tuple[int, Entry]]:
        form = "<HHI" if self._order == "little" else ">HHI"
        last = min(at + count * ROW, len(self._block) - ROW + 1)
        for start in range(at, last, ROW):
            tag, kind, values = struct.unpack_from(form, self._block, start)
            length = 0 if tag in _ABOUT_PIXELS else values * _WIDTHS.get(kind, 0)
            place = start + 8 if length <= _INLINE else self.number(start + 8, 4)
            if 0 < length <= min(self._left, len(self._block) - place):
                yield tag, Entry(kind, self._block[place : place + length])


def _pointer(directory: Directory, tag: int, order: Order) -> int:
    entry = directory.get(tag)
    return int.from_bytes(entry.data, order) if entry and entry.kind == _LONG else 0


def _described(directory: Directory) -> Directory:
    return {tag: entry for tag, entry in directory.items() if tag not in _POINTERS}


def _text(entry: Entry | None) -> bytes | None:
    """What is text and nothing else, with one zero at its end."""
    if entry is None or entry.kind not in (_ASCII, _UTF8):
        return None
    text = entry.data.strip(b"\0 ")
    is_text = all(byte >= _FIRST_PRINTABLE or byte in _BLANKS for byte in text)
    return text + b"\0" if text and is_text else None


def written(directory: Directory, at: int, order: Order) -> bytes:
    """The directory as it stands at this position of a file, with no next one."""
    rows, values = rows_of(directory, at + length_of_rows(len(directory)), order)
    return joined(rows, order) + values


def rows_of(directory: Directory, values_at: int, order: Order) -> tuple[dict[int, bytes], bytes]:
    """The twelve bytes of each tag, and the values that do not fit into them, which stand at `values_at`."""
    rows: dict[int, bytes] = {}
    values = b""
    for tag, entry in sorted(directory.items()):
        count = len(entry.data) // _WIDTHS[entry.kind]
        rows[tag] = tag.to_bytes(2, order) + entry.kind.to_bytes(2, order) + count.to_bytes(4, order)
        if len(entry.data) <= _INLINE:
            rows[tag] += entry.data.ljust(_INLINE, b"\0")
        else:
            rows[tag] += (values_at + len(values)).to_bytes(4, order)
            values += entry.data.ljust(_even(len(entry.data)), b"\0")
    return rows, values


def joined(rows: Mapping[int, bytes], order: Order) -> bytes:
    """A directory of these rows, with no next one."""
    return len(rows).to_bytes(2, order) + b"".join(row for _, row in sorted(rows.items())) + bytes(_LINK)


def length_of_rows(count: int) -> int:
    """Bytes of a directory with so many tags, without the values that lie outside of it."""
    return 2 + ROW * count + _LINK


def _length(directory: Directory) -> int:
    """Bytes that it takes, its values included."""
    outside = sum(_even(len(e.data)) for e in directory.values() if len(e.data) > _INLINE)
    return length_of_rows(len(directory)) + outside


def _even(length: int) -> int:
    return length + length % 2
