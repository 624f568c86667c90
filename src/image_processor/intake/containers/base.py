"""What all containers share: the header they give, and a cursor that reads strangers' bytes within bounds."""

from typing import BinaryIO, Literal

from image_processor.errors import CorruptImageError, UnsupportedFormatError
from image_processor.pipeline import ImageFormat
from image_processor.pipeline.value import Value

MAX_STEPS = 100_000
"""Segments, chunks or blocks of one file; a 100 MB PNG in pieces of 8 KiB has 13 000."""
WINDOW_BYTES = 16 * 1024


class Header(Value):
    """What a file says of itself, without a decode."""

    width: int
    """Pixels as stored, before orientation."""
    height: int
    """Pixels of one frame as stored, before orientation."""
    frames: int = 1
    """Frames that would be decoded: 1 for an animated PNG, of which only the first image counts."""
    interlaced: bool = False
    """Whether it is stored coarse to fine: interlaced PNG and GIF, progressive JPEG."""


class Cursor:
    """
    A place in an image file that moves forwards only, never past the end, in a bounded number of steps.

    Every method raises CorruptImageError where the bytes do not hold what is asked of them.
    """

    def __init__(self, file: BinaryIO, image_format: ImageFormat, size_bytes: int) -> None:
        self.position = 0
        self._file = file
        self._format = image_format
        self._size_bytes = size_bytes
        self._window = b""
        self._window_at = 0
        self._steps = 0

    def take(self, count: int) -> bytes:
        """The next `count` bytes (at most `WINDOW_BYTES`)."""
        start = self.position - self._window_at
        if start + count > len(self._window):
            self._move_window(count)
            start = 0
        self.position += count
        return self._window[start : start + count]

    def byte(self) -> int:
        """The next byte."""
        start = self.position - self._window_at
        if start < len(self._window):
            self.position += 1
            return self._window[start]
        return self.take(1)[0]

    def number(self, count: int, order: Literal["big", "little"]) -> int:
        """The next `count` bytes as a number."""
        return int.from_bytes(self.take(count), order)

    def skip(self, count: int) -> None:
        """Pass over the next `count` bytes without reading them."""
        self.check_room(count)
        self.position += count

    def check_room(self, count: int) -> None:
        """Make sure that the file has so many bytes more."""
        if count > self._size_bytes - self.position:
            raise self.truncated()

    def step(self) -> None:
        """Count one segment, chunk or block."""
        self._steps += 1
        if self._steps > MAX_STEPS:
            raise self.damaged(f"it is made of more than {MAX_STEPS} parts")

    @property
    def end(self) -> int:
        """The position behind the last byte: the length of the file."""
        return self._size_bytes

    @property
    def is_at_end(self) -> bool:
        """Whether no byte is left."""
        return self.position >= self._size_bytes

    def damaged(self, what: str) -> CorruptImageError:
        """The error for a file whose headers make no sense; `what` ends its sentence."""
        return CorruptImageError(f"The {self._format.label} image is damaged: {what}.")

    def truncated(self) -> CorruptImageError:
        """The error for a file that ends too early."""
        return CorruptImageError(f"The {self._format.label} image is truncated: its end is missing.")

    def unsupported(self, what: str) -> UnsupportedFormatError:
        """The error for a sound file of a kind that cannot be decoded; `what` follows "This is"."""
        return UnsupportedFormatError(f"This is {what}, which is not supported.")

    def _move_window(self, count: int) -> None:
        wanted = min(WINDOW_BYTES, self._size_bytes - self.position)
        self._file.seek(self.position)
        window = self._file.read(max(wanted, 0))
        while 0 < len(window) < count and (more := self._file.read(wanted - len(window))):
            window += more
        if len(window) < count:
            raise self.truncated()
        self._window, self._window_at = window, self.position
