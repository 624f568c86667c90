"""What a child claims of an original, held against the file and against what was asked."""

from collections.abc import Callable

from image_processor.engine.base import Facts, InspectRequest
from image_processor.engine.claims import FalseClaimError

ROUNDING = 0.01
"""By which the shares of a palette may exceed the whole."""


def check_facts(facts: Facts, request: InspectRequest) -> None:
    """
    Raises FalseClaimError unless the facts can be true of this file and answer this request.

    That each is of its form and in its range, is seen to where the answer is read.
    """
    for check in _CHECKS:
        check(facts, request)


def _check_format(facts: Facts, request: InspectRequest) -> None:
    if (facts.format, facts.media_type) != (request.source_format, request.source_format.media_type):
        raise FalseClaimError(f"it is about a file of another format than {request.source_format.label}")


def _check_size(facts: Facts, request: InspectRequest) -> None:
    limits = request.limits
    sides = (facts.width, facts.height)
    pixels = facts.width * facts.height * facts.frames
    if max(sides) > limits.max_side or min(sides) < limits.min_side or pixels > limits.max_pixels:
        raise FalseClaimError(f"an original of {facts.width} x {facts.height} pixels")
    if facts.frames > limits.max_frames:
        raise FalseClaimError(f"{facts.frames} frames")


def _check_bytes(facts: Facts, request: InspectRequest) -> None:
    try:
        size = request.source.stat().st_size
    except OSError as error:
        raise FalseClaimError("the original is not there") from error
    if facts.size_bytes != size:
        raise FalseClaimError(f"an original of {facts.size_bytes} bytes that has {size}")


def _check_answers(facts: Facts, request: InspectRequest) -> None:
    """A palette may be empty: there are pictures in which nothing can be seen."""
    for name in ("dominant_color", "blurhash", "thumbhash"):
        if (getattr(facts, name) is not None) != getattr(request, name):
            raise FalseClaimError(f"it does not answer what was asked: {name}")
    if len(facts.palette) > request.palette:
        raise FalseClaimError(f"{len(facts.palette)} colours instead of {request.palette}")
    if sum(color.share for color in facts.palette) > 1 + ROUNDING:
        raise FalseClaimError("the shares of the palette exceed the whole")


def _check_place(facts: Facts, request: InspectRequest) -> None:
    if facts.exif and facts.exif.gps and not (request.gps and facts.exif.has_gps):
        raise FalseClaimError("it tells a place that nobody asked for")


_CHECKS: tuple[Callable[[Facts, InspectRequest], None], ...] = (
    _check_format,
    _check_size,
    _check_bytes,
    _check_answers,
    _check_place,
)
