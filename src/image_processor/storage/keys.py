"""
The one grammar of keys and buckets with its one check, and the templates that keys are made from.

A key is 1 to 32 segments joined by `/`. A segment begins with an ASCII letter or digit and goes on with
letters, digits, `.`, `_` and `-`; two dots in a row occur nowhere. At most 255 bytes a segment and 1024 bytes
a key. So no key can leave a folder, name a hidden file, or need quoting in a URL or a shell.
"""

import datetime as dt
import hashlib
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace

from image_processor.errors import ConfigurationError, InvalidKeyError, InvalidRequestError
from image_processor.pipeline import ImageFormat, Variant
from image_processor.pipeline.outputs import resolve_output

MAX_KEY_BYTES = 1024
MAX_SEGMENT_BYTES = 255
MAX_SEGMENTS = 32
SAFE_LENGTH = 64
"""Longest segment, in characters, that is made from a stranger's words."""
BUCKET_GRAMMAR = (
    "2 to 63 lower-case letters, digits, dots, underscores and hyphens, beginning with a letter or digit, "
    "without two dots in a row"
)

INCOMING = "INCOMING"
"""
The first segment of the keys of what is not accepted yet, or waits for its worker; nothing there is served.

No bucket can have this name, for it has capitals; no key template may begin with it.
"""

_SEGMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,62}")
_KEPT_IDENTITY = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9_-])?")
_FIELD = re.compile(r"\{([a-z_]+)\}")
_CHANGED = "--"
"""Stands before the digest of an identity that had to be changed, and in no other."""


def check_key(key: str) -> str:
    """The key itself, if it is within the grammar of this module; raises InvalidKeyError."""
    segments = key.split("/", MAX_SEGMENTS)
    if len(key) > MAX_KEY_BYTES or len(segments) > MAX_SEGMENTS:
        raise InvalidKeyError(f"A key has at most {MAX_KEY_BYTES} bytes and {MAX_SEGMENTS} segments.")
    if ".." in key or not all(map(_is_segment, segments)):
        raise InvalidKeyError(
            f"{_quoted(key)} is not a key: segments of letters, digits, dots, underscores and hyphens, "
            f"joined by slashes, each beginning with a letter or digit, at most {MAX_SEGMENT_BYTES} bytes, "
            "without two dots in a row."
        )
    return key


def is_incoming(key: str) -> bool:
    """Whether the key is one of those that are never served."""
    return key.startswith(f"{INCOMING}/")


def check_prefix(prefix: str) -> str:
    """The prefix itself, if it is empty or a key with a `/` behind it; raises InvalidKeyError."""
    if prefix and not prefix.endswith("/"):
        raise InvalidKeyError(f"{_quoted(prefix)} is not a prefix: a prefix is empty or ends with a slash.")
    if prefix:
        check_key(prefix[:-1])
    return prefix


def check_bucket(name: str) -> str:
    """The bucket's name itself, if it is within the grammar; raises InvalidRequestError, which states it."""
    if ".." in name or not _BUCKET.fullmatch(name):
        raise InvalidRequestError(
            f"{_quoted(name)} is not a bucket name: {BUCKET_GRAMMAR}.", parameter="bucket"
        )
    return name


def identity_segment(identity: str) -> str:
    """
    A safe segment of at most 64 characters for a user's or a session's id; two ids never share one.

    An id that is safe already stays as it is. Any other keeps what can be kept and gets `--` and 16 digits of
    its SHA-256 behind it; an id that holds `--` itself counts as unsafe, so that none can pose as another.
    """
    if _KEPT_IDENTITY.fullmatch(identity) and len(identity) <= SAFE_LENGTH and not _is_ambiguous(identity):
        return identity
    digest = hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    kept = _ascii_words(identity)[: SAFE_LENGTH - len(_CHANGED + digest)]
    return f"{kept.rstrip('-') or 'x'}{_CHANGED}{digest}"


def name_segment(file_name: str) -> str:
    """
    A readable, safe segment of at most 64 characters for a client's file name, without folders and extension.

    Many names share one segment: it decorates a key and never makes it unique. It has no dots, so that
    `shell.php.jpg` cannot become a file with two extensions.
    """
    name = file_name[-1024:].replace("\\", "/").rpartition("/")[2]
    stem = name.rpartition(".")[0] or name
    segment = _ascii_words(stem)[:SAFE_LENGTH].rstrip("-_") or "unnamed"
    return segment.lower() if segment == INCOMING else segment


@dataclass(frozen=True, kw_only=True)
class KeyFields:
    """What a template can be filled with; None is what is not known here."""

    hash: str | None = None
    """Hexadecimal, of the original or of the stored file, as the caller chooses."""
    date: dt.date | None = None
    """Becomes one segment, such as `2026-07-31`."""
    original_name: str | None = None
    """The client's file name as it came; made safe by `name_segment`."""
    ext: str | None = None
    """The usual extension of the format without its dot, such as `jpg`."""
    image_id: str | None = None
    variant: str | None = None
    """The variant's unique name."""
    user_id: str | None = None
    """As it came; made safe by `identity_segment`."""
    session_id: str | None = None
    """As it came; made safe by `identity_segment`."""
    bucket: str | None = None
    size: str | None = None
    """The variant's `key_name`, or its name where it has none."""
    format: str | None = None
    """The format's own name, such as `jpeg`."""
    upload_id: str | None = None

    def segment(self, name: str) -> str:
        """The text for one field; InvalidRequestError where it is not known, InvalidKeyError where unsafe."""
        value = getattr(self, name)
        if value is None:
            raise InvalidRequestError(f"The key template asks for {{{name}}}, which is not known here.")
        return check_segment(_MADE_SAFE.get(name, str)(value))


_MADE_SAFE = {"original_name": name_segment, "user_id": identity_segment, "session_id": identity_segment}
FIELD_NAMES = frozenset(field.name for field in fields(KeyFields))

_LONGEST = KeyFields(
    hash="f" * 64,
    date=dt.date.max,
    original_name="n" * SAFE_LENGTH,
    ext="heic",
    image_id="f" * 36,
    variant="v" * 40,
    user_id="u" * SAFE_LENGTH,
    session_id="s" * SAFE_LENGTH,
    bucket="b" * 63,
    size="s" * 40,
    format="heic",
    upload_id="f" * 36,
)


@dataclass(frozen=True)
class KeyTemplate:
    """
    A key with fields in braces, such as `images/{image_id}/{size}.{format}`.

    Raises ConfigurationError for an unknown or malformed field, for text outside the key grammar, and where
    the longest values would not make a key.
    """

    text: str

    def __post_init__(self) -> None:
        unknown = {name for name in _FIELD.findall(self.text) if name not in FIELD_NAMES}
        if unknown or set(_FIELD.sub("", self.text)) & set("{}"):
            raise ConfigurationError(
                f"The key template {_quoted(self.text)} has an unknown or malformed field; the fields are "
                + ", ".join(f"{{{name}}}" for name in sorted(FIELD_NAMES))
            )
        if is_incoming(self.text):
            raise ConfigurationError(
                f"No key template may begin with {INCOMING}/, which is the service's own."
            )
        try:
            self.render(_LONGEST)
        except InvalidKeyError as error:
            raise ConfigurationError(
                f"The key template {_quoted(self.text)} makes no key: {error}"
            ) from error

    def fields(self) -> frozenset[str]:
        """The names of the fields that must be known."""
        return frozenset(_FIELD.findall(self.text))

    def render(self, values: KeyFields) -> str:
        """
        The key for these values.

        Raises InvalidRequestError where a field of the template is not known, InvalidKeyError where a value
        of ours is no segment, and where the values together would lead into the service's own.
        """
        key = check_key(_FIELD.sub(lambda match: values.segment(match[1]), self.text))
        if is_incoming(key):
            raise InvalidKeyError(f"No key that is made here begins with {INCOMING}/.")
        return key


def variant_fields(variant: Variant, source_format: ImageFormat, known: KeyFields) -> KeyFields:
    """What is `known` of a job, with the fields of one variant for a source of this format."""
    written = ImageFormat(resolve_output(variant.output, source_format).format)
    return replace(
        known,
        variant=variant.name,
        size=variant.key_name or variant.name,
        format=written.value,
        ext=written.extension,
    )


def check_distinct(
    template: KeyTemplate, variants: Iterable[Variant], accepts: Iterable[ImageFormat]
) -> None:
    """
    Make sure that no variant of a job overwrites another, whatever format is accepted.

    Two may share a key only where they are the same file: same operations, same settings of the output.
    `{hash}` does not tell variants apart, since it may be that of the original.

    Raises:
        ConfigurationError: names the two variants and the format of the source.
    """
    variants = tuple(variants)
    for source_format in accepts:
        taken: dict[str, Variant] = {}
        for variant in variants:
            key = template.render(variant_fields(variant, source_format, _LONGEST))
            other = taken.setdefault(key, variant)
            if _product(other, source_format) != _product(variant, source_format):
                raise ConfigurationError(
                    f"The key template {_quoted(template.text)} gives the variants {other.name!r} and "
                    f"{variant.name!r} of a {source_format.label} image the same key; use {{variant}}."
                )


def check_segment(segment: str) -> str:
    """The segment itself, if it can stand in a key without a slash; raises InvalidKeyError."""
    if "/" in segment:
        raise InvalidKeyError(f"{_quoted(segment)} is not one segment of a key.")
    return check_key(segment)


def _product(variant: Variant, source_format: ImageFormat) -> tuple[object, ...]:
    return variant.operations, resolve_output(variant.output, source_format), variant.never_larger


def _is_segment(segment: str) -> bool:
    return len(segment) <= MAX_SEGMENT_BYTES and _SEGMENT.fullmatch(segment) is not None


def _is_ambiguous(identity: str) -> bool:
    return ".." in identity or _CHANGED in identity or identity == INCOMING


def _ascii_words(text: str) -> str:
    """ASCII letters, digits and `_`, other runs as one `-`; accents go, scripts without ASCII vanish."""
    plain = unicodedata.normalize("NFKD", text[:1024]).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9_]+", "-", plain).strip("-_")


def _quoted(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:80]}…")
