"""The grammars of `file://` and `s3://` URIs, and their canonical forms. No file or storage is touched."""

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote_to_bytes

from image_processor.errors import InvalidRequestError
from image_processor.storage.keys import check_bucket, check_key

MAX_URI_LENGTH = 2048
MAX_NAME_BYTES = 255
"""What file systems take for one name."""
MAX_NAMES = 64
"""Of one path: every folder on the way is held open, and a process may hold open only so many."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_FILE = re.compile(r"file://(?:localhost)?/(?P<path>[^?#]+)", re.IGNORECASE)
_S3 = re.compile(r"s3://(?P<bucket>[^/?#]*)/(?P<key>[^?#]*)", re.IGNORECASE)
_ESCAPED = re.compile(r"(?:[^%]|%[0-9A-Fa-f]{2})*")


@dataclass(frozen=True)
class FileUri:
    """A file of this machine, by the names from the root of the file system down."""

    names: tuple[str, ...]

    def __str__(self) -> str:
        return "file:///" + "/".join(quote(name, safe="") for name in self.names)


@dataclass(frozen=True)
class ObjectUri:
    """An object in a bucket."""

    bucket: str
    key: str

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


def scheme_of(uri: str) -> str:
    """The scheme in lower case; raises InvalidRequestError where there is none or the URI is too long."""
    if len(uri) > MAX_URI_LENGTH:
        raise InvalidRequestError(f"A URI has at most {MAX_URI_LENGTH} characters.")
    found = _SCHEME.match(uri)
    if found is None:
        raise InvalidRequestError("A URI begins with its scheme, such as https:// or s3://.")
    return found[1].lower()


def parse_file_uri(uri: str) -> FileUri:
    """A `file://` URI; percent-encoding is decoded once, name by name. Raises InvalidRequestError."""
    parts = _FILE.fullmatch(uri)
    if parts is None:
        raise InvalidRequestError(
            "A file:// URI is file:// and the absolute path of a file of this machine, such as "
            "file:///data/in/a.jpg."
        )
    names = parts["path"].split("/")
    if len(names) > MAX_NAMES:
        raise InvalidRequestError(f"A file:// URI has at most {MAX_NAMES} names.")
    return FileUri(tuple(map(_name, names)))


def parse_object_uri(uri: str) -> ObjectUri:
    """An `s3://` URI; raises InvalidRequestError or InvalidKeyError."""
    parts = _S3.fullmatch(uri)
    if parts is None:
        raise InvalidRequestError(
            "An s3:// URI is s3://, a bucket, a slash and a key, as in s3://photos/a.jpg."
        )
    return ObjectUri(check_bucket(parts["bucket"]), check_key(parts["key"]))


def _name(escaped: str) -> str:
    """One name of a path, such as `a b.jpg` for `a%20b.jpg`."""
    if not _ESCAPED.fullmatch(escaped):
        raise InvalidRequestError("A % in a file:// URI is followed by two hexadecimal digits.")
    try:
        name = unquote_to_bytes(escaped).decode("utf-8")
    except UnicodeError as error:
        raise InvalidRequestError("The names in a file:// URI are UTF-8.") from error
    if name in ("", ".", "..") or "/" in name or not name.isprintable():
        raise InvalidRequestError(
            "A file:// URI has no empty names, no . or .., and no slashes or control characters in a name."
        )
    if len(name.encode()) > MAX_NAME_BYTES:
        raise InvalidRequestError(f"A name in a file:// URI has at most {MAX_NAME_BYTES} bytes.")
    return name
