"""Our side of the comparison: `python -m bench.ours JOB`. A request or an answer is one line of JSON."""

import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from image_processor.engine.base import RenderRequest
from image_processor.engine.vips.engine import VipsEngine
from image_processor.pipeline import (
    BUILTIN_PRESETS,
    Fit,
    ImageFormat,
    JpegOutput,
    Limits,
    Pipeline,
    Resize,
    Variant,
)

GENEROUS = Limits(max_bytes=10**9)
DEADLINE_SECONDS = 600
FIT = Pipeline(
    variants=(
        Variant(name="fit", operations=(Resize(width=800, height=600, fit=Fit.INSIDE),), output=JpegOutput()),
    )
)
Work = Callable[[Path, Path], bytes | None]


def rendered(pipeline: Pipeline) -> Work:
    """Every variant as a file in the folder, from the engine in this process."""
    engine = VipsEngine()

    def work(source: Path, folder: Path) -> None:
        request = RenderRequest(
            source=source,
            source_format=ImageFormat(source.suffix.lstrip(".").replace("jpg", "jpeg")),
            pipeline=pipeline,
            output_directory=folder,
            limits=GENEROUS,
        )
        engine.render(request, deadline_seconds=DEADLINE_SECONDS)

    return work


def fit() -> Work:
    """The bytes of the photo within 800 x 600, through the library's own door."""
    from image_processor import ImageProcessor  # noqa: PLC0415

    processor = ImageProcessor()
    return lambda source, _folder: processor.resize(source, 800, 600, fit="inside", output=JpegOutput()).data


JOBS: Mapping[str, Callable[[], Work]] = {
    "web": lambda: rendered(BUILTIN_PRESETS["web"].pipeline),
    "thumbnails": lambda: rendered(BUILTIN_PRESETS["thumbnails"].pipeline),
    "fit": fit,
    "fit-engine": lambda: rendered(FIT),
}


def main() -> None:
    """Answer requests until standard input ends."""
    work = JOBS[sys.argv[1]]()
    print(json.dumps({"name": "ours"}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps(_timed(work, Path(request["source"]), Path(request["folder"]))), flush=True)


def _timed(work: Work, source: Path, folder: Path) -> dict[str, float]:
    started, started_cpu = time.perf_counter(), time.process_time()
    data = work(source, folder)
    spent = {"seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - started_cpu}
    if data is not None:
        (folder / "fit.jpg").write_bytes(data)
    return spent


if __name__ == "__main__":
    main()
