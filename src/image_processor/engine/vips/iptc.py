"""IPTC records, bare and in the Photoshop block in which a JPEG carries them."""

from collections.abc import Iterator

PHOTOSHOP = b"Photoshop 3.0\0"
MAX_IPTC_BYTES = 60_000
_RESOURCE, _IPTC = b"8BIM", 0x0404
_RECORD = b"\x1c"
_HEAD = 12
"""Sign, number, an empty name and the length: what a resource takes at least."""


def read_iptc(block: bytes) -> bytes | None:
    """The records, from a Photoshop block or bare; other resources, such as thumbnails, are left."""
    if block.startswith(PHOTOSHOP):
        block = next((data for number, data in _resources(block) if number == _IPTC), b"")
    is_iptc = block.startswith(_RECORD) and len(block) <= MAX_IPTC_BYTES
    return block if is_iptc else None


def photoshop_block(records: bytes) -> bytes:
    """The records as the one resource of a Photoshop block."""
    padding = b"\0" * (len(records) % 2)
    head = _RESOURCE + _IPTC.to_bytes(2) + b"\0\0" + len(records).to_bytes(4)
    return PHOTOSHOP + head + records + padding


def _resources(block: bytes) -> Iterator[tuple[int, bytes]]:
    position = len(PHOTOSHOP)
    while block[position : position + 4] == _RESOURCE and position + _HEAD <= len(block):
        number = int.from_bytes(block[position + 4 : position + 6])
        name = 1 + block[position + 6]
        length_at = position + 6 + name + name % 2
        length = int.from_bytes(block[length_at : length_at + 4])
        data_at = length_at + 4
        yield number, block[data_at : data_at + length]
        position = data_at + length + length % 2
