"""Sizes in whole pixels and the engine's steps as values. Pure arithmetic: no pixels here."""

from dataclasses import dataclass

from image_processor.pipeline.operations import (
    Adjust,
    Blur,
    Flatten,
    Gamma,
    Grayscale,
    ImageWatermark,
    Sharpen,
    Smart,
    TextWatermark,
    Tint,
)


@dataclass(frozen=True, order=False)
class Size:
    """A width and a height in pixels, each at least 1."""

    width: int
    height: int

    @property
    def pixels(self) -> int:
        """Width x height."""
        return self.width * self.height

    def turned(self) -> "Size":
        """Width and height swapped."""
        return Size(self.height, self.width)

    def times(self, factor: int) -> "Size":
        """Both sides so many times as long."""
        return Size(self.width * factor, self.height * factor)

    def scaled(self, numerator: int, denominator: int) -> "Size":
        """Both sides times a fraction, halves rounded up, at least 1."""
        return Size(
            _rounded(self.width, numerator, denominator), _rounded(self.height, numerator, denominator)
        )

    def fits(self, other: "Size") -> bool:
        """Whether neither side is longer than the other's."""
        return self.width <= other.width and self.height <= other.height

    def meet(self, other: "Size") -> "Size":
        """The shorter of each side."""
        return Size(min(self.width, other.width), min(self.height, other.height))

    def join(self, other: "Size") -> "Size":
        """The longer of each side."""
        return Size(max(self.width, other.width), max(self.height, other.height))


def _rounded(side: int, numerator: int, denominator: int) -> int:
    return max(1, (2 * side * numerator + denominator) // (2 * denominator))


@dataclass(frozen=True)
class Scale:
    """Resample to exactly this size, in linear light where that is asked for."""

    size: Size
    is_linear: bool = False

    def result(self, _size: Size) -> Size:
        """The size afterwards."""
        return self.size


@dataclass(frozen=True)
class Cut:
    """Keep the region at x, y, which lies within the image."""

    x: int
    y: int
    size: Size

    def result(self, _size: Size) -> Size:
        """The size afterwards."""
        return self.size


@dataclass(frozen=True)
class Seek:
    """Keep a region of this size, wherever the image has most of what is looked for."""

    size: Size
    what: Smart

    def result(self, _size: Size) -> Size:
        """The size afterwards."""
        return self.size


@dataclass(frozen=True)
class Pad:
    """Lay the image at x, y on a canvas of one colour, `#rrggbb` or `#rrggbbaa`."""

    x: int
    y: int
    size: Size
    background: str

    def result(self, _size: Size) -> Size:
        """The size afterwards."""
        return self.size


@dataclass(frozen=True)
class Turn:
    """Turn clockwise by 90, 180 or 270 degrees."""

    degrees: int

    def result(self, size: Size) -> Size:
        """The size afterwards."""
        return size if self.degrees == 180 else size.turned()


@dataclass(frozen=True)
class Spin:
    """Turn clockwise by any angle around the centre, on a canvas of this size and one colour."""

    degrees: float
    size: Size
    background: str

    def result(self, _size: Size) -> Size:
        """The size afterwards."""
        return self.size


@dataclass(frozen=True)
class Mirror:
    """Swap top and bottom (`upside_down`), or else left and right."""

    upside_down: bool

    def result(self, size: Size) -> Size:
        """The size afterwards: the same."""
        return size


Look = Blur | Sharpen | Grayscale | Tint | Adjust | Gamma | Flatten | ImageWatermark | TextWatermark
"""The operations that leave the size as it is; they are steps as they stand."""


@dataclass(frozen=True)
class Paint:
    """Change how the pixels look, and not how many there are."""

    operation: Look

    def result(self, size: Size) -> Size:
        """The size afterwards: the same."""
        return size


Step = Scale | Cut | Seek | Pad | Turn | Spin | Mirror | Paint
