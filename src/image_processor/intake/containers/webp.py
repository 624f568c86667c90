"""The header of a WebP file: its RIFF chunks, and the sizes in lossy, lossless and extended ones."""

from collections.abc import Iterator

from image_processor.intake.containers.base import Cursor, Header

_ANIMATION_FLAG = 0x02
_FRAME_HEADER_BYTES = 16
_PICTURES = frozenset({b"VP8 ", b"VP8L"})

Size = tuple[int, int]
"""Width and height in pixels."""


def read_header(cursor: Cursor) -> Header:
    """The size of the canvas; of an animation, all frames are counted."""
    chunks = _Chunks(cursor)
    kind, length = chunks.next()
    if kind in _PICTURES:
        width, height = _picture_size(cursor, kind, length)
        return Header(width=width, height=height)
    if kind != b"VP8X" or length < 10:
        raise cursor.damaged("it does not begin with a picture or an extended header")
    flags = cursor.byte()
    cursor.skip(3)
    canvas = cursor.number(3, "little") + 1, cursor.number(3, "little") + 1
    frames = _count_frames(chunks, canvas) if flags & _ANIMATION_FLAG else _check_still(chunks, canvas)
    return Header(width=canvas[0], height=canvas[1], frames=frames)


class _Chunks:
    """The chunks of the RIFF container, one after the other; what stands behind it is not read."""

    def __init__(self, cursor: Cursor) -> None:
        self.cursor = cursor
        riff, size, kind = cursor.take(4), cursor.number(4, "little"), cursor.take(4)
        if riff != b"RIFF" or kind != b"WEBP" or size < 4:
            raise cursor.damaged("it does not begin as one")
        self._end = 8 + size
        cursor.check_room(size - 4)
        self._next_at = cursor.position

    def next(self) -> tuple[bytes, int]:
        """The name and the length of the next chunk; the cursor stands at its first byte."""
        cursor = self.cursor
        cursor.step()
        cursor.skip(self._next_at - cursor.position)
        kind, length = cursor.take(4), cursor.number(4, "little")
        if length > self._end - cursor.position:
            raise cursor.damaged("a chunk is longer than its container")
        self._next_at = cursor.position + length + length % 2
        return kind, length

    def enter(self) -> None:
        """
        Go on inside the chunk that was begun, at the cursor.

        So does libwebp with frames: a stated length that is too long would hide the frames behind it.
        """
        self._next_at = self.cursor.position

    def rest(self) -> Iterator[tuple[bytes, int]]:
        while self._next_at <= self._end - 8:
            yield self.next()


def _picture_size(cursor: Cursor, kind: bytes, length: int) -> Size:
    if length < 10:
        raise cursor.damaged("its picture data is too short")
    return _lossy_size(cursor) if kind == b"VP8 " else _lossless_size(cursor)


def _lossy_size(cursor: Cursor) -> Size:
    tag, start_code = cursor.number(3, "little"), cursor.take(3)
    size = cursor.number(2, "little") & 0x3FFF, cursor.number(2, "little") & 0x3FFF
    if tag & 1 or start_code != b"\x9d\x01\x2a" or not all(size):
        raise cursor.damaged("its picture data does not begin with a key frame")
    return size


def _lossless_size(cursor: Cursor) -> Size:
    signature, bits = cursor.byte(), cursor.number(4, "little")
    if signature != 0x2F or bits >> 29:
        raise cursor.damaged("its lossless picture data does not begin as such")
    return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1


def _check_still(chunks: _Chunks, canvas: Size) -> int:
    for kind, length in chunks.rest():
        if kind in _PICTURES:
            if _picture_size(chunks.cursor, kind, length) != canvas:
                raise chunks.cursor.damaged("its header and its picture data give different sizes")
            return 1
    raise chunks.cursor.damaged("it has no picture data")


def _count_frames(chunks: _Chunks, canvas: Size) -> int:
    frames = 0
    for kind, length in chunks.rest():
        if kind == b"ANMF":
            _check_frame(chunks.cursor, length, canvas)
            chunks.enter()
            frames += 1
    if not frames:
        raise chunks.cursor.damaged("it is an animation without a frame")
    return frames


def _check_frame(cursor: Cursor, length: int, canvas: Size) -> None:
    if length < _FRAME_HEADER_BYTES:
        raise cursor.damaged("a frame is too short")
    left, top, width, height = (cursor.number(3, "little") for _ in range(4))
    cursor.skip(_FRAME_HEADER_BYTES - 12)
    if 2 * left + width + 1 > canvas[0] or 2 * top + height + 1 > canvas[1]:
        raise cursor.damaged("a frame is larger than the image")
