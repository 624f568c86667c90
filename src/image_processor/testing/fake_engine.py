"""An engine without pixels: reads headers, plans, writes small files. For tests of what stands above."""

import hashlib
import threading
from collections.abc import Mapping
from pathlib import Path

from image_processor.engine.base import (
    ColorSpace,
    Facts,
    InspectRequest,
    OnProgress,
    Original,
    PaletteColor,
    RenderedVariant,
    Rendering,
    RenderRequest,
)
from image_processor.engine.vips.exif_facts import PREFIX, read_exif, read_orientation, within
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
COLOR = "#808080"
BLURHASH = "L6D]{1fQfQfQ_Nj[fQj[fQfQfQfQ"
THUMBHASH = "IAgCBQAAAAAAAAAAAAAAAAAAAAAAAAAA"
FIRST_ON_ITS_SIDE = 5
PNG_COLOR_TYPE_AT, PNG_TYPES_WITH_ALPHA = 25, (4, 6)


class FakeEngine:
    """
    Answers as an engine does, with real sizes and made-up bytes and colours.

    Args:
        error: raised by every render and inspection, after it was noted in `requests`.
        is_held: whether they wait until `release`; the deadline and `interrupt` still hold.
    """

    def __init__(self, *, error: ImageProcessorError | None = None, is_held: bool = False) -> None:
        self.requests: list[RenderRequest | InspectRequest] = []
        """All that was asked, oldest first."""
        self.is_closed = False
        self.has_started = threading.Event()
        """Set once a job waits, or has gone on."""
        self._error = error
        self._is_held = is_held
        self._turn = threading.Condition()
        self._is_at_work = False
        self._is_interrupted = False

    def render(
        self, request: RenderRequest, *, deadline_seconds: float, on_progress: OnProgress | None = None
    ) -> Rendering:
        """What `Engine.render` promises, but for the pixels; each variant is an equal share of the work."""
        self._begin(request, deadline_seconds)
        header = _upright(_read_header(request), request)
        plan = make_plan(
            request.pipeline, request.source_format, Size(header.width, header.height), request.limits
        )
        variants = []
        for variant in plan.variants:
            variants.append(_write(variant, header, request.output_directory))
            if on_progress:
                on_progress(len(variants) / len(plan.variants))
        return Rendering(
            width=header.width,
            height=header.height,
            frames=header.frames,
            dominant_color=COLOR,
            variants=tuple(variants),
        )

    def inspect(self, request: InspectRequest, *, deadline_seconds: float) -> Facts:
        """What `Engine.inspect` promises, as far as headers tell; every picture is of one grey."""
        self._begin(request, deadline_seconds)
        stored = _read_header(request)
        header = _upright(stored, request)
        return Facts(
            format=request.source_format,
            media_type=request.source_format.media_type,
            size_bytes=request.source.stat().st_size,
            width=header.width,
            height=header.height,
            orientation=_orientation(request),
            frames=header.frames,
            has_alpha=_has_alpha(request),
            color_space=ColorSpace.RGB,
            exif=read_exif(within(_exif_block(request)), with_gps=request.gps),
            dominant_color=COLOR if request.dominant_color else None,
            palette=(PaletteColor(color=COLOR, share=1),) if request.palette else (),
            blurhash=BLURHASH if request.blurhash else None,
            thumbhash=THUMBHASH if request.thumbhash else None,
        )

    def interrupt(self) -> None:
        """End the wait of a job that is held."""
        with self._turn:
            self._is_interrupted |= self._is_at_work
            self._turn.notify_all()

    def close(self) -> None:
        """Note that it was closed."""
        self.is_closed = True

    def release(self) -> None:
        """Let the jobs go on that wait, and all that follow."""
        with self._turn:
            self._is_held = False
            self._turn.notify_all()

    def _begin(self, request: RenderRequest | InspectRequest, deadline_seconds: float) -> None:
        self.requests.append(request)
        self._wait_for_release(deadline_seconds)
        if self._error:
            raise self._error

    def _wait_for_release(self, deadline_seconds: float) -> None:
        with self._turn:
            self._is_at_work, self._is_interrupted = True, False
            self.has_started.set()
            in_time = self._turn.wait_for(self._may_go_on, timeout=deadline_seconds)
            self._is_at_work = False
        if self._is_interrupted:
            raise EngineCrashedError("The process that decodes died: it was interrupted.")
        if not in_time:
            raise EngineTimeoutError("The image was not done in time; the work on it was stopped.")

    def _may_go_on(self) -> bool:
        return self._is_interrupted or not self._is_held


def _read_header(request: Original) -> Header:
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


def _upright(header: Header, request: Original) -> Header:
    if _orientation(request) < FIRST_ON_ITS_SIDE:
        return header
    return header.model_copy(update={"width": header.height, "height": header.width})


def _orientation(request: Original) -> int:
    return read_orientation(within(_exif_block(request)))


def _exif_block(request: Original) -> bytes:
    """All from the first EXIF block of a JPEG on; nothing where there is none."""
    _, prefix, block = request.source.read_bytes().partition(PREFIX)
    return block if prefix and request.source_format is ImageFormat.JPEG else b""


def _has_alpha(request: Original) -> bool:
    data = request.source.read_bytes()
    return request.source_format is ImageFormat.PNG and data[PNG_COLOR_TYPE_AT] in PNG_TYPES_WITH_ALPHA


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
