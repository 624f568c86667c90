"""What is uploaded: bytes, a file or a stream, piece by piece, alone or in a multipart form."""

import io
import os
import secrets
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from image_processor.errors import InvalidRequestError, NotFoundError

PIECE_BYTES = 256 * 1024
OnProgress = Callable[[int, int | None], None]
"""Is told how many bytes of the files are sent, and how many there are; None where nobody can tell."""


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
        parts: the files, and the bytes that stand before, between and behind them.
        on_progress: is told of each piece of a file that was taken.
    """

    def __init__(self, *parts: bytes | Content, on_progress: OnProgress | None = None) -> None:
        self._parts = parts
        self._files = [part for part in parts if isinstance(part, Content)]
        self._on_progress = on_progress

    @property
    def size(self) -> int | None:
        """In bytes, where that can be told beforehand."""
        total = self.file_bytes
        return (
            None
            if total is None
            else total + sum(len(part) for part in self._parts if isinstance(part, bytes))
        )

    @property
    def file_bytes(self) -> int | None:
        """Of all files together, where that can be told beforehand."""
        total = 0
        for file in self._files:
            if file.size is None:
                return None
            total += file.size
        return total

    @property
    def is_repeatable(self) -> bool:
        """Whether it can be sent (again)."""
        return all(file.is_repeatable for file in self._files)

    def pieces(self) -> Generator[tuple[bytes, int | None], None, None]:
        """All of it in its order; with a piece of a file, how much of the files is sent once it is taken."""
        sent = 0
        for part in self._parts:
            if isinstance(part, bytes):
                yield part, None
                continue
            for piece in _pieces(part):
                sent += len(piece)
                yield piece, sent

    def tell(self, sent: int | None) -> None:
        """Say that a piece was taken."""
        if self._on_progress and sent is not None:
            self._on_progress(sent, self.file_bytes)


def _pieces(content: Content) -> Iterator[bytes]:
    """Those of a file. Raises InvalidRequestError where there are fewer bytes than were announced."""
    sent, size = 0, content.size
    with closing(content.open()) as file:
        while piece := _read(file, PIECE_BYTES if size is None else min(PIECE_BYTES, size - sent)):
            sent += len(piece)
            yield piece
    if size is not None and sent < size:
        raise InvalidRequestError("The file became shorter while it was sent.")


def _read(file: BinaryIO, size: int) -> bytes:
    try:
        return file.read(size) if size else b""
    except OSError as error:
        raise InvalidRequestError(f"The source cannot be read: {error.strerror or error}.") from error


def form_body(
    fields: Mapping[str, str], name: str, files: Sequence[Content], on_progress: OnProgress | None
) -> tuple[Body, str]:
    """A multipart form (RFC 7578) with the files last, each of that name, and its Content-Type."""
    boundary = secrets.token_hex(16)
    texts = "".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"\r\n\r\n{value}\r\n'
        for field, value in fields.items()
    )
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="upload"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    before = texts.encode(errors="replace")
    parts: list[bytes | Content] = []
    for file in files:
        parts += [before + head.encode(), file]
        before = b"\r\n"
    body = Body(*parts, before + f"--{boundary}--\r\n".encode(), on_progress=on_progress)
    return body, f"multipart/form-data; boundary={boundary}"
