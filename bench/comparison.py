"""Ours and sharp on the same photos, interleaved: photo by photo, one contender after the other."""

import statistics
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from bench.contender import Contender, Spent, ours, sharp
from bench.quality import scores
from bench.table import table

MEGAPIXEL = 1_000_000
WIDTH = 110


@dataclass(frozen=True)
class Comparison:
    """One kind of work and who does it; the first is ours."""

    title: str
    commands: Mapping[str, Sequence[str]]
    aim: float
    """Our seconds over those of sharp, at most."""
    rounds: int


COMPARISONS: Mapping[str, Comparison] = {
    "web": Comparison(
        "preset web: four WebP of quality 85, 150/600/1200/4096 wide",
        {"ours": ours("web"), "sharp": sharp("web")},
        aim=0.5,
        rounds=2,
    ),
    "thumbnails": Comparison(
        "preset thumbnails: three squares in JPEG and WebP, and the original as JPEG, quality 85",
        {
            "ours": ours("thumbnails"),
            "sharp mozjpeg": sharp("thumbnails-mozjpeg"),
            "sharp progressive": sharp("thumbnails-progressive"),
        },
        aim=0.4,
        rounds=2,
    ),
    "fit": Comparison(
        "within 800 x 600 as JPEG of quality 85, in memory",
        {"ours": ours("fit"), "sharp": sharp("fit-plain"), "sharp progressive": sharp("fit-progressive")},
        aim=1.05,
        rounds=5,
    ),
}


@dataclass
class Sample:
    """What one contender did with one photo."""

    spent: list[Spent] = field(default_factory=list)
    """Of each round."""
    bytes: dict[str, int] = field(default_factory=dict)
    """By the file's name."""
    scores: dict[str, float] = field(default_factory=dict)
    """SSIMULACRA2, by the file's name."""

    @property
    def typical(self) -> float:
        """The median of the rounds, in seconds."""
        return statistics.median(spent.seconds for spent in self.spent)

    @property
    def typical_cpu(self) -> float:
        """The median of the rounds, in seconds of the processor."""
        return statistics.median(spent.cpu_seconds for spent in self.spent)


@dataclass
class Side:
    """What one contender did with all photos."""

    name: str
    samples: dict[str, Sample]
    peak_bytes: int = 0

    @property
    def total_bytes(self) -> int:
        """Of all files of all photos."""
        return sum(sum(sample.bytes.values()) for sample in self.samples.values())


def compare(name: str, photos: Sequence[Path], rounds: int | None, most_megapixels: float) -> dict[str, Any]:
    """Run one comparison, print its table and give its figures."""
    comparison = COMPARISONS[name]
    sides = _run(comparison, photos, rounds or comparison.rounds, int(most_megapixels * MEGAPIXEL))
    _print(comparison, sides)
    return {
        "title": comparison.title,
        "aim": comparison.aim,
        "sides": {side.name: {**asdict(side), **_ratios(sides[0], side)} for side in sides},
    }


def _run(comparison: Comparison, photos: Sequence[Path], rounds: int, most_pixels: int) -> list[Side]:
    with ExitStack() as stack:
        contenders = {
            name: stack.enter_context(Contender(command)) for name, command in comparison.commands.items()
        }
        sides = [Side(name, {photo.name: Sample() for photo in photos}) for name in contenders]
        turns = [(at, photo) for at in range(rounds) for photo in photos]
        _warm_up(list(contenders.values()), photos[0])
        for at, photo in track(turns, description=comparison.title, transient=True):
            for side in sides:
                scored = most_pixels if at == 0 else 0
                _turn(contenders[side.name], side.samples[photo.name], photo, scored)
        for side in sides:
            side.peak_bytes = contenders[side.name].peak_bytes()
    return sides


def _warm_up(contenders: Sequence[Contender], photo: Path) -> None:
    for contender in contenders:
        with tempfile.TemporaryDirectory() as folder:
            contender.work(photo, Path(folder))


def _turn(contender: Contender, sample: Sample, photo: Path, scored_pixels: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        sample.spent.append(contender.work(photo, Path(folder)))
        files = {file.name: file for file in sorted(Path(folder).iterdir())}
        sample.bytes = {name: file.stat().st_size for name, file in files.items()}
        if scored_pixels:
            sample.scores = scores(photo, files, scored_pixels)


def _ratios(ours: Side, other: Side) -> dict[str, float]:
    return {"ratio": _ratio(ours, other), "cpu_ratio": _cpu_ratio(ours, other)}


def _ratio(ours: Side, other: Side) -> float:
    """Our seconds over the other's: the median over the photos of the ratios of their medians."""
    return statistics.median(
        ours.samples[photo].typical / sample.typical for photo, sample in other.samples.items()
    )


def _cpu_ratio(ours: Side, other: Side) -> float:
    """The same of the processor's seconds: what other processes do beside weighs less on it."""
    return statistics.median(
        ours.samples[photo].typical_cpu / sample.typical_cpu for photo, sample in other.samples.items()
    )


def _print(comparison: Comparison, sides: Sequence[Side]) -> None:
    photos = len(sides[0].samples)
    drawn = table(
        f"{comparison.title}; {photos} photos; aim ours/sharp {comparison.aim}",
        ("", "s/image", "quartiles", "ours/it", "in CPU", "MB", "peak MB", "SSIMULACRA2"),
        [_row(side, sides[0]) for side in sides],
    )
    Console(width=WIDTH).print(drawn)
    for side in sides[1:]:
        print(f"  against {side.name}: {_worst_loss(sides[0], side)}")
    print()


def _row(side: Side, ours: Side) -> tuple[str, ...]:
    medians = [sample.typical for sample in side.samples.values()]
    low, _, high = statistics.quantiles(medians, n=4) if len(medians) > 1 else (medians[0],) * 3
    return (
        side.name,
        f"{statistics.median(medians):.3f}",
        f"{low:.3f}-{high:.3f}",
        f"{_ratio(ours, side):.2f}",
        f"{_cpu_ratio(ours, side):.2f}",
        f"{side.total_bytes / 1e6:.2f}",
        f"{side.peak_bytes / 1e6:.0f}",
        _median_score(side),
    )


def _median_score(side: Side) -> str:
    found = [score for sample in side.samples.values() for score in sample.scores.values()]
    return f"{statistics.median(found):.1f}" if found else "-"


def _worst_loss(ours: Side, other: Side) -> str:
    """The file in which we are worst: by how much, and which it is."""
    losses = [
        (ours.samples[photo].scores[name] - score, f"{Path(photo).stem}, {name}")
        for photo, sample in other.samples.items()
        for name, score in sample.scores.items()
    ]
    if not losses:
        return "SSIMULACRA2 was not asked for"
    (worst, where), lower = min(losses), sum(difference < -1 for difference, _ in losses)
    return (
        f"SSIMULACRA2 at worst {worst:+.1f} ({where}); lower by more than 1: {lower} of {len(losses)} files"
    )
