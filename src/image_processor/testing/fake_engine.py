"""An engine without pixels: reads headers, plans, writes small files. For tests of what stands above."""

import hashlib
import threading
from collections.abc import Mapping
from pathlib import Path

from image_processor.engine.base import RenderedVariant, Rendering, RenderRequest
from image_processor.engine.vips.geometry import Size
from image_processor.engine.vips.plan import PlannedVariant, make_plan
from image_processor.errors import (
    CorruptImageError,
    EngineCrashedError,
    EngineTimeoutError,
    FileTooLargeError,
    ImageProcessorError,
    UnsupportedFormatError,
)
from image_processor.intake.probe import Header, check_limits, probe
from image_processor.intake.sniff import SNIFF_BYTES, sniff
from image_processor.pipeline import ImageFormat

ENDINGS: Mapping[ImageFormat, bytes] = {ImageFormat.JPEG: b"\xff\xd9", ImageFormat.PNG: b"IEND\xaeB`\x82"}
"""What a whole file of a format ends with."""


class FakeEngine:
    """
    Answers as an engine does, with real sizes and made-up bytes; takes no notice of EXIF's orientation.

    Args:
        error: raised by every render, after it was noted in `requests`.
        is_held: whether renders wait until `release`; the deadline and `interrupt` still hold.
    """

    def __init__(self, *, error: ImageProcessorError | None = None, is_held: bool = False) -> None:
        self.requests: list[RenderRequest] = []
        """All that was asked, oldest first."""
        self.is_closed = False
        self.has_started = threading.Event()
        """Set once a render waits, or has gone on."""
        self._error = error
        self._is_held = is_held
        self._turn = threading.Condition()
        self._is_rendering = False
        self._is_interrupted = False

    def render(self, request: RenderRequest, *, deadline_seconds: float) -> Rendering:
        """What `Engine.render` promises, but for the pixels."""
        self.requests.append(request)
        self._wait_for_release(deadline_seconds)
        if self._error:
            raise self._error
        header = _read_header(request)
        plan = make_plan(
            request.pipeline, request.source_format, Size(header.width, header.height), request.limits
        )
        return Rendering(
            width=header.width,
            height=header.height,
            frames=header.frames,
            dominant_color="#808080",
            variants=tuple(_write(variant, header, request.output_directory) for variant in plan.variants),
        )

    def interrupt(self) -> None:
        """End the wait of a render that is held."""
        with self._turn:
            self._is_interrupted |= self._is_rendering
            self._turn.notify_all()

    def close(self) -> None:
        """Note that it was closed."""
        self.is_closed = True

    def release(self) -> None:
        """Let the renders go on that wait, and all that follow."""
        with self._turn:
            self._is_held = False
            self._turn.notify_all()

    def _wait_for_release(self, deadline_seconds: float) -> None:
        with self._turn:
            self._is_rendering, self._is_interrupted = True, False
            self.has_started.set()
            in_time = self._turn.wait_for(self._may_go_on, timeout=deadline_seconds)
            self._is_rendering = False
        if self._is_interrupted:
            raise EngineCrashedError("The process that decodes died: it was interrupted.")
        if not in_time:
            raise EngineTimeoutError("The image was not done in time; the work on it was stopped.")

    def _may_go_on(self) -> bool:
        return self._is_interrupted or not self._is_held


def _read_header(request: RenderRequest) -> Header:
    data = request.source.read_bytes()
    if sniff(data[:SNIFF_BYTES]) is not request.source_format:
        raise UnsupportedFormatError(f"The file is not {request.source_format.label}.")
    if len(data) > request.limits.max_bytes:
        raise FileTooLargeError(f"The file has {len(data)} bytes.")
    if not data.endswith(ENDINGS.get(request.source_format, b"")):
        raise CorruptImageError("The image is damaged or cut off: its end is missing.")
    with request.source.open("rb") as file:
        header = probe(file, request.source_format, len(data))
    check_limits(header, request.limits)
    return header


def _write(variant: PlannedVariant, header: Header, directory: Path) -> RenderedVariant:
    path = directory / variant.file_name
    content = f"{variant.name} {variant.format} {variant.size.width}x{variant.size.height}".encode()
    path.write_bytes(content)
    return RenderedVariant(
        name=variant.name,
        path=path,
        format=variant.format,
        width=variant.size.width,
        height=variant.size.height,
        frames=header.frames if variant.format is ImageFormat.WEBP else 1,
        size_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
    )
