"""What is uploaded: bytes, a file or a stream, piece by piece, alone or as the file of a multipart form."""

import io
import os
import secrets
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from image_processor.errors import InvalidRequestError, NotFoundError

PIECE_BYTES = 256 * 1024
OnProgress = Callable[[int, int | None], None]
"""Is told how many bytes of the file are sent, and how many there are; None where nobody can tell."""


class Readable(Protocol):
    """Something that bytes can be read from."""

    def read(self, size: int, /) -> bytes:
        """At most so many bytes; none at the end."""
        ...


Source = str | os.PathLike[str] | bytes | bytearray | memoryview | Readable
"""A path, the bytes themselves, or a binary stream."""


class Content:
    """
    The bytes of a source, as often as they can be had.

    A stream is read from where it stands; it stays open, and belongs to the caller.

    Raises:
        NotFoundError: there is no such file.
        InvalidRequestError: what was given is no source, or cannot be read.
    """

    def __init__(self, source: Source) -> None:
        self._path = Path(source) if isinstance(source, str | os.PathLike) else None
        self._stream = _stream(source) if self._path is None else None
        self._begin = _position(self._stream)
        self._is_begun = False
        self.size = self._size()
        """In bytes; None for a stream that can only be read to its end."""

    @property
    def is_repeatable(self) -> bool:
        """Whether it can be read (again) from its beginning."""
        return self._path is not None or self._begin is not None or not self._is_begun

    def open(self) -> BinaryIO:
        """The bytes from their beginning; to be closed."""
        if self._path is not None:
            return _opened(self._path)
        if self._stream is None or not self.is_repeatable:
            raise InvalidRequestError("The stream was read before, and cannot be rewound.")
        if self._begin is not None:
            self._stream.seek(self._begin)
        self._is_begun = True
        return cast("BinaryIO", _Lent(self._stream))

    def sha256(self) -> str:
        """The digest, as hexadecimal digits."""
        digest = sha256()
        with closing(self.open()) as file:
            while piece := file.read(PIECE_BYTES):
                digest.update(piece)
        return digest.hexdigest()

    def head(self, size: int) -> bytes:
        """Its first bytes."""
        with closing(self.open()) as file:
            return file.read(size)

    def _size(self) -> int | None:
        if self._path is not None:
            with closing(_opened(self._path)) as file:
                return os.fstat(file.fileno()).st_size
        if self._stream is None or self._begin is None:
            return None
        end = self._stream.seek(0, io.SEEK_END)
        self._stream.seek(self._begin)
        return end - self._begin


class _Lent:
    """A stream of somebody else's, which closing leaves open."""

    def __init__(self, stream: BinaryIO) -> None:
        self.read = stream.read

    def close(self) -> None:
        """Nothing."""


def _stream(source: object) -> BinaryIO:
    if isinstance(source, bytes | bytearray | memoryview):
        return io.BytesIO(source)
    if isinstance(source, io.TextIOBase) or not hasattr(source, "read"):
        raise InvalidRequestError("A source is a path, bytes, or a stream opened for reading bytes.")
    return cast("BinaryIO", source)


def _position(stream: BinaryIO | None) -> int | None:
    """Where it stands; None for one that cannot be rewound."""
    try:
        return stream.tell() if stream is not None and stream.seekable() else None
    except (AttributeError, OSError):
        return None


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except FileNotFoundError as error:
        raise NotFoundError(f"There is no file {path}.") from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InvalidRequestError(f"The file {path} cannot be read: {reason}.") from error


class Body:
    """
    The body of one request, read piece by piece while it is sent, and anew for each attempt.

    Args:
        content: the file.
        head, tail: what stands before and behind it.
        on_progress: is told of each piece that was taken.
    """

    def __init__(
        self,
        content: Content,
        *,
        head: bytes = b"",
        tail: bytes = b"",
        on_progress: OnProgress | None = None,
    ) -> None:
        self._content = content
        self._head = head
        self._tail = tail
        self._on_progress = on_progress

    @property
    def size(self) -> int | None:
        """In bytes, where that can be told beforehand."""
        size = self._content.size
        return None if size is None else len(self._head) + size + len(self._tail)

    @property
    def is_repeatable(self) -> bool:
        """Whether it can be sent (again)."""
        return self._content.is_repeatable

    def pieces(self) -> Generator[tuple[bytes, int], None, None]:
        """All of it in its order, each piece with how much of the file is sent once it is taken."""
        yield self._head, 0
        sent, size = 0, self._content.size
        with closing(self._content.open()) as file:
            while piece := _read(file, PIECE_BYTES if size is None else min(PIECE_BYTES, size - sent)):
                sent += len(piece)
                yield piece, sent
        if size is not None and sent < size:
            raise InvalidRequestError("The file became shorter while it was sent.")
        yield self._tail, sent

    def tell(self, piece: bytes, sent: int) -> None:
        """Say that a piece was taken."""
        if self._on_progress and sent and piece is not self._tail:
            self._on_progress(sent, self._content.size)


def _read(file: BinaryIO, size: int) -> bytes:
    try:
        return file.read(size) if size else b""
    except OSError as error:
        raise InvalidRequestError(f"The source cannot be read: {error.strerror or error}.") from error


def form_body(
    content: Content, fields: Mapping[str, str], on_progress: OnProgress | None
) -> tuple[Body, str]:
    """A multipart form (RFC 7578) with the file last, as `file`, and its Content-Type."""
    boundary = secrets.token_hex(16)
    parts = "".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    )
    file = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="upload"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    body = Body(
        content,
        head=(parts + file).encode(errors="replace"),
        tail=f"\r\n--{boundary}--\r\n".encode(),
        on_progress=on_progress,
    )
    return body, f"multipart/form-data; boundary={boundary}"
