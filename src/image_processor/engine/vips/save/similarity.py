"""
How like its original a coded picture looks: SSIMULACRA2, worked out by libvips.

The formula is Jon Sneyers' (libjxl, `tools/ssimulacra2.cc`), reduced to the terms whose weight is over 0.2:
on photos the result is within half a point of the whole formula above 70, and up to 2 points lower at 40.
"""

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import pyvips

from image_processor.engine.vips.color import expanded
from image_processor.engine.vips.save.depth import eight_bit

LEAST_SIDE = 128
"""What is smaller is continued by its mirror image, so that the coarsest scale still has 8 pixels."""
GREY = [128, 128, 128]
"""What transparent pictures are seen on."""
_X, _Y, _B = range(3)
_SCALES = 5
"""Each half as wide as the one before."""
_BLUR = 1.5
_BLUR_TAIL = 0.004
_STABILIZER = 0.0009
_ABSORBANCE = [[0.30, 0.622, 0.078], [0.23, 0.692, 0.078], [0.243423, 0.204767, 0.551810]]
_ABSORBANCE_BIAS = 0.00379307
_OPPONENTS = [[7.0, -7.0, 0.0], [0.5, 0.5, 0.0], [-0.5, -0.5, 1.0]]
_OPPONENT_OFFSETS = [0.42, 0.01, 0.55]
_BRIGHTEST = 1.02
_LEVELS = 65_535


class _Term(NamedTuple):
    scale: int
    plane: int
    fault: str
    """`structure`: unlike in detail; `added`: edges that were not there; `lost`: edges that are gone."""
    power: int
    """Of the mean over the picture, 1 or 4: 4 weighs the worst places."""
    weight: float


_TERMS = (
    _Term(0, _Y, "structure", 4, 7.466890),
    _Term(0, _Y, "lost", 4, 17.445834),
    _Term(1, _X, "structure", 4, 1.104173),
    _Term(1, _Y, "structure", 4, 6.683678),
    _Term(1, _Y, "lost", 4, 1.027890),
    _Term(2, _X, "structure", 4, 1.842246),
    _Term(2, _X, "added", 4, 11.441173),
    _Term(2, _Y, "structure", 1, 225.205153),
    _Term(2, _Y, "structure", 4, 19.213238),
    _Term(3, _X, "structure", 4, 1.878759),
    _Term(3, _X, "added", 4, 10.949070),
    _Term(3, _Y, "structure", 1, 176.393176),
    _Term(3, _Y, "structure", 4, 24.433010),
    _Term(3, _Y, "added", 4, 0.285208),
    _Term(3, _B, "structure", 4, 8.826983),
    _Term(3, _B, "added", 4, 23.192433),
    _Term(4, _X, "added", 1, 0.967794),
    _Term(4, _X, "added", 4, 0.998177),
    _Term(4, _Y, "structure", 4, 34.779063),
    _Term(4, _Y, "added", 4, 44.835626),
    _Term(4, _B, "structure", 1, 95.108050),
    _Term(4, _B, "added", 1, 0.986398),
    _Term(4, _B, "added", 4, 171.267226),
    _Term(4, _B, "lost", 1, 0.983433),
    _Term(4, _B, "lost", 4, 0.980786),
)


class Likeness:
    """One original, prepared so that several coded forms of it can be compared with it."""

    def __init__(self, original: pyvips.Image) -> None:
        self._scales = [_Scale(number, plane) for number, plane in enumerate(_scales(original))]

    def score(self, coded: pyvips.Image) -> float:
        """SSIMULACRA2 of a picture of the same size: 100 equal, 90 hard to tell apart, 70 good."""
        pairs = zip(self._scales, _scales(coded), strict=True)
        return _scored(sum(scale.unlikeness(planes) for scale, planes in pairs))


class _Scale:
    """The original at one scale: its planes, and what of them is the same for every comparison."""

    def __init__(self, number: int, planes: pyvips.Image) -> None:
        self._terms = [term for term in _TERMS if term.scale == number]
        self._bands = sorted({term.plane for term in self._terms})
        self._planes = planes
        self._mean = _blurred(planes)
        self._variance = (_blurred(planes * planes) - self._mean * self._mean).copy_memory()
        self._edges = ((planes - self._mean).abs() + 1).copy_memory()

    def unlikeness(self, coded: pyvips.Image) -> float:
        maps = self._maps(coded)
        raised = [
            _raised(maps[term.fault][self._bands.index(term.plane)], term.power) for term in self._terms
        ]
        joined = raised[0].bandjoin(raised[1:]).stats()
        # The first row of the statistics is of all bands together, column 4 holds the means.
        means = [joined(4, row)[0] for row in range(1, len(raised) + 1)]
        weighed = (
            term.weight * mean ** (1 / term.power) for term, mean in zip(self._terms, means, strict=True)
        )
        return float(sum(weighed))

    def _maps(self, coded: pyvips.Image) -> dict[str, pyvips.Image]:
        """Held in memory: libvips would else work each out anew for every term that reads it."""
        mean = _blurred(coded)
        variance = _blurred(coded * coded) - mean * mean
        covariance = _blurred(self._planes * coded) - self._mean * mean
        distance = self._mean - mean
        alike = (1 - distance * distance) * (2 * covariance + _STABILIZER)
        structure = (1 - alike / (self._variance + variance + _STABILIZER)).copy_memory()
        edges = (((coded - mean).abs() + 1) / self._edges - 1).copy_memory()
        return {"structure": _positive(structure), "added": _positive(edges), "lost": _positive(-edges)}


def _raised(image: pyvips.Image, power: int) -> pyvips.Image:
    """By multiplying: libvips' own power takes ten times as long."""
    for _ in range(power.bit_length() - 1):
        image = image * image
    return image


def _scored(unlikeness: float) -> float:
    total = unlikeness * 0.956238
    bent = 2.326766 * total - 0.0208845 * total**2 + 6.248497e-05 * total**3
    return float(100 - 10 * max(bent, 0.0) ** 0.627634)


def _scales(image: pyvips.Image) -> Sequence[pyvips.Image]:
    """The planes that the terms need, at each scale; halved in linear light."""
    linear = _seen(image).colourspace("scrgb").copy_memory()
    found = []
    for number in range(_SCALES):
        needed = sorted({term.plane for term in _TERMS if term.scale == number})
        found.append(_opponents(linear, needed).copy_memory())
        linear = linear.shrink(2, 2, ceil=True).copy_memory()
    return found


def _seen(image: pyvips.Image) -> pyvips.Image:
    image = expanded(eight_bit(image))
    if image.hasalpha():
        image = image.flatten(background=GREY)
    width, height = max(image.width, LEAST_SIDE), max(image.height, LEAST_SIDE)
    return image if (width, height) == (image.width, image.height) else _mirrored(image, width, height)


def _mirrored(image: pyvips.Image, width: int, height: int) -> pyvips.Image:
    return image.copy_memory().embed(0, 0, width, height, extend="mirror")


def _opponents(linear: pyvips.Image, planes: Sequence[int]) -> pyvips.Image:
    """XYB: red against green, lightness, blue against lightness."""
    absorbed = linear.recomb(_ABSORBANCE) + _ABSORBANCE_BIAS
    roots = absorbed.linear(_LEVELS / _BRIGHTEST, 0.5).cast("ushort").maplut(_cube_roots())
    weighted = roots.recomb([_OPPONENTS[plane] for plane in planes])
    return weighted + [_OPPONENT_OFFSETS[plane] for plane in planes]


@cache
def _cube_roots() -> pyvips.Image:
    levels = pyvips.Image.identity(ushort=True) * (_BRIGHTEST / _LEVELS)
    return (levels ** (1 / 3) - _ABSORBANCE_BIAS ** (1 / 3)).cast("float").copy_memory()


def _blurred(image: pyvips.Image) -> pyvips.Image:
    return image.gaussblur(_BLUR, min_ampl=_BLUR_TAIL, precision="float").copy_memory()


def _positive(image: pyvips.Image) -> pyvips.Image:
    return (image > 0).ifthenelse(image, 0)
