"""Seconds for all variants of preset `web` of one camera photo, in one codec child on one core."""

import statistics
import tempfile
import time
from pathlib import Path

from image_processor.engine.base import RenderRequest
from image_processor.engine.isolate import IsolatedEngine
from image_processor.pipeline import BUILTIN_PRESETS, ImageFormat, Limits

ROUNDS = 3
DEADLINE_SECONDS = 120


def measure(photos: list[Path]) -> None:
    """Print the median and the spread of each photo, and of all."""
    print(f"preset web, one codec child, {ROUNDS} rounds: seconds (median, least, most), output bytes")
    medians = []
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        engine = IsolatedEngine(readable=(photos[0].parent,), writable=(scratch,))
        for photo in photos:
            seconds, size = zip(*(_render(engine, photo, scratch) for _ in range(ROUNDS)), strict=True)
            medians.append(statistics.median(seconds))
            print(
                f"  {photo.name:40} {medians[-1]:6.3f} {min(seconds):6.3f} {max(seconds):6.3f} {size[0]:10,}"
            )
        engine.close()
    print(f"  {'all':40} {statistics.median(medians):6.3f} {min(medians):6.3f} {max(medians):6.3f}")


def _render(engine: IsolatedEngine, photo: Path, scratch: Path) -> tuple[float, int]:
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        request = RenderRequest(
            source=photo,
            source_format=ImageFormat.JPEG,
            pipeline=BUILTIN_PRESETS["web"].pipeline,
            output_directory=Path(folder),
            limits=Limits(),
        )
        started = time.perf_counter()
        rendering = engine.render(request, deadline_seconds=DEADLINE_SECONDS)
        return time.perf_counter() - started, sum(variant.size_bytes for variant in rendering.variants)
