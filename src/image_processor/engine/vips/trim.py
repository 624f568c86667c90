"""Trims become crops: what they leave can only be seen in the pixels. docs/adr/0009."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import reduce

import pyvips

from image_processor.engine.vips.color import channels, expanded
from image_processor.engine.vips.failures import writing
from image_processor.engine.vips.geometry import Cut, Size
from image_processor.engine.vips.load import Header
from image_processor.engine.vips.picture import Picture
from image_processor.engine.vips.plan import ANIMATED_FORMATS, Plan, make_plan
from image_processor.engine.vips.prepare import prepare
from image_processor.engine.vips.shelf import Shelf
from image_processor.engine.vips.steps import apply
from image_processor.engine.vips.trimmed import trims_of, with_crops
from image_processor.errors import InvalidOperationError
from image_processor.pipeline import Crop, GifOutput, Limits, Operation, Pipeline, PngOutput, Trim, Variant
from image_processor.pipeline.operations import MAX_SIDE
from image_processor.pipeline.outputs import resolve_output

MEDIAN_SIDE = 3
"""Of the window in which libvips smooths specks away; with `line_art` it does without."""
Crops = dict[str, tuple[Crop, ...]]


def without_trims(pipeline: Pipeline, header: Header, limits: Limits) -> tuple[Pipeline, Crops]:
    """
    The pipeline with every trim replaced by the crop that it means for this original, and those crops.

    The crops stand under the names of the variants that have trims, in the order of the operations.
    Raises what `make_plan` and `prepare` raise.
    """
    search = _Search(pipeline, header, limits)
    crops = {
        variant.name: search.crops(variant) for variant in pipeline.variants if trims_of(variant.operations)
    }
    return with_crops(pipeline, crops), crops


class _Search:
    """The trims of one pipeline on one original; what several variants ask for is looked for once."""

    def __init__(self, pipeline: Pipeline, header: Header, limits: Limits) -> None:
        self._pipeline = pipeline
        self._header = header
        self._limits = limits
        self._found: dict[tuple[tuple[Operation, ...], Trim, bool], Crop] = {}

    def crops(self, variant: Variant) -> tuple[Crop, ...]:
        """One for each trim of the variant."""
        before: tuple[Operation, ...] = ()
        found: list[Crop] = []
        for operation in variant.operations:
            if isinstance(operation, Trim):
                operation = self._crop(variant, before, operation)  # noqa: PLW2901
                found.append(operation)
            before = (*before, operation)
        return tuple(found)

    def _crop(self, variant: Variant, before: tuple[Operation, ...], trim: Trim) -> Crop:
        key = (before, trim, self._is_animated(variant))
        if key not in self._found:
            with writing(self._header.path):
                picture = self._picture(variant.model_copy(update={"operations": before}))
                self._found[key] = find_crop(picture, trim)
        return self._found[key]

    def _is_animated(self, variant: Variant) -> bool:
        output = resolve_output(variant.output, self._header.format)
        return self._header.frames > 1 and output.format in ANIMATED_FORMATS

    def _picture(self, variant: Variant) -> Picture:
        """What the operations of the variant make of the original."""
        plan = self._plan(variant)
        (planned,) = plan.variants
        start = planned.start(plan.original)
        steps = planned.steps if start == plan.original else planned.steps[1:]
        return apply(steps, Shelf(prepare(self._header, plan)).picture(start))

    def _plan(self, variant: Variant) -> Plan:
        # As PNG, which holds every size, so that no format's limit comes in between.
        alone = variant.model_copy(update={"output": PngOutput()})
        pipeline = self._pipeline.model_copy(update={"variants": (alone,)})
        plan = make_plan(pipeline, self._header.format, self._header.upright, self._limits)
        if not self._is_animated(variant):
            return plan
        return replace(plan, variants=tuple(replace(one, output=GifOutput()) for one in plan.variants))


def find_crop(picture: Picture, trim: Trim) -> Crop:
    """
    The crop that holds what is no border in any frame; the whole where there is nothing but border.

    Raises InvalidOperationError where it lies beyond what a crop can say.
    """
    found = reduce(_join, _contents(picture, trim), None)
    kept = found or Cut(0, 0, picture.size)
    if max(kept.x, kept.y, kept.size.width, kept.size.height) > MAX_SIDE:
        raise InvalidOperationError(f"An image with a side of over {MAX_SIDE} pixels cannot be trimmed.")
    return Crop(x=kept.x, y=kept.y, width=kept.size.width, height=kept.size.height)


def _contents(picture: Picture, trim: Trim) -> Iterable[Cut | None]:
    """For each frame what is no border, seen from the first frame's top left pixel; None where nothing is."""
    most = 65535 if picture.first.format == "ushort" else 255
    threshold = trim.threshold * most / 255
    corner = picture.first.getpoint(0, 0)
    for frame in picture.frames:
        if trim.background is not None:
            border = [level * most / 255 for level in channels(trim.background)]
            yield _within(expanded(frame), border, threshold)
        elif not frame.hasalpha():
            yield _within(frame, corner, threshold)
        else:
            alpha = _within(frame[frame.bands - 1], corner[-1:], threshold)
            # Colours that nobody sees are no border's: where the corner is transparent, alpha decides.
            yield alpha if corner[-1] == 0 else _join(alpha, _within(frame, corner[:-1], threshold))


def _within(frame: pyvips.Image, border: Sequence[float], threshold: float) -> Cut | None:
    """What differs from the border; transparency is laid on its colour first, specks are smoothed away."""
    if frame.hasalpha():
        frame = frame.flatten(background=border)
    is_sliver = min(frame.width, frame.height) < MEDIAN_SIDE
    left, top, width, height = frame.find_trim(threshold=threshold, background=border, line_art=is_sliver)
    return Cut(left, top, Size(width, height)) if width and height else None


def _join(one: Cut | None, other: Cut | None) -> Cut | None:
    """The smallest region that holds both."""
    if one is None or other is None:
        return one or other
    x, y = min(one.x, other.x), min(one.y, other.y)
    right = max(one.x + one.size.width, other.x + other.size.width)
    bottom = max(one.y + one.size.height, other.y + other.size.height)
    return Cut(x, y, Size(right - x, bottom - y))
