"""The header of a BMP file."""

from image_processor.intake.containers.base import Cursor, Header

_FILE_HEADER_BYTES = 14
_OS2_HEADER_BYTES = 12
"""The first kind of header, whose sides are two bytes long."""
_HEADERS = frozenset({_OS2_HEADER_BYTES, 16, 40, 52, 56, 64, 108, 124})
_DEPTHS = frozenset({1, 2, 4, 8, 16, 24, 32})
_EMBEDDED = {4: "a JPEG inside a BMP", 5: "a PNG inside a BMP"}


def read_header(cursor: Cursor) -> Header:
    """The size, whichever of the two ends its rows begin at."""
    if cursor.take(2) != b"BM":
        raise cursor.damaged("it does not begin as one")
    cursor.skip(8)
    pixels_at = cursor.number(4, "little")
    length = cursor.number(4, "little")
    if length not in _HEADERS or pixels_at < _FILE_HEADER_BYTES + length:
        raise cursor.damaged("its header has an impossible length")
    width, height = _sides(cursor, length)
    planes, depth = cursor.number(2, "little"), cursor.number(2, "little")
    if planes != 1 or depth not in _DEPTHS or width <= 0 or not height:
        raise cursor.damaged("its header names a kind of BMP that does not exist")
    if length > 16 and (embedded := _EMBEDDED.get(cursor.number(4, "little"))):
        raise cursor.unsupported(embedded)
    cursor.skip(pixels_at - cursor.position)
    cursor.check_room(1)
    return Header(width=width, height=abs(height))


def _sides(cursor: Cursor, header_bytes: int) -> tuple[int, int]:
    if header_bytes == _OS2_HEADER_BYTES:
        return cursor.number(2, "little"), cursor.number(2, "little")
    return _signed(cursor), _signed(cursor)


def _signed(cursor: Cursor) -> int:
    return int.from_bytes(cursor.take(4), "little", signed=True)
