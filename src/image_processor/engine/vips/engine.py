"""VipsEngine: one original in, all its variants out, from one decode and in this process."""

import hashlib
import shutil
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from image_processor.engine.base import RenderedVariant, Rendering, RenderRequest
from image_processor.engine.vips.dominant import dominant_color
from image_processor.engine.vips.failures import writing
from image_processor.engine.vips.geometry import Size
from image_processor.engine.vips.load import Header, read_header
from image_processor.engine.vips.never_larger import save_within
from image_processor.engine.vips.picture import Picture
from image_processor.engine.vips.plan import Plan, PlannedVariant, make_plan
from image_processor.engine.vips.prepare import prepare
from image_processor.engine.vips.save import save
from image_processor.engine.vips.setup import set_up_vips
from image_processor.engine.vips.shelf import Shelf
from image_processor.engine.vips.steps import apply
from image_processor.pipeline import ImageFormat
from image_processor.pipeline.outputs import FixedOutput


class VipsEngine:
    """
    Decodes with libvips where it stands: for the isolated child, and for callers who trust their files.

    It cannot be stopped from outside: the deadline and `interrupt` are the isolated engine's to keep.
    """

    def __init__(self) -> None:
        set_up_vips()

    def render(self, request: RenderRequest, *, deadline_seconds: float) -> Rendering:  # noqa: ARG002
        """Make every variant of `request`; raises what `Engine.render` says, and MemoryError."""
        header = read_header(request)
        plan = make_plan(request.pipeline, request.source_format, header.upright, request.limits)
        return _Render(header, plan, request.output_directory).run()

    def interrupt(self) -> None:
        """Nothing: there is no other process to stop."""

    def close(self) -> None:
        """Nothing is held."""


class _Render:
    """One render: the header, the plan, and the pictures that variants share."""

    def __init__(self, header: Header, plan: Plan, directory: Path) -> None:
        self._header = header
        self._plan = plan
        self._directory = directory
        self._shelf = Shelf(prepare(header, plan))

    def run(self) -> Rendering:
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
        written: dict[tuple[FixedOutput, bool], Path] = {}
        for variant in group:
            path = self._directory / variant.file_name
            settings = (variant.output, variant.never_larger)
            if settings in written:
                shutil.copyfile(written[settings], path)
            else:
                self._write(variant, picture, path)
            written[settings] = path
        return [_describe(variant, picture, self._directory / variant.file_name) for variant in group]

    def _write(self, variant: PlannedVariant, picture: Picture, path: Path) -> None:
        if variant.never_larger:
            save_within(picture, variant, self._header, path)
        else:
            save(picture, variant.output, path)


def _describe(variant: PlannedVariant, picture: Picture, path: Path) -> RenderedVariant:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        size_bytes = file.tell()
    return RenderedVariant(
        name=variant.name,
        path=path,
        format=variant.format,
        width=picture.size.width,
        height=picture.size.height,
        frames=len(picture.frames) if variant.format is ImageFormat.WEBP else 1,
        size_bytes=size_bytes,
        sha256=digest,
    )
