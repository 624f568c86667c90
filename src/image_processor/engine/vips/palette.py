"""The few colours that a picture is made of, found by k-means in Oklab. No pyvips, and no chance."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

from image_processor.engine.base import PaletteColor
from image_processor.engine.vips.sample import Sample

MAX_ROUNDS = 12
CLUSTERS_PER_COLOR = 2
"""Found first and then joined: what is found depends less on where the search began."""
BIN_SHIFTS = (4, 5)
"""Levels of one channel that are looked at together, as a power of two; the coarser for a motley picture."""
MOST_HEAPS = 1000
"""What the search takes its time for; photos have some 500."""
HALF_OPAQUE = 128
SAME_COLOR = 0.05
"""Oklab colours nearer than this are told as one."""
SMALLEST_SHARE = 0.005
"""Less than this is the blend on an edge."""

Lab = tuple[float, float, float]
Rgb = tuple[int, int, int]


@dataclass(frozen=True)
class _Heap:
    """Pixels of nearly one colour."""

    lab: Lab
    rgb: tuple[float, float, float]
    pixels: int


Measure = Callable[[_Heap, _Heap], float]
"""How far two are apart."""


def palette(sample: Sample, count: int) -> tuple[PaletteColor, ...]:
    """
    At most `count` colours, the largest share first; pixels more than half transparent do not count.

    Fewer, where the picture has fewer that differ; none, where nothing can be seen.
    """
    heaps = _heaps(sample)
    if not heaps:
        return ()
    pixels = sum(heap.pixels for heap in heaps)
    clusters = _clusters(heaps, _seeds(heaps, count * CLUSTERS_PER_COLOR))
    seen = [cluster for cluster in clusters if cluster.pixels >= SMALLEST_SHARE * pixels]
    told = [
        PaletteColor(color=_hex(heap), share=round(heap.pixels / pixels, 4))
        for heap in _distinct(seen, count)
    ]
    return tuple(sorted(told, key=lambda color: (-color.share, color.color)))


def _heaps(sample: Sample) -> list[_Heap]:
    pixels = zip(*sample.channels, sample.alpha, strict=True)
    visible = [(red, green, blue) for red, green, blue, alpha in pixels if alpha >= HALF_OPAQUE]
    bins: list[list[Rgb]] = []
    for shift in BIN_SHIFTS:
        bins = _bins(visible, shift)
        if len(bins) <= MOST_HEAPS:
            break
    return [_heap(members) for members in bins]


def _bins(pixels: Sequence[Rgb], shift: int) -> list[list[Rgb]]:
    bins: defaultdict[Rgb, list[Rgb]] = defaultdict(list)
    for red, green, blue in pixels:
        bins[red >> shift, green >> shift, blue >> shift].append((red, green, blue))
    return [members for _, members in sorted(bins.items())]


def _heap(members: Sequence[Rgb]) -> _Heap:
    red, green, blue = (sum(channel) / len(members) for channel in zip(*members, strict=True))
    return _Heap(oklab(red, green, blue), (red, green, blue), len(members))


def _seeds(heaps: Sequence[_Heap], count: int) -> list[Lab]:
    """The largest heap, then always the one that is worst served by those before: size times distance."""
    seeds = [max(heaps, key=lambda heap: heap.pixels).lab]
    distances = [_distance(heap.lab, seeds[0]) for heap in heaps]
    while len(seeds) < min(count, len(heaps)):
        missing = [heap.pixels * distance for heap, distance in zip(heaps, distances, strict=True)]
        worst = max(range(len(heaps)), key=missing.__getitem__)
        seeds.append(heaps[worst].lab)
        nearer = (_distance(heap.lab, seeds[-1]) for heap in heaps)
        distances = [min(pair) for pair in zip(distances, nearer, strict=True)]
    return seeds


def _clusters(heaps: Sequence[_Heap], centers: list[Lab]) -> list[_Heap]:
    """Lloyd's rounds, until nothing moves."""
    clusters: list[_Heap] = []
    for _ in range(MAX_ROUNDS):
        members: defaultdict[int, list[_Heap]] = defaultdict(list)
        for heap in heaps:
            members[_nearest(heap.lab, centers)].append(heap)
        clusters = [_joined(group) for _, group in sorted(members.items())]
        moved = [cluster.lab for cluster in clusters]
        if moved == centers:
            break
        centers = moved
    return clusters


def _nearest(lab: Lab, centers: Sequence[Lab]) -> int:
    lightness, green_red, blue_yellow = lab
    distances = [
        (lightness - one) ** 2 + (green_red - two) ** 2 + (blue_yellow - three) ** 2
        for one, two, three in centers
    ]
    return distances.index(min(distances))


def _distinct(clusters: Sequence[_Heap], count: int) -> list[_Heap]:
    """No more than `count`, and no two that are the same to the eye."""
    kept = list(clusters)
    while len(kept) > count:
        _join_nearest(kept, _loss)
    while len(kept) > 1 and _distance_of(*_nearest_pair(kept, _distance_of)) < SAME_COLOR**2:
        _join_nearest(kept, _distance_of)
    return kept


def _join_nearest(clusters: list[_Heap], measure: Measure) -> None:
    pair = _nearest_pair(clusters, measure)
    for cluster in pair:
        clusters.remove(cluster)
    clusters.append(_joined(pair))


def _nearest_pair(clusters: Sequence[_Heap], measure: Measure) -> tuple[_Heap, _Heap]:
    return min(combinations(clusters, 2), key=lambda pair: measure(*pair))


def _loss(one: _Heap, other: _Heap) -> float:
    """By how much the squared error grows when two are joined (Ward, 1963)."""
    return one.pixels * other.pixels / (one.pixels + other.pixels) * _distance(one.lab, other.lab)


def _distance_of(one: _Heap, other: _Heap) -> float:
    return _distance(one.lab, other.lab)


def _joined(heaps: Sequence[_Heap]) -> _Heap:
    pixels = sum(heap.pixels for heap in heaps)
    lab = tuple(sum(heap.lab[part] * heap.pixels for heap in heaps) / pixels for part in range(3))
    rgb = tuple(sum(heap.rgb[part] * heap.pixels for heap in heaps) / pixels for part in range(3))
    return _Heap((lab[0], lab[1], lab[2]), (rgb[0], rgb[1], rgb[2]), pixels)


def _distance(one: Lab, other: Lab) -> float:
    return sum((first - second) ** 2 for first, second in zip(one, other, strict=True))


def _hex(heap: _Heap) -> str:
    return "#" + "".join(f"{round(level):02X}" for level in heap.rgb)


def oklab(red: float, green: float, blue: float) -> Lab:
    """sRGB, 0 to 255, to Oklab: https://bottosson.github.io/posts/oklab/ (2021)."""
    r, g, b = map(_linear, (red, green, blue))
    long = (0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b) ** (1 / 3)
    medium = (0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b) ** (1 / 3)
    short = (0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b) ** (1 / 3)
    return (
        0.2104542553 * long + 0.7936177850 * medium - 0.0040720468 * short,
        1.9779984951 * long - 2.4285922050 * medium + 0.4505937099 * short,
        0.0259040371 * long + 0.7827717662 * medium - 0.8086757660 * short,
    )


def _linear(level: float) -> float:
    """IEC 61966-2-1."""
    share = level / 255
    return float(share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4)
