"""Uploads: the bytes of what a stranger sent, read no further than is allowed. Formats are not known here."""

import io
from contextlib import suppress
from typing import TYPE_CHECKING, BinaryIO, TypeAlias

from image_processor.errors import FileTooLargeError, StorageError

if TYPE_CHECKING:
    from django.core.files.base import File

Upload: TypeAlias = "File[bytes] | BinaryIO | bytes"


def read_upload(file: Upload, max_bytes: int) -> bytes:
    """
    The whole of a file from its beginning, or of a pipe from where it stands; counted while it is read.

    Raises:
        FileTooLargeError: as soon as there is more, however much follows.
        StorageError: it cannot be read.
    """
    stream = io.BytesIO(file) if isinstance(file, bytes) else file
    data = bytearray()
    try:
        with suppress(AttributeError, io.UnsupportedOperation):
            stream.seek(0)
        while len(data) <= max_bytes and (piece := stream.read(max_bytes + 1 - len(data))):
            data += piece.encode() if isinstance(piece, str) else piece
    except OSError as error:
        raise StorageError("The upload could not be read.") from error
    if len(data) > max_bytes:
        raise FileTooLargeError("The file is larger than is allowed.", max_bytes=max_bytes)
    return bytes(data)
