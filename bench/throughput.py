"""How long a thousand photos take on all cores, through the library."""

import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from image_processor import ImageProcessor, JpegOutput

PHOTOS = 1000
QUICK = 220
AIM_SECONDS = 60


def measure(photos: Sequence[Path], *, all_of_them: bool) -> dict[str, Any]:
    """Resize the photos again and again, one thread per core; print and give the seconds for a thousand."""
    count = PHOTOS if all_of_them else QUICK
    threads = len(os.sched_getaffinity(0))
    started = time.perf_counter()
    with ImageProcessor() as processor, ThreadPoolExecutor(threads) as pool:

        def resize(photo: Path) -> int:
            return len(processor.resize(photo, 800, 600, fit="inside", output=JpegOutput()).data)

        written = sum(pool.map(resize, islice(cycle(photos), count)))
    seconds = (time.perf_counter() - started) * PHOTOS / count
    said = "" if all_of_them else f", reckoned from {count}"
    print(
        f"1000 photos within 800 x 600, JPEG, {threads} threads: {seconds:.1f} s{said} (aim {AIM_SECONDS})\n"
    )
    return {"seconds": seconds, "measured": count, "threads": threads, "bytes": written, "aim": AIM_SECONDS}
