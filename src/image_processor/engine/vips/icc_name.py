"""The name of an ICC profile, out of the profile's own description. No pyvips; the bytes are a stranger's."""

import struct
from collections.abc import Iterator

from image_processor.engine.base import UNNAMED_PROFILE
from image_processor.engine.vips.exif_facts import one_line, printable

MAX_TAGS = 128
MAX_NAMES = 64
MAX_NAME_BYTES = 1024
_HEADER_BYTES = 128
_TAG = struct.Struct(">4sII")
_NAME = struct.Struct(">2s2sII")


def profile_name(profile: bytes) -> str:
    """What the tag `desc` says, in English where there are languages; `unnamed` where it says nothing."""
    description = _description(profile)
    if description.startswith(b"desc"):
        (length,) = struct.unpack(">I", description[8:12].rjust(4, b"\0"))
        return printable(description[12 : 12 + min(length, MAX_NAME_BYTES)]) or UNNAMED_PROFILE
    names = dict(_names(description)) if description.startswith(b"mluc") else {}
    return names.get(b"en") or next(filter(None, names.values()), UNNAMED_PROFILE)


def _description(profile: bytes) -> bytes:
    count = int.from_bytes(profile[_HEADER_BYTES : _HEADER_BYTES + 4], "big")
    table = profile[_HEADER_BYTES + 4 :][: min(count, MAX_TAGS) * _TAG.size]
    for signature, offset, size in _TAG.iter_unpack(table[: len(table) - len(table) % _TAG.size]):
        if signature == b"desc":
            return profile[offset : offset + size]
    return b""


def _names(description: bytes) -> Iterator[tuple[bytes, str]]:
    """Language and name: ICC.1:2022, multiLocalizedUnicodeType. The first of a language wins."""
    count = int.from_bytes(description[8:12], "big")
    records = description[16:][: min(count, MAX_NAMES) * _NAME.size]
    whole = [*_NAME.iter_unpack(records[: len(records) - len(records) % _NAME.size])]
    for language, _, length, offset in reversed(whole):
        name = description[offset : offset + min(length, MAX_NAME_BYTES)]
        yield language, one_line(name.decode("utf-16-be", errors="ignore").partition("\0")[0])
