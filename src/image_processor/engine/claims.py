"""What a child claims, held against the plan and the disk: a decoder may have been taken over."""

import os
import re
import stat
from pathlib import Path

from image_processor.engine import wire
from image_processor.engine.base import RenderedVariant, Rendering, RenderRequest
from image_processor.engine.vips.geometry import Size
from image_processor.engine.vips.plan import PlannedVariant, make_plan
from image_processor.engine.vips.trimmed import with_crops
from image_processor.errors import (
    CorruptImageError,
    EngineError,
    FileTooLargeError,
    ImageProcessorError,
    ImageTooLargeError,
    ImageTooSmallError,
    InvalidOperationError,
    InvalidRequestError,
    MissingExtraError,
    StorageFullError,
    UnsupportedFormatError,
)

_MAY_BE_NAMED: dict[str, type[ImageProcessorError]] = {
    error.code: error
    for error in (
        CorruptImageError,
        FileTooLargeError,
        ImageTooLargeError,
        ImageTooSmallError,
        InvalidOperationError,
        InvalidRequestError,
        MissingExtraError,
        StorageFullError,
        UnsupportedFormatError,
    )
}
_COLOR = re.compile(r"#[0-9A-F]{6}")


class FalseClaimError(ValueError):
    """The answer cannot be true."""


def named_error(failed: wire.Failed) -> ImageProcessorError:
    """The error that the child names; one that it has no business to raise becomes EngineError."""
    kind = _MAY_BE_NAMED.get(failed.code, EngineError)
    return kind("".join(character if character.isprintable() else " " for character in failed.message))


def check_rendering(rendering: Rendering, request: RenderRequest) -> None:
    """Raises FalseClaimError unless it is what the plan announces, with plain files where they belong."""
    if not _COLOR.fullmatch(rendering.dominant_color):
        raise FalseClaimError("the dominant colour is none")
    planned = _plan(rendering, request)
    if len(planned) != len(rendering.variants):
        raise FalseClaimError(f"{len(rendering.variants)} variants instead of {len(planned)}")
    for plan, variant in zip(planned, rendering.variants, strict=True):
        _check_variant(variant, plan, request.output_directory, rendering.frames)


def _plan(rendering: Rendering, request: RenderRequest) -> tuple[PlannedVariant, ...]:
    limits = request.limits
    if not (1 <= rendering.frames <= limits.max_frames):
        raise FalseClaimError(f"{rendering.frames} frames")
    if not (1 <= rendering.width <= limits.max_side and 1 <= rendering.height <= limits.max_side):
        raise FalseClaimError(f"an original of {rendering.width} x {rendering.height} pixels")
    size = Size(rendering.width, rendering.height)
    crops = {variant.name: variant.trims for variant in rendering.variants}
    try:
        pipeline = with_crops(request.pipeline, crops)
        return make_plan(pipeline, request.source_format, size, limits).variants
    except (InvalidRequestError, ValueError) as error:
        raise FalseClaimError(f"an original that cannot lead to these variants: {error}") from error


def _check_variant(variant: RenderedVariant, plan: PlannedVariant, directory: Path, frames: int) -> None:
    announced = (plan.name, plan.format, plan.size, directory / plan.file_name)
    claimed = (variant.name, variant.format, Size(variant.width, variant.height), variant.path)
    if claimed != announced:
        raise FalseClaimError(f"the variant {plan.name!r} is not as announced")
    if variant.frames not in {1, frames}:
        raise FalseClaimError(f"the variant {plan.name!r} has {variant.frames} frames of {frames}")
    if not all(note.isprintable() for note in variant.notes):
        raise FalseClaimError(f"the variant {plan.name!r} has a note that is no sentence")
    _check_file(plan.name, variant)


def _check_file(name: str, variant: RenderedVariant) -> None:
    try:
        found = os.lstat(variant.path)
    except OSError as error:
        raise FalseClaimError(f"the file of the variant {name!r} is not there") from error
    # A second link could be to somebody's file elsewhere.
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
        raise FalseClaimError(f"the file of the variant {name!r} is no plain file")
    if found.st_size != variant.size_bytes or found.st_size == 0:
        raise FalseClaimError(f"the file of the variant {name!r} has {found.st_size} bytes")
