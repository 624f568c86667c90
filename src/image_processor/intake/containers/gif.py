"""The header of a GIF file, and its blocks, of which the frames are counted."""

import struct

from image_processor.intake.containers.base import Cursor, Header

MAX_DATA_BLOCKS = 500_000
"""Of at most 255 bytes each; a 100 MB GIF has 400 000."""
_EXTENSION, _FRAME, _TRAILER = 0x21, 0x2C, 0x3B
_FRAME_FIELDS = struct.Struct("<4HB")
_INTERLACED = 0x40
_COLOUR_TABLE = 0x80


def read_header(cursor: Cursor) -> Header:
    """
    The screen's size, or that which the frames reach where they go beyond it: some decoders grow it.

    Files without a trailer, or with other bytes in its place, are common: they end at their last whole frame.
    """
    if cursor.take(6) not in (b"GIF87a", b"GIF89a"):
        raise cursor.damaged("it does not begin as one")
    return _Walk(cursor).header()


class _Walk:
    """One walk over all blocks."""

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor
        self._data_blocks = 0
        self._frames = 0
        self._interlaced = False
        self._width, self._height = cursor.number(2, "little"), cursor.number(2, "little")

    def header(self) -> Header:
        flags = self._cursor.byte()
        self._cursor.skip(2)
        self._skip_colour_table(flags)
        while not (self._frames and self._cursor.is_at_end) and self._read_block(self._cursor.byte()):
            self._cursor.step()
        if not self._frames:
            raise self._cursor.damaged("it has no picture data")
        return Header(
            width=self._width, height=self._height, frames=self._frames, interlaced=self._interlaced
        )

    def _read_block(self, introducer: int) -> bool:
        """Pass over one block; False at the end of the picture."""
        if introducer == _EXTENSION:
            self._cursor.skip(1)
            self._skip_data()
        elif introducer == _FRAME:
            self._read_frame()
        return introducer in (_EXTENSION, _FRAME)

    def _read_frame(self) -> None:
        left, top, width, height, flags = _FRAME_FIELDS.unpack(self._cursor.take(_FRAME_FIELDS.size))
        if not width or not height:
            raise self._cursor.damaged("a frame has no size")
        self._skip_colour_table(flags)
        self._cursor.skip(1)
        self._skip_data()
        self._width, self._height = max(self._width, left + width), max(self._height, top + height)
        self._interlaced = self._interlaced or bool(flags & _INTERLACED)
        self._frames += 1

    def _skip_colour_table(self, flags: int) -> None:
        if flags & _COLOUR_TABLE:
            self._cursor.skip(3 << (flags & 0x07) + 1)

    def _skip_data(self) -> None:
        cursor = self._cursor
        blocks = 0
        while length := cursor.byte():
            cursor.skip(length)
            blocks += 1
            if blocks + self._data_blocks > MAX_DATA_BLOCKS:
                raise cursor.damaged(f"it is made of more than {MAX_DATA_BLOCKS} blocks")
        self._data_blocks += blocks
