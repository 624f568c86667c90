"""What a caller hands over: that it is an image within the limits, and the file it becomes on its way."""

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from image_processor.errors import StorageError, StorageFullError, is_disk_full
from image_processor.intake.sniff import SNIFF_BYTES, describe, sniff
from image_processor.pipeline import ImageFormat
from image_processor.s3_images.exceptions import ValidationException

UNSAFE = frozenset({ImageFormat.SVG})
"""A document that can hold scripts, and that a browser would run from an address of the bucket."""
SAME_TYPES = {
    "image/jpg": "image/jpeg",
    "image/pjpeg": "image/jpeg",
    "image/x-png": "image/png",
    "image/heif": "image/heic",
    "image/x-ms-bmp": "image/bmp",
    "image/x-bmp": "image/bmp",
}
UNKNOWN_TYPES = frozenset({"", "application/octet-stream", "binary/octet-stream"})
"""What clients say that do not know."""


def check_size(content: bytes, max_bytes: int) -> bytes:
    """The bytes themselves, from 1 to `max_bytes`; raises ValidationException."""
    if not isinstance(content, bytes):
        raise ValidationException("The file is given as bytes.", parameter="file_bytes")
    if not content:
        raise ValidationException("The file is empty.", parameter="file_bytes")
    if len(content) > max_bytes:
        raise ValidationException(
            f"The file has {len(content)} bytes; {max_bytes} are allowed.", parameter="file_bytes"
        )
    return content


def media_type(content: bytes, said: str | None) -> str:
    """The type by the first bytes; raises ValidationException for no image, and where another was said."""
    head = content[:SNIFF_BYTES]
    image_format = sniff(head)
    if image_format is None or image_format in UNSAFE:
        raise ValidationException(
            f"The file is no image that is kept here: it looks like {describe(head)}.", parameter="file_bytes"
        )
    claimed = (said or "").partition(";")[0].strip().lower()
    if claimed not in UNKNOWN_TYPES and SAME_TYPES.get(claimed, claimed) != image_format.media_type:
        raise ValidationException(
            f"The content type that was given is not that of the file, which looks like {describe(head)}.",
            parameter="content_type",
        )
    return image_format.media_type


def digest(content: bytes) -> str:
    """The SHA-256, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


@contextmanager
def as_file(content: bytes, folder: Path | None) -> Iterator[Path]:
    """
    The bytes in a file of their own, without another copy in memory; it is removed with the block.

    Raises StorageFullError, and StorageError where the folder takes no file.
    """
    with ExitStack() as stack:
        try:
            made = stack.enter_context(tempfile.TemporaryDirectory(prefix="s3-image-", dir=folder))
            path = Path(made) / "original"
            path.write_bytes(content)
        except OSError as error:
            if is_disk_full(error):
                raise StorageFullError("There is no room for the file on its way to S3.") from error
            raise StorageError("The file cannot be written on its way to S3.") from error
        yield path
