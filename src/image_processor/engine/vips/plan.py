"""From operations to steps with exact sizes, before any pixel is decoded. Pure: no pyvips here."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import reduce

from image_processor.engine.vips.geometry import Mirror, Pad, Paint, Scale, Size, Spin, Step, Turn
from image_processor.engine.vips.translate import inside, note_of, steps_of
from image_processor.errors import InvalidOperationError
from image_processor.pipeline import (
    FixedOutput,
    ImageFormat,
    Limits,
    Metadata,
    Optimize,
    Pipeline,
    Profile,
    Variant,
)
from image_processor.pipeline.limits import MEGAPIXEL
from image_processor.pipeline.outputs import resolve_output

LONGEST_SIDES: Mapping[str, int] = {"webp": 16_383, "jpeg": 65_500, "avif": 16_384, "gif": 65_535}
"""The longest side that a format (WebP, GIF) or its encoder (libjpeg, libheif) can write, in pixels."""
ANIMATED_FORMATS = frozenset({ImageFormat.WEBP, ImageFormat.GIF})
"""What can be written with more than one frame."""
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
    metadata: Metadata
    optimize: Optimize
    steps: tuple[Step, ...]
    size: Size
    notes: tuple[str, ...] = ()
    """What the caller should know of how the operations were understood."""

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
        if isinstance(first, Scale) and not first.is_linear and first.size.fits(original):
            return first.size
        return original


@dataclass(frozen=True)
class Plan:
    """What will be made of an original of this size (upright, one frame)."""

    original: Size
    variants: tuple[PlannedVariant, ...]
    profile: Profile = Profile.SRGB

    @property
    def is_animated(self) -> bool:
        """Whether any variant can hold more than one frame."""
        return any(variant.format in ANIMATED_FORMATS for variant in self.variants)

    @property
    def is_linear(self) -> bool:
        """Whether any size is changed in linear light."""
        return any(isinstance(step, Scale) and step.is_linear for v in self.variants for step in v.steps)

    @property
    def largest_start(self) -> Size:
        """The size that holds what every variant starts from."""
        return reduce(Size.join, self._starts)

    @property
    def is_scaled_at_once(self) -> bool:
        """Whether the original can be brought to `largest_start` at once, without a visible loss."""
        largest = self.largest_start
        return all(start == largest or is_clean_shrink(largest, start) for start in self._starts)

    @property
    def _starts(self) -> tuple[Size, ...]:
        return tuple(variant.start(self.original) for variant in self.variants)


def is_clean_shrink(larger: Size, smaller: Size) -> bool:
    """Whether the smaller can be made of the larger, itself made by resampling, without a visible loss."""
    # A side that was rounded down twice as long as the other is a pixel short.
    wanted = Size(CLEAN_SHRINK * smaller.width - 1, CLEAN_SHRINK * smaller.height - 1)
    return wanted.fits(larger)


def make_plan(pipeline: Pipeline, source_format: ImageFormat, original: Size, limits: Limits) -> Plan:
    """
    The steps and sizes of all variants of an original of this size.

    Raises InvalidOperationError for a crop wholly outside, or more pixels than the limits allow.
    """
    variants = tuple(_plan_variant(variant, source_format, original) for variant in pipeline.variants)
    for variant in variants:
        _check_size(variant, limits)
    if pipeline.linear_light:
        variants = tuple(replace(variant, steps=_in_linear_light(variant.steps)) for variant in variants)
    return Plan(original, variants, pipeline.profile)


def _plan_variant(variant: Variant, source_format: ImageFormat, original: Size) -> PlannedVariant:
    output = resolve_output(variant.output, source_format)
    steps: tuple[Step, ...] = ()
    notes: list[str] = []
    for operation in variant.operations:
        size = size_after(steps, original)
        steps = (*steps, *steps_of(operation, size))
        notes += filter(None, [note_of(operation, size)])
    steps = _within_format(_scale_first(_effective(steps, original)), output, original)
    return PlannedVariant(
        name=variant.name,
        output=output,
        never_larger=variant.never_larger,
        metadata=variant.metadata,
        optimize=variant.optimize,
        steps=steps,
        size=size_after(steps, original),
        notes=tuple(notes),
    )


def _in_linear_light(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    return tuple(replace(step, is_linear=True) if isinstance(step, Scale) else step for step in steps)


def size_after(steps: tuple[Step, ...], size: Size) -> Size:
    """The size that an image of `size` has after the steps."""
    for step in steps:
        size = step.result(size)
    return size


def _effective(steps: tuple[Step, ...], size: Size) -> tuple[Step, ...]:
    """Leave out the steps that change nothing."""
    kept: list[Step] = []
    for step in steps:
        if isinstance(step, Turn | Spin | Mirror | Paint) or step.result(size) != size:
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
    scale = Scale(inside(size, longest, longest))
    return (*steps[:-1], scale) if steps and isinstance(steps[-1], Scale) else (*steps, scale)


def _check_size(variant: PlannedVariant, limits: Limits) -> None:
    canvases = [step.size for step in variant.steps if isinstance(step, Pad | Spin)]
    largest = max((variant.size, *canvases), key=lambda size: size.pixels)
    if largest.pixels > limits.max_pixels:
        raise InvalidOperationError(
            f"The variant {variant.name!r} would have {largest.pixels / MEGAPIXEL:.0f} megapixels; "
            f"at most {limits.max_pixels / MEGAPIXEL:.0f} are allowed."
        )
    if any(
        max(step.size.width, step.size.height) > LONGEST_SCALED_SIDE
        for step in variant.steps
        if isinstance(step, Scale)
    ):
        raise InvalidOperationError(
            f"The image is too narrow to be enlarged to the variant {variant.name!r}."
        )
