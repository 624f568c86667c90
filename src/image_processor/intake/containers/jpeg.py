"""The header of a JPEG file: its segments up to the first scan."""

from image_processor.intake.containers.base import Cursor, Header

_SOI, _EOI, _SOS = 0xD8, 0xD9, 0xDA
_RESTARTS = frozenset(range(0xD0, 0xD8))
_WITHOUT_LENGTH = _RESTARTS | {0x01}
_FRAMES = frozenset({0xC0, 0xC1, 0xC2})
_PROGRESSIVE = 0xC2
_EXOTIC_FRAMES = {
    0xC3: "a lossless JPEG",
    **dict.fromkeys((0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF), "a hierarchical JPEG"),
    **dict.fromkeys((0xC9, 0xCA, 0xCB), "an arithmetic-coded JPEG"),
}


def read_header(cursor: Cursor) -> Header:
    """The size in the frame header. A missing end marker is no error, and neither are bytes behind it."""
    if cursor.take(2) != bytes((0xFF, _SOI)):
        raise cursor.damaged("it does not begin as one")
    header: Header | None = None
    while (marker := _next_marker(cursor)) != _SOS:
        if marker in (_SOI, _EOI):
            raise cursor.damaged("it ends before any picture data")
        if marker in _WITHOUT_LENGTH:
            continue
        length = _segment_length(cursor)
        if marker in _EXOTIC_FRAMES:
            raise cursor.unsupported(_EXOTIC_FRAMES[marker])
        if marker not in _FRAMES:
            cursor.skip(length)
        elif header is None:
            header = _read_frame(cursor, length, is_progressive=marker == _PROGRESSIVE)
        else:
            raise cursor.damaged("it has two frame headers")
    if header is None:
        raise cursor.damaged("its picture data has no frame header")
    _check_scan(cursor)
    return header


def _next_marker(cursor: Cursor) -> int:
    """The next marker; stray bytes and fill bytes before it are passed over, as every decoder does."""
    while True:
        cursor.step()
        if cursor.byte() != 0xFF:
            continue
        while (code := cursor.byte()) == 0xFF:
            cursor.step()
        if code:
            return code


def _segment_length(cursor: Cursor) -> int:
    length = cursor.number(2, "big")
    if length < 2:
        raise cursor.damaged("a segment has an impossible length")
    return length - 2


def _read_frame(cursor: Cursor, length: int, *, is_progressive: bool) -> Header:
    precision, height, width, components = (cursor.number(count, "big") for count in (1, 2, 2, 1))
    if length != 6 + 3 * components or not 1 <= components <= 4:
        raise cursor.damaged("its frame header has an impossible length")
    if precision != 8:
        raise cursor.unsupported(f"a JPEG with {precision} bits per sample")
    if not width or not height:
        raise cursor.damaged("its frame header gives no size")
    cursor.skip(3 * components)
    return Header(width=width, height=height, interlaced=is_progressive)


def _check_scan(cursor: Cursor) -> None:
    cursor.skip(_segment_length(cursor))
    first, second = cursor.take(2)
    if first == 0xFF and second not in _RESTARTS | {0x00, 0xFF}:
        raise cursor.damaged("its first scan has no data")
