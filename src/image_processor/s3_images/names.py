"""From a caller's session id and file name to a key, and the limits of both."""

import hashlib
import re
from uuid import UUID

from image_processor.errors import InvalidKeyError
from image_processor.s3_images.exceptions import ValidationException
from image_processor.storage.keys import SAFE_LENGTH, check_key, identity_segment, is_incoming, name_segment

MAX_NAME_LENGTH = 255
"""Of a session id and of a file name, in characters."""
MAX_LITERAL_LENGTH = 128
"""Longer names are shortened in the key."""
THUMBNAIL_SEGMENTS = 3
"""At least so many has a thumbnail's key; an image's has two, and so no thumbnail is an image."""
_ORDINARY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_EXTENSION = re.compile(r"\.[A-Za-z0-9]{1,10}")
_CHANGED = "--"


def image_key(session_id: str | UUID, filename: str, *, before: str = "") -> str:
    """
    `{session_id}/{before}{filename}`: literally so for ids and names of letters, digits, `.`, `_` and `-`.

    Others become safe, and get `--` and 16 digits of their SHA-256, so that no two share a key. Raises
    ValidationException for what names no file.
    """
    segment = identity_segment(check_session(session_id))
    return check_key(f"{segment}/{before}{file_segment(check_name('filename', filename))}")


def check_session(session_id: str | UUID) -> str:
    """The id as text; raises ValidationException."""
    return check_name("session_id", str(session_id) if isinstance(session_id, UUID) else session_id)


def check_name(parameter: str, name: str) -> str:
    """The name itself, if it is one; raises ValidationException."""
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME_LENGTH or not name.isprintable():
        raise ValidationException(
            f"{parameter} is 1 to {MAX_NAME_LENGTH} printable characters.", parameter=parameter
        )
    if {"/", "\\"} & set(name) or not name.strip(". "):
        raise ValidationException(f"{parameter} is a name, and not a path.", parameter=parameter)
    return name


def file_segment(filename: str) -> str:
    """The end of a key for a file name, with its extension; two names never share one."""
    if _is_ordinary(filename):
        return filename
    digest = hashlib.sha256(filename.encode()).hexdigest()[:16]
    _, dot, extension = filename.rpartition(".")
    kept = dot + extension if _EXTENSION.fullmatch(dot + extension) else ""
    stem = name_segment(filename)[: SAFE_LENGTH - len(_CHANGED + digest)].rstrip("-_")
    return f"{stem}{_CHANGED}{digest}{kept}"


def check_readable_key(s3_key: str) -> str:
    """The key itself, if something that may be read can lie under it; raises ValueError."""
    try:
        check_key(s3_key)
    except InvalidKeyError as error:
        raise ValueError(str(error)) from error
    if is_incoming(s3_key):
        raise ValueError("what has not been accepted yet cannot be read")
    return s3_key


def check_thumbnail_key(s3_key: str) -> str:
    """The key itself, if a thumbnail may have it; raises ValidationException."""
    try:
        check_readable_key(s3_key)
    except ValueError as error:
        raise ValidationException(f"A thumbnail cannot have this key: {error}", parameter="s3_key") from error
    if s3_key.count("/") + 1 < THUMBNAIL_SEGMENTS:
        raise ValidationException(
            "The key of a thumbnail has three segments or more, such as session/thumbnails/name.webp, "
            "so that it is never that of an image.",
            parameter="s3_key",
        )
    return s3_key


def _is_ordinary(filename: str) -> bool:
    is_plain = _ORDINARY.fullmatch(filename) is not None
    return (
        is_plain and len(filename) <= MAX_LITERAL_LENGTH and ".." not in filename and _CHANGED not in filename
    )
