"""Where libvips' errors become ours: one place for decoding, one for writing."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyvips

from image_processor.engine.vips.setup import forget_errors
from image_processor.errors import (
    CorruptImageError,
    EngineError,
    StorageFullError,
    UnsupportedFormatError,
    is_disk_full,
)

MAX_REASON_LENGTH = 200
_OUT_OF_MEMORY = re.compile(
    r"out of memory|insufficient memory|(cannot|failed to) allocate|error creating thread"
    r"|picture memory error|memory allocation error(?!: security limit)|unable to encode",
    re.IGNORECASE,
)
"""
As libvips and its libraries say it. "unable to encode" is what libvips makes of every error of libwebp's
encoder; as the sizes are checked before, what is left of them is a lack of memory. A security limit is
the file's fault.
"""
_NO_DECODER = re.compile(r"not configured|not supported|unsupported|no decod", re.IGNORECASE)
_LOADER = re.compile(r"^\w+: ")
_DISK_FULL = re.compile(r"no space left|disk quota", re.IGNORECASE)
_NO_ROOM = "There is no room left to write the variants."


@contextmanager
def decoding(source: Path) -> Iterator[None]:
    """What fails inside is the image's fault: CorruptImageError, UnsupportedFormatError; or MemoryError."""
    forget_errors()
    try:
        yield
    except pyvips.Error as error:
        _raise_if_out_of_memory(error)
        reason = _reason(error, source)
        if _NO_DECODER.search(reason):
            raise UnsupportedFormatError(
                f"The image is coded in a way that cannot be decoded here: {reason}."
            ) from error
        raise CorruptImageError(f"The image is damaged or cut off: {reason}.") from error


@contextmanager
def writing(target: Path) -> Iterator[None]:
    """What fails inside is not the image's fault: StorageFullError, EngineError; or MemoryError."""
    forget_errors()
    try:
        yield
    except pyvips.Error as error:
        _raise_if_out_of_memory(error)
        if _DISK_FULL.search(str(error)):
            raise StorageFullError(_NO_ROOM) from error
        raise EngineError(f"The variant could not be written: {_reason(error, target)}.") from error
    except OSError as error:  # what libvips made in memory is written by ourselves
        if is_disk_full(error):
            raise StorageFullError(_NO_ROOM) from error
        raise


@contextmanager
def within_memory() -> Iterator[None]:
    """Between decoding and writing: MemoryError where memory runs out; all else that fails is as it was."""
    try:
        yield
    except pyvips.Error as error:
        _raise_if_out_of_memory(error)
        raise


def is_out_of_memory(said: str) -> bool:
    """Whether a library's message is about a lack of memory."""
    return bool(_OUT_OF_MEMORY.search(said))


def _raise_if_out_of_memory(error: pyvips.Error) -> None:
    if is_out_of_memory(str(error)):
        raise MemoryError(str(error)) from error


def _reason(error: pyvips.Error, path: Path) -> str:
    """The first line that libvips gives as a cause, without path or name of the loader: users see it."""
    lines = [line.strip() for line in str(error.detail).splitlines() if line.strip()]
    reason = _LOADER.sub("", (lines or ["no reason given"])[0]).replace(str(path), "the file")
    return reason[:MAX_REASON_LENGTH].rstrip(".")
