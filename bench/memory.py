"""The peak memory of pictures of 100 megapixels, each in a process of its own."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyvips
from rich.console import Console

from bench.contender import Contender, ours, sharp
from bench.table import table

SIZE = (11_548, 8_660)
NOISE_LEVELS = 4
WORK: Mapping[str, Sequence[str]] = {
    "ours, 800 x 600": ours("fit"),
    "sharp, 800 x 600": sharp("fit-plain"),
    "ours, web": ours("web"),
    "sharp, web": sharp("web"),
}


def measure(photo: Path) -> dict[str, Any]:
    """Make the pictures of an enlarged photo and noise, work on them, print and give seconds and bytes."""
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        for source in _pictures(photo, Path(folder)):
            for name, command in WORK.items():
                figures[f"{source.suffix[1:]}: {name}"] = _peak(command, source)
    rows = [(name, f"{peak / 1e6:.0f}", f"{seconds:.2f}") for name, (seconds, peak) in figures.items()]
    Console().print(table("100 megapixels, one process each", ("", "peak MB", "s"), rows))
    return {name: {"seconds": seconds, "peak_bytes": peak} for name, (seconds, peak) in figures.items()}


def _pictures(photo: Path, folder: Path) -> list[Path]:
    large = _large(photo)
    jpeg, png = folder / "large.jpg", folder / "large.png"
    large.jpegsave(str(jpeg), Q=90)
    pyvips.Image.new_from_file(str(jpeg), access="sequential").pngsave(str(png), compression=1)
    return [jpeg, png]


def _large(photo: Path) -> pyvips.Image:
    """With noise: an enlarged photo alone is smooth, and easier to decode than what a camera sees."""
    image = pyvips.Image.new_from_file(str(photo))
    enlarged = image.resize(SIZE[0] / image.width, vscale=SIZE[1] / image.height, kernel="linear")
    noise = pyvips.Image.gaussnoise(*SIZE, sigma=NOISE_LEVELS, mean=0)
    return (enlarged + noise).cast("uchar")


def _peak(command: Sequence[str], source: Path) -> tuple[float, int]:
    with tempfile.TemporaryDirectory() as folder, Contender(command) as contender:
        spent = contender.work(source, Path(folder))
        return spent.seconds, contender.peak_bytes()
