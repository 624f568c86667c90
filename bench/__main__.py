"""`python -m bench`: every measurement, one after the other, or those that are asked for."""

import argparse
import json
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bench import memory, rendering, throughput, uploads
from bench.comparison import COMPARISONS, compare
from bench.contender import SHARP

PHOTOS = Path(__file__).parents[2] / "shared" / "photos" / "camera"
Job = Callable[[list[Path], argparse.Namespace], dict[str, Any] | None]


def _comparison(name: str) -> Job:
    return lambda photos, asked: compare(name, photos, asked.rounds, asked.megapixels)


JOBS: Mapping[str, Job] = {
    **{name: _comparison(name) for name in COMPARISONS},
    "throughput": lambda photos, asked: throughput.measure(photos, all_of_them=not asked.quick),
    "memory": lambda photos, _: memory.measure(photos[0]),
    "child": lambda photos, _: rendering.measure(photos),
    "uploads": lambda photos, _: uploads.measure(photos),
}
NEED_SHARP = frozenset({*COMPARISONS, "memory"})


def main() -> int:
    """Run the measurements and print their tables."""
    asked = _arguments()
    photos = sorted(asked.folder.glob("*.jpg"))[: asked.photos]
    if not photos:
        print(f"There are no photos in {asked.folder}.")
        return 1
    jobs = [job for job in JOBS if job in asked.jobs]
    if not _has_sharp():
        print(f"Without sharp there is nothing to compare with: run `npm ci` in {SHARP}.\n")
        jobs = [job for job in jobs if job not in NEED_SHARP]
    figures = {job: JOBS[job](photos, asked) for job in jobs}
    if asked.json:
        asked.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")
    return 0


def _has_sharp() -> bool:
    return shutil.which("node") is not None and (SHARP / "node_modules" / "sharp").is_dir()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure, beside sharp.")
    parser.add_argument("--jobs", nargs="+", choices=JOBS, default=list(JOBS), help="which; by default all")
    parser.add_argument("--photos", type=int, help="how many of the photos; by default all")
    parser.add_argument("--rounds", type=int, help="how often each photo is worked on; by default 2, fit 5")
    parser.add_argument("--folder", type=Path, default=PHOTOS, help="the folder of JPEG photos")
    parser.add_argument("--json", type=Path, help="the file to write all figures to")
    parser.add_argument("--quick", action="store_true", help="220 photos in place of 1000 for the throughput")
    parser.add_argument(
        "--megapixels",
        type=float,
        default=1.0,
        help="the largest results that SSIMULACRA2 is worked out for (about 1 s per megapixel); 0: none",
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
