"""The chunks of a PNG file: which of them make the pixels, and a copy that has only those."""

import zlib
from collections.abc import Iterator

from image_processor.errors import CorruptImageError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
ESSENTIAL = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})
_LENGTH, _TYPE, _CHECKSUM = 4, 4, 4


def essential_chunks(data: bytes) -> bytes:
    """
    The same picture, pixel for pixel, with no chunk that is not needed to show it.

    Raises CorruptImageError for a file that is not whole.
    """
    return SIGNATURE + b"".join(data[start:end] for kind, start, end in _chunks(data) if kind in ESSENTIAL)


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    position, kind = len(SIGNATURE), b""
    while kind != b"IEND":
        length = int.from_bytes(data[position : position + _LENGTH])
        body = position + _LENGTH
        end = body + _TYPE + length + _CHECKSUM
        kind = data[body : body + _TYPE]
        checked = data[body : end - _CHECKSUM]
        if end > len(data) or zlib.crc32(checked).to_bytes(4) != data[end - _CHECKSUM : end]:
            raise CorruptImageError("The PNG is cut off or damaged.")
        yield kind, position, end
        position = end
