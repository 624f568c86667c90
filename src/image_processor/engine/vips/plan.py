"""From operations to steps with exact sizes, before any pixel is decoded. Pure: no pyvips here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

from image_processor.engine.vips.geometry import Cut, Mirror, Pad, Scale, Size, Step, Turn
from image_processor.errors import InvalidRequestError
from image_processor.pipeline import (
    Crop,
    Fit,
    Flip,
    Flop,
    ImageFormat,
    Limits,
    Pipeline,
    Resize,
    Rotate,
    Variant,
)
from image_processor.pipeline.limits import MEGAPIXEL
from image_processor.pipeline.outputs import FixedOutput, resolve_output

LONGEST_SIDES: Mapping[str, int] = {"webp": 16_383, "jpeg": 65_500}
"""The longest side that a format (WebP) or its encoder (libjpeg) can write, in pixels."""
LONGEST_SCALED_SIDE = 10_000_000
"""What libvips calculates with at most, in pixels; reached only by slivers that are enlarged to cover."""
CLEAN_SHRINK = 2
"""A second resampling is not seen where it shrinks at least so many times."""


@dataclass(frozen=True)
class PlannedVariant:
    """The steps that lead from the upright original to one variant, and the size it will have."""

    name: str
    output: FixedOutput
    never_larger: bool
    steps: tuple[Step, ...]
    size: Size

    @property
    def format(self) -> ImageFormat:
        """The format of the file."""
        return ImageFormat(self.output.format)

    @property
    def file_name(self) -> str:
        """The name of the file inside the output directory."""
        return f"{self.name}.{self.format.extension}"

    def start(self, original: Size) -> Size:
        """The size that is enough of the original: that of a leading shrink, or all of it."""
        first = self.steps[0] if self.steps else None
        return first.size if isinstance(first, Scale) and first.size.fits(original) else original


@dataclass(frozen=True)
class Plan:
    """What will be made of an original of this size (upright, one frame)."""

    original: Size
    variants: tuple[PlannedVariant, ...]

    @property
    def is_animated(self) -> bool:
        """Whether any variant can hold more than one frame."""
        return any(variant.format is ImageFormat.WEBP for variant in self.variants)

    @property
    def largest_start(self) -> Size:
        """The size that holds what every variant starts from."""
        return reduce(Size.join, self._starts)

    @property
    def is_scaled_at_once(self) -> bool:
        """Whether the original can be brought to `largest_start` at once, without a visible loss."""
        largest = self.largest_start
        return all(start == largest or start.times(CLEAN_SHRINK).fits(largest) for start in self._starts)

    @property
    def _starts(self) -> tuple[Size, ...]:
        return tuple(variant.start(self.original) for variant in self.variants)


def make_plan(pipeline: Pipeline, source_format: ImageFormat, original: Size, limits: Limits) -> Plan:
    """
    The steps and sizes of all variants of an original of this size.

    Raises InvalidRequestError for a crop wholly outside, or a variant of more pixels than the limits allow.
    """
    variants = tuple(_plan_variant(variant, source_format, original) for variant in pipeline.variants)
    for variant in variants:
        _check_size(variant, limits)
    return Plan(original, variants)


def _plan_variant(variant: Variant, source_format: ImageFormat, original: Size) -> PlannedVariant:
    output = resolve_output(variant.output, source_format)
    steps: tuple[Step, ...] = ()
    for operation in variant.operations:
        steps = (*steps, *_STEPS[type(operation)](operation, size_after(steps, original)))
    steps = _within_format(_scale_first(_effective(steps, original)), output, original)
    return PlannedVariant(variant.name, output, variant.never_larger, steps, size_after(steps, original))


def size_after(steps: tuple[Step, ...], size: Size) -> Size:
    """The size that an image of `size` has after the steps."""
    for step in steps:
        size = step.result(size)
    return size


def _effective(steps: tuple[Step, ...], size: Size) -> tuple[Step, ...]:
    """Leave out the steps that change nothing."""
    kept: list[Step] = []
    for step in steps:
        if isinstance(step, Turn | Mirror) or step.result(size) != size:
            kept.append(step)
        size = step.result(size)
    return tuple(kept)


def _scale_first(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """A resize that follows turns and mirrors goes before them: the decoder can then shrink."""
    turns = next((at for at, step in enumerate(steps) if not isinstance(step, Turn | Mirror)), 0)
    scale = steps[turns] if turns else None
    if not isinstance(scale, Scale):
        return steps
    sideways = sum(isinstance(step, Turn) and step.degrees != 180 for step in steps[:turns]) % 2
    moved = Scale(scale.size.turned()) if sideways else scale
    return (moved, *steps[:turns], *steps[turns + 1 :])


def _within_format(steps: tuple[Step, ...], output: FixedOutput, original: Size) -> tuple[Step, ...]:
    longest = LONGEST_SIDES.get(output.format)
    size = size_after(steps, original)
    if longest is None or size.fits(Size(longest, longest)):
        return steps
    scale = Scale(_inside(size, longest, longest))
    return (*steps[:-1], scale) if steps and isinstance(steps[-1], Scale) else (*steps, scale)


def _check_size(variant: PlannedVariant, limits: Limits) -> None:
    if variant.size.pixels > limits.max_pixels:
        raise InvalidRequestError(
            f"The variant {variant.name!r} would have {variant.size.pixels / MEGAPIXEL:.0f} megapixels; "
            f"at most {limits.max_pixels / MEGAPIXEL:.0f} are allowed."
        )
    if any(
        max(step.size.width, step.size.height) > LONGEST_SCALED_SIDE
        for step in variant.steps
        if isinstance(step, Scale)
    ):
        raise InvalidRequestError(f"The image is too narrow to be enlarged to the variant {variant.name!r}.")


def _crop(operation: Crop, size: Size) -> tuple[Step, ...]:
    if operation.x >= size.width or operation.y >= size.height:
        raise InvalidRequestError(
            f"The region at {operation.x}, {operation.y} lies outside the image "
            f"of {size.width} x {size.height} pixels."
        )
    rest = Size(size.width - operation.x, size.height - operation.y)
    return (Cut(operation.x, operation.y, rest.meet(Size(operation.width, operation.height))),)


def _rotate(operation: Rotate, _size: Size) -> tuple[Step, ...]:
    return (Turn(operation.degrees),)


def _flip(_operation: Flip, _size: Size) -> tuple[Step, ...]:
    return (Mirror(upside_down=True),)


def _flop(_operation: Flop, _size: Size) -> tuple[Step, ...]:
    return (Mirror(upside_down=False),)


def _resize(operation: Resize, size: Size) -> tuple[Step, ...]:
    return _FITS[operation.fit](operation, size)


def _exact_steps(operation: Resize, size: Size) -> tuple[Step, ...]:
    wanted = _box(operation, size)
    return (Scale(wanted if operation.allow_enlarge else wanted.meet(size)),)


def _inside_steps(operation: Resize, size: Size) -> tuple[Step, ...]:
    return (Scale(_inside(size, operation.width, operation.height, allow_enlarge=operation.allow_enlarge)),)


def _cover_steps(operation: Resize, size: Size) -> tuple[Step, ...]:
    """As sharp's `withoutEnlargement`: a smaller image keeps its scale and is cut where it is too long."""
    wanted = _box(operation, size)
    scaled = _cover(size, wanted, allow_enlarge=operation.allow_enlarge)
    kept = scaled.meet(wanted)
    # An odd pixel is cut off at the left and at the top, as sharp does.
    x, y = (scaled.width - kept.width + 1) // 2, (scaled.height - kept.height + 1) // 2
    return Scale(scaled), Cut(x, y, kept)


def _pad_steps(operation: Resize, size: Size) -> tuple[Step, ...]:
    canvas = _box(operation, size)
    scaled = _inside(size, canvas.width, canvas.height, allow_enlarge=operation.allow_enlarge)
    x, y = (canvas.width - scaled.width) // 2, (canvas.height - scaled.height) // 2
    return Scale(scaled), Pad(x, y, canvas, operation.background)


def _box(operation: Resize, size: Size) -> Size:
    return Size(operation.width or size.width, operation.height or size.height)


def _inside(size: Size, width: int | None, height: int | None, *, allow_enlarge: bool = False) -> Size:
    by_width = height is None or (width is not None and width * size.height <= height * size.width)
    wanted, have = (width, size.width) if by_width else (height, size.height)
    if wanted is None or (wanted >= have and not allow_enlarge):
        return size
    return size.scaled(wanted, have)


def _cover(size: Size, box: Size, *, allow_enlarge: bool) -> Size:
    by_width = box.width * size.height >= box.height * size.width
    wanted, have = (box.width, size.width) if by_width else (box.height, size.height)
    return size if wanted >= have and not allow_enlarge else size.scaled(wanted, have)


_FITS: Mapping[Fit, Callable[[Resize, Size], tuple[Step, ...]]] = {
    Fit.EXACT: _exact_steps,
    Fit.INSIDE: _inside_steps,
    Fit.COVER: _cover_steps,
    Fit.PAD: _pad_steps,
}
_STEPS: Mapping[type, Callable[[Any, Size], tuple[Step, ...]]] = {
    Resize: _resize,
    Crop: _crop,
    Rotate: _rotate,
    Flip: _flip,
    Flop: _flop,
}
