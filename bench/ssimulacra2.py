"""
SSIMULACRA2 version 2.1 of two 8-bit sRGB pictures, in single precision: about 1 s per megapixel.

Cloudinary's metric, 2023: 100 is the same, 90 and more not told apart, 70 high quality, 50 medium. Scores of
the Python package of that name are 0.1 lower at a JPEG quality of 85 and 1 lower at 30: it sees black beyond
two edges of the picture only; here it is black beyond all four.
"""

import functools
from collections.abc import Iterator

import numpy as np
import pyvips
from numpy.typing import NDArray

Plane = NDArray[np.float32]
"""Height x width x 3."""

SCALES = 6
SMALLEST_SIDE = 8
BLUR_SIGMA = 1.5
BLUR_RADIUS = 5
STABILITY = 0.0009
ABSORBANCE = np.array(
    [
        [0.30, 0.622, 0.078],
        [0.23, 0.692, 0.078],
        [0.24342268924547819, 0.20476744424496821, 0.5518098665095536],
    ],
    dtype=np.float32,
)
BIAS = np.float32(0.0037930732552754493)

# fmt: off
WEIGHTS = np.array([
    # X: six scales of (mean, 4-norm) x (structure, new edges, lost edges)
    0, 0.0007376606707406586, 0, 0, 0.0007793481682867309, 0,
    0, 0.0004371155730107379, 0, 1.1041726426657346, 0.00066284834129271, 0.00015231632783718752,
    0, 0.0016406437456599754, 0, 1.8422455520539298, 11.441172603757666, 0,
    0.0007989109436015163, 0.000176816438078653, 0, 1.8787594979546387, 10.94906990605142, 0,
    0.0007289346991508072, 0.9677937080626833, 0, 0.00014003424285435884, 0.9981766977854967,
    0.00031949755934435053,
    0.0004550992113792063, 0, 0, 0.0013648766163243398, 0, 0,
    # Y
    0, 0, 0, 7.466890328078848, 0, 17.445833984131262,
    0.0006235601634041466, 0, 0, 6.683678146179332, 0.00037724407979611296, 1.027889937768264,
    225.20515300849274, 0, 0, 19.213238186143016, 0.0011401524586618361, 0.001237755635509985,
    176.39317598450694, 0, 0, 24.43300999870476, 0.28520802612117757, 0.0004485436923833408,
    0, 0, 0, 34.77906344483772, 44.835625328877896, 0,
    0, 0, 0, 0, 0, 0,
    # B
    0, 0.0008680556573291698, 0, 0, 0, 0,
    0, 0.0005313191874358747, 0, 0.00016533814161379112, 0, 0,
    0, 0, 0, 0.0004179171803251336, 0.0017290828234722833, 0,
    0.0020827005846636437, 0, 0, 8.826982764996862, 23.19243343998926, 0,
    95.1080498811086, 0.9863978034400682, 0.9834382792465353, 0.0012286405048278493, 171.2667255897307,
    0.9807858872435379,
    0, 0, 0, 0.0005130064588990679, 0, 0.00010854057858411537,
]).reshape(3, SCALES, 2, 3)
# fmt: on


def score(reference: NDArray[np.uint8], picture: NDArray[np.uint8]) -> float:
    """Of two pictures of one size (height x width x 3): 100 at most, below 0 for ruins."""
    scales = [_compare(*pair) for pair in zip(_scales(reference), _scales(picture), strict=True)]
    sums = np.stack(scales, axis=1)
    error = float((sums * WEIGHTS[:, : len(scales)]).sum()) * 0.9562382616834844
    error = 2.326765642916932 * error - 0.020884521182843837 * error**2 + 6.248496625763138e-05 * error**3
    return 100 - 10 * float(max(0.0, error) ** 0.6276336467831387)


def _scales(picture: NDArray[np.uint8]) -> Iterator[Plane]:
    """The picture in XYB, and at half the size of the one before, halved in linear light."""
    linear = _linear_levels()[picture]
    for _ in range(SCALES):
        if min(linear.shape[:2]) < SMALLEST_SIDE:
            return
        yield _positive_xyb(linear)
        linear = _halved(linear)


@functools.cache
def _linear_levels() -> NDArray[np.float32]:
    level = np.arange(256) / 255
    linear: NDArray[np.float64] = np.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4)
    return linear.astype(np.float32)


def _positive_xyb(linear: Plane) -> Plane:
    mixed = np.cbrt(np.maximum(linear @ ABSORBANCE.T + BIAS, 0)) - np.cbrt(BIAS)
    x, y, b = (mixed[..., 0] - mixed[..., 1]) / 2, (mixed[..., 0] + mixed[..., 1]) / 2, mixed[..., 2]
    return np.stack([x * 14 + np.float32(0.42), y + np.float32(0.01), b - y + np.float32(0.55)], axis=2)


def _halved(linear: Plane) -> Plane:
    height, width = linear.shape[:2]
    even = np.pad(linear, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return (even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]) / np.float32(4)


def _compare(one: Plane, other: Plane) -> NDArray[np.float64]:
    """Channel x (mean, 4-norm) x (structure, new edges, lost edges)."""
    mean_one, mean_other = _blurred(one), _blurred(other)
    edges = (1 + np.abs(other - mean_other)) / (1 + np.abs(one - mean_one)) - 1
    maps = (_structure(one, other, mean_one, mean_other), np.maximum(edges, 0), np.maximum(-edges, 0))
    return np.stack([_norms(errors) for errors in maps], axis=2)


def _structure(one: Plane, other: Plane, mean_one: Plane, mean_other: Plane) -> Plane:
    covariance = _blurred(one * other) - mean_one * mean_other
    variances = _blurred(one * one + other * other) - mean_one**2 - mean_other**2
    likeness = (1 - (mean_one - mean_other) ** 2) * (2 * covariance + STABILITY) / (variances + STABILITY)
    structure: Plane = np.maximum(1 - likeness, 0)
    return structure


def _norms(errors: Plane) -> NDArray[np.float64]:
    """Channel x (mean, 4-norm)."""
    fourth = np.square(np.square(errors))
    return np.stack(
        [errors.mean(axis=(0, 1), dtype=np.float64), fourth.mean(axis=(0, 1), dtype=np.float64) ** 0.25],
        axis=1,
    )


def _blurred(plane: Plane) -> Plane:
    """Gaussian; around the picture is black, as in Cloudinary's code."""
    around = (BLUR_RADIUS, BLUR_RADIUS)
    padded = np.pad(plane, (around, around, (0, 0)))
    image = pyvips.Image.new_from_memory(padded, padded.shape[1], padded.shape[0], 3, "float")
    blurred: Plane = image.convsep(_kernel(), precision="float").numpy()
    return blurred[BLUR_RADIUS:-BLUR_RADIUS, BLUR_RADIUS:-BLUR_RADIUS]


@functools.cache
def _kernel() -> pyvips.Image:
    distance = np.arange(-BLUR_RADIUS, BLUR_RADIUS + 1)
    weights = np.exp(-(distance**2) / (2 * BLUR_SIGMA**2))
    return pyvips.Image.new_from_array([list(weights / weights.sum())])
