"""The engine protocol and the values that cross it. Nothing here decodes."""

from pathlib import Path
from typing import Protocol

from image_processor.pipeline import ImageFormat, Limits, Pipeline
from image_processor.pipeline.value import Value


class RenderRequest(Value):
    """One original and what to make of it."""

    source: Path
    """The original, as a file that only the engine opens."""
    source_format: ImageFormat
    """What intake found by its magic bytes; the engine uses that format's decoder and no other."""
    pipeline: Pipeline
    output_directory: Path
    """An empty, existing directory; the engine writes one file per variant into it."""
    limits: Limits


class RenderedVariant(Value):
    """One produced file."""

    name: str
    path: Path
    format: ImageFormat
    width: int
    """Pixels, after orientation."""
    height: int
    """Pixels of one frame, after orientation."""
    frames: int = 1
    size_bytes: int
    sha256: str
    """Hexadecimal, of the file's bytes."""


class Rendering(Value):
    """What one decode gave: the facts of the original and all its variants."""

    width: int
    """Pixels of the original, after orientation."""
    height: int
    """Pixels of one frame of the original, after orientation."""
    frames: int = 1
    dominant_color: str
    """`#RRGGBB` in sRGB."""
    variants: tuple[RenderedVariant, ...]
    """In the order of the pipeline."""


class Engine(Protocol):
    """Turns one original into all its variants."""

    def render(self, request: RenderRequest, *, deadline_seconds: float) -> Rendering:
        """
        Make every variant of `request` from one decode.

        Raises:
            UnsupportedFormatError: the bytes are not what `source_format` says, or cannot be decoded here.
            CorruptImageError: truncated or damaged.
            ImageTooLargeError: over `request.limits`, checked before the decode.
            EngineTimeoutError: `deadline_seconds` (wall clock) passed.
            EngineCrashedError: the process that decodes died.
        """
        ...

    def interrupt(self) -> None:
        """Stop a render that runs in another thread, at once; it raises EngineCrashedError. Idle: nothing."""
        ...

    def close(self) -> None:
        """Give back what the engine holds; it is not used afterwards."""
        ...
