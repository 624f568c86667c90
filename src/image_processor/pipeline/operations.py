"""The closed set of operations that a caller can ask for, each with the ranges of its fields."""

from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from image_processor.pipeline.value import Value

MAX_SIDE = 65_535
"""No side that is asked for may be longer, in pixels: the most that JPEG can hold."""

Side = Annotated[int, Field(ge=1, le=MAX_SIDE)]
Colour = Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")]


class Fit(StrEnum):
    """How an image is brought to a width and a height."""

    EXACT = "exact"
    """Exactly that size; the aspect ratio may change."""
    INSIDE = "inside"
    """As large as fits inside, aspect ratio kept."""
    COVER = "cover"
    """Fill it, aspect ratio kept; what is left over is cut off around the centre."""
    PAD = "pad"
    """Fit inside, then fill up with the background around the centre."""


class Resize(Value):
    """A new size in pixels; with one side given, the other follows the aspect ratio."""

    op: Literal["resize"] = "resize"
    width: Side | None = None
    height: Side | None = None
    fit: Fit = Fit.INSIDE
    background: Colour = "#ffffff"
    """Colour of the padding, `#rrggbb` in sRGB."""
    allow_enlarge: bool = False
    """Whether a smaller image may be scaled up; without it the size asked for is a bound."""

    @model_validator(mode="after")
    def _has_the_sides_it_needs(self) -> Self:
        if self.width is None and self.height is None:
            raise ValueError("resize needs a width, a height or both")
        if self.fit is not Fit.INSIDE and (self.width is None or self.height is None):
            raise ValueError(f"resize with fit {self.fit.value!r} needs both a width and a height")
        return self


class Crop(Value):
    """The region at x, y from the top left, in pixels; it is clipped to the image."""

    op: Literal["crop"] = "crop"
    x: int = Field(ge=0, le=MAX_SIDE)
    y: int = Field(ge=0, le=MAX_SIDE)
    width: Side
    height: Side


class Rotate(Value):
    """A turn clockwise, in degrees."""

    op: Literal["rotate"] = "rotate"
    degrees: Literal[90, 180, 270]


class Flip(Value):
    """Upside down."""

    op: Literal["flip"] = "flip"


class Flop(Value):
    """Left and right swapped, as in a mirror."""

    op: Literal["flop"] = "flop"


Operation = Annotated[Resize | Crop | Rotate | Flip | Flop, Field(discriminator="op")]
