"""A caller's own words about an object, as S3 keeps them: in headers, in ASCII, 2 KB in all."""

import base64
import binascii
import re
from collections.abc import Mapping

from image_processor.errors import InvalidRequestError

MAX_BYTES = 2048
"""Of all names and values together, as they are sent."""
OWN = {"sha256": "0" * 64}
"""What this package keeps there itself; its room is taken off."""

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,126}[a-z0-9])?")
_ENCODED = re.compile(r"=\?UTF-8\?B\?([A-Za-z0-9+/=]*)\?=")


def encode_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """
    What is sent to S3: names in lower case, and values as they are where a header can carry them.

    A value with anything but printable ASCII, with spaces at its ends, or with `=?` in it becomes one encoded
    word of RFC 2047, in UTF-8 and base64. Raises InvalidRequestError for what is no text, a name that no
    header can have or that is taken, and for more than 2 KB.
    """
    encoded = {_name(name): _encoded(name, value) for name, value in metadata.items()}
    if len(encoded) < len(metadata):
        raise InvalidRequestError("Two names of the metadata differ in case alone.", parameter="metadata")
    if sum(len(name) + len(value) for name, value in (encoded | OWN).items()) > MAX_BYTES:
        raise InvalidRequestError(
            f"S3 keeps at most {MAX_BYTES} bytes of metadata with an object, names included.",
            parameter="metadata",
        )
    return encoded


def decode_metadata(kept: Mapping[str, str]) -> dict[str, str]:
    """What `encode_metadata` was given, without what this package keeps there itself."""
    return {name: _decoded(value) for name, value in kept.items() if name not in OWN}


def _name(name: str) -> str:
    lower = name.lower() if isinstance(name, str) else ""
    if not _NAME.fullmatch(lower) or lower in OWN:
        raise InvalidRequestError(
            f"{str(name)[:80]!r} is no name for metadata: letters, digits, hyphens and underscores, and not "
            f"{', '.join(OWN)}.",
            parameter="metadata",
        )
    return lower


def _encoded(name: str, value: str) -> str:
    if not isinstance(value, str):
        raise InvalidRequestError(f"The metadata {name!r} is not text.", parameter="metadata")
    if value.isascii() and value.isprintable() and value == value.strip() and "=?" not in value:
        return value
    return f"=?UTF-8?B?{base64.b64encode(value.encode('utf-8', 'replace')).decode()}?="


def _decoded(value: str) -> str:
    """Others write there too: what is not well encoded stays as it is."""
    word = _ENCODED.fullmatch(value)
    if word is None:
        return value
    try:
        return base64.b64decode(word[1], validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return value
