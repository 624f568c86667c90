"""VipsEngine: one original in, all its variants out, from one decode and in this process."""

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from itertools import groupby
from pathlib import Path

from image_processor.engine.base import (
    Facts,
    InspectRequest,
    OnProgress,
    RenderedVariant,
    Rendering,
    RenderRequest,
)
from image_processor.engine.vips.dominant import dominant_color
from image_processor.engine.vips.facts import inspect
from image_processor.engine.vips.failures import within_memory, writing
from image_processor.engine.vips.gain_map import (
    GainMap,
    add_gain_map,
    dropped_note,
    read_gain_map,
    transformed_gain_map,
)
from image_processor.engine.vips.geometry import Size
from image_processor.engine.vips.load import Header, read_header
from image_processor.engine.vips.picture import Picture
from image_processor.engine.vips.plan import ANIMATED_FORMATS, Plan, PlannedVariant, make_plan
from image_processor.engine.vips.prepare import keeps_profile, prepare
from image_processor.engine.vips.save import save
from image_processor.engine.vips.save.never_larger import save_within
from image_processor.engine.vips.save.target import Target
from image_processor.engine.vips.setup import set_up_vips
from image_processor.engine.vips.shelf import Shelf
from image_processor.engine.vips.steps import apply
from image_processor.engine.vips.trim import Crops, without_trims
from image_processor.pipeline import FixedOutput, ImageFormat, JpegOutput, Metadata, Optimize

Settings = tuple[FixedOutput, bool, Metadata, Optimize]
PIXELS_READ_PER_WRITTEN = 10
"""So many are decoded in the time that one is coded: JPEG to JPEG, WebP and AVIF, measured."""


class VipsEngine:
    """
    Decodes with libvips where it stands: for the isolated child, and for callers who trust their files.

    It cannot be stopped from outside: the deadline and `interrupt` are the isolated engine's to keep.
    """

    def __init__(self) -> None:
        set_up_vips()

    def render(
        self,
        request: RenderRequest,
        *,
        deadline_seconds: float,  # noqa: ARG002
        on_progress: OnProgress | None = None,
    ) -> Rendering:
        """Make every variant of `request`; raises what `Engine.render` says, and MemoryError."""
        header = read_header(request)
        with within_memory():
            pipeline, trims = without_trims(request.pipeline, header, request.limits)
            plan = make_plan(pipeline, request.source_format, header.upright, request.limits)
            work = _Work(header, plan, on_progress)
            return _Render(header, plan, trims, request.output_directory, work).run()

    def inspect(self, request: InspectRequest, *, deadline_seconds: float) -> Facts:  # noqa: ARG002
        """The facts of an original; raises what `Engine.inspect` says, and MemoryError."""
        with within_memory():
            return inspect(request)

    def interrupt(self) -> None:
        """Nothing: there is no other process to stop."""

    def close(self) -> None:
        """Nothing is held."""


class _Work:
    """What a render has to do and has done, in pixels read: one decode, then one variant after the other."""

    def __init__(self, header: Header, plan: Plan, on_progress: OnProgress | None) -> None:
        self._frames = header.frames
        self._on_progress = on_progress
        self._decode = plan.original.pixels * self._frames
        self._whole = self._decode + sum(map(self._of_variant, plan.variants))
        self._done = 0

    def decoded(self) -> None:
        self._add(self._decode)

    def written(self, variant: PlannedVariant) -> None:
        self._add(self._of_variant(variant))

    def _of_variant(self, variant: PlannedVariant) -> int:
        frames = self._frames if variant.format in ANIMATED_FORMATS else 1
        return variant.size.pixels * frames * PIXELS_READ_PER_WRITTEN

    def _add(self, pixels: int) -> None:
        self._done += pixels
        if self._on_progress:
            self._on_progress(self._done / self._whole)


class _Render:
    """One render: the header, the plan, and the pictures that variants share."""

    def __init__(self, header: Header, plan: Plan, trims: Crops, directory: Path, work: _Work) -> None:
        self._work = work
        self._header = header
        self._plan = plan
        self._trims = trims
        self._directory = directory
        kept = header.attachments.profile if keeps_profile(header, plan) else None
        self._attachments = replace(header.attachments, profile=kept)
        self._shelf = Shelf(prepare(header, plan))

    def run(self) -> Rendering:
        self._work.decoded()
        color = dominant_color(self._shelf.base.first)
        produced = {done.name: done for group in self._groups() for done in self._produce(group)}
        return Rendering(
            width=self._plan.original.width,
            height=self._plan.original.height,
            frames=self._header.frames,
            dominant_color=color,
            variants=tuple(produced[variant.name] for variant in self._plan.variants),
        )

    def _groups(self) -> list[list[PlannedVariant]]:
        """Variants that differ only in their output, together; those that need the most pixels first."""
        ordered = sorted(
            self._plan.variants, key=lambda variant: (-self._start(variant).pixels, repr(variant.steps))
        )
        return [list(group) for _, group in groupby(ordered, key=lambda variant: variant.steps)]

    def _start(self, variant: PlannedVariant) -> Size:
        return variant.start(self._plan.original)

    def _produce(self, group: Sequence[PlannedVariant]) -> list[RenderedVariant]:
        with writing(self._directory):
            picture = self._picture(group[0])
            if len(group) > 1 and len(picture.frames) == 1:
                picture = picture.in_memory()
            return self._write_all(group, picture)

    def _picture(self, variant: PlannedVariant) -> Picture:
        start = self._start(variant)
        is_scaled = start != self._plan.original
        return apply(variant.steps[1:] if is_scaled else variant.steps, self._shelf.picture(start))

    def _write_all(self, group: Sequence[PlannedVariant], picture: Picture) -> list[RenderedVariant]:
        """Each pair of pixels and settings is coded once: a small original does not reach every size."""
        written: dict[Settings, PlannedVariant] = {}
        for variant in group:
            settings = (variant.output, variant.never_larger, variant.metadata, variant.optimize)
            first = written.setdefault(settings, variant)
            if first is variant:
                self._write(variant, picture)
            else:
                shutil.copyfile(self._path(first), self._path(variant))
            self._work.written(variant)
        return [self._describe(variant, picture) for variant in group]

    def _write(self, variant: PlannedVariant, picture: Picture) -> None:
        path = self._path(variant)
        target = Target(path, variant.optimize, variant.metadata, self._attachments)
        if variant.never_larger:
            save_within(picture, variant, self._header, target)
        else:
            save(picture, variant.output, target)
        if self._is_to_keep_gain_map(variant) and self._gain_map and not dropped_note(variant.steps):
            add_gain_map(path, transformed_gain_map(self._gain_map, self._plan.original, variant.steps))

    @cached_property
    def _gain_map(self) -> GainMap | None:
        """That of an Ultra HDR original; looked for once, and only where a variant is to keep it."""
        if self._header.format is not ImageFormat.JPEG:
            return None
        return read_gain_map(self._header.path, self._header.stored, self._header.orientation)

    def _is_to_keep_gain_map(self, variant: PlannedVariant) -> bool:
        return isinstance(variant.output, JpegOutput) and variant.output.gain_map

    def _notes(self, variant: PlannedVariant) -> tuple[str, ...]:
        has_one = self._is_to_keep_gain_map(variant) and self._gain_map
        dropped = dropped_note(variant.steps) if has_one else None
        return (*variant.notes, dropped) if dropped else variant.notes

    def _path(self, variant: PlannedVariant) -> Path:
        return self._directory / variant.file_name

    def _describe(self, variant: PlannedVariant, picture: Picture) -> RenderedVariant:
        path = self._path(variant)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            size_bytes = file.tell()
        return RenderedVariant(
            name=variant.name,
            path=path,
            format=variant.format,
            width=picture.size.width,
            height=picture.size.height,
            frames=len(picture.frames) if variant.format in ANIMATED_FORMATS else 1,
            size_bytes=size_bytes,
            sha256=digest,
            notes=self._notes(variant),
            trims=self._trims.get(variant.name, ()),
        )
