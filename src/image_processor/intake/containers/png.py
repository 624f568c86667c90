"""The header of a PNG file, and its chunks up to the last."""

import zlib

from image_processor.intake.containers.base import Cursor, Header

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_DEPTHS_OF_COLOUR_TYPE = {
    0: {1, 2, 4, 8, 16},
    2: {8, 16},
    3: {1, 2, 4, 8},
    4: {8, 16},
    6: {8, 16},
}
_MAX_NUMBER = 2**31 - 1


def read_header(cursor: Cursor) -> Header:
    """The size in IHDR, once all chunks up to IEND are there. Animated PNG counts as its first image."""
    if cursor.take(len(SIGNATURE)) != SIGNATURE:
        raise cursor.damaged("it does not begin as one")
    header = _read_ihdr(cursor)
    data_bytes = 0
    while True:
        length, kind = _next_chunk(cursor)
        cursor.skip(length + 4)
        if kind == b"IDAT":
            data_bytes += length
        if kind == b"IEND":
            break
    if not data_bytes:
        raise cursor.damaged("it has no picture data")
    return header


def _next_chunk(cursor: Cursor) -> tuple[int, bytes]:
    cursor.step()
    length, kind = cursor.number(4, "big"), cursor.take(4)
    if length > _MAX_NUMBER or not kind.isalpha():
        raise cursor.damaged("what should be a chunk is none")
    return length, kind


def _read_ihdr(cursor: Cursor) -> Header:
    length, kind = _next_chunk(cursor)
    if kind == b"CgBI":
        raise cursor.unsupported("a PNG in Apple's own variant")
    if kind != b"IHDR" or length != 13:
        raise cursor.damaged("it does not begin with its header chunk")
    body = cursor.take(13)
    if zlib.crc32(kind + body) != cursor.number(4, "big"):
        raise cursor.damaged("the checksum of its header is wrong")
    width, height = int.from_bytes(body[:4], "big"), int.from_bytes(body[4:8], "big")
    depth, colour_type, compression, filtering, interlace = body[8:]
    if not (1 <= width <= _MAX_NUMBER and 1 <= height <= _MAX_NUMBER):
        raise cursor.damaged("its header gives no possible size")
    if depth not in _DEPTHS_OF_COLOUR_TYPE.get(colour_type, ()) or compression or filtering or interlace > 1:
        raise cursor.damaged("its header names a kind of PNG that does not exist")
    return Header(width=width, height=height, interlaced=bool(interlace))
