"""The chunks of a WebP file: a copy of a still picture that has only those which make its pixels."""

from collections.abc import Iterator

ESSENTIAL = frozenset({b"VP8X", b"ALPH", b"VP8 ", b"VP8L"})
PIXELS = frozenset({b"VP8 ", b"VP8L"})
_TAG, _CHUNK_HEAD = 4, 8
_FLAGS_AT = 8
_HAS_ALPHA = 0x10


def essential_chunks(data: bytes) -> bytes | None:
    """
    The same picture, pixel for pixel, with no chunk that is not needed to show it.

    None for an animation, and for a file that is not whole. The form is that of Google's "WebP Container
    Specification".
    """
    chunks = [(kind, chunk) for kind, chunk in _chunks(data) if kind in ESSENTIAL]
    if sum(kind in PIXELS for kind, _ in chunks) != 1:
        return None
    body = b"WEBP" + b"".join(_without_flags(chunk) if kind == b"VP8X" else chunk for kind, chunk in chunks)
    return b"RIFF" + len(body).to_bytes(4, "little") + body


def _without_flags(chunk: bytes) -> bytes:
    """Nothing is announced but alpha: what else there was is gone."""
    flags = bytes(flag & _HAS_ALPHA for flag in chunk[_FLAGS_AT : _FLAGS_AT + 1])
    return chunk[:_FLAGS_AT] + flags + bytes(3) + chunk[_FLAGS_AT + 4 :]


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The whole ones, each with its head and the byte that makes its length even."""
    end = min(len(data), _CHUNK_HEAD + _length_at(data, _TAG))
    position = _CHUNK_HEAD + _TAG
    while position < end:
        length = _length_at(data, position + _TAG)
        after = position + _CHUNK_HEAD + length
        if after <= end:
            yield data[position : position + _TAG], data[position:after] + bytes(length % 2)
        position = after + length % 2


def _length_at(data: bytes, position: int) -> int:
    return int.from_bytes(data[position : position + 4], "little")
