"""The operations that change which pixels there are: size, region, orientation, borders."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from image_processor.pipeline.operations.fields import (
    MAX_SIDE,
    AspectRatio,
    Colour,
    Fit,
    Focus,
    Gravity,
    OpaqueColour,
    Side,
    Smart,
)
from image_processor.pipeline.value import Value

MAX_PERCENT = 1000
Offset = Annotated[int, Field(ge=0, le=MAX_SIDE)]


class Resize(Value):
    """
    A new size: in pixels, with one side given the other follows the aspect ratio; or in percent.

    Without a `fit`, a width and a height are exact, unless `preserve_aspect` keeps the image inside them.
    """

    op: Literal["resize"] = "resize"
    width: Side | None = None
    height: Side | None = None
    percent: float | None = Field(default=None, gt=0, le=MAX_PERCENT)
    """Of both sides; 50 halves them, 200 doubles them."""
    preserve_aspect: bool | None = None
    """Short for `fit="inside"` (true) and `fit="exact"` (false)."""
    fit: Fit = Fit.INSIDE
    position: Gravity | Smart = Gravity.CENTER
    """What `cover` keeps, and where `pad` puts the image."""
    focus: Focus | None = None
    """What `cover` keeps in sight; stands above `position`."""
    background: Colour = "#ffffff"
    """Colour of the padding."""
    allow_enlarge: bool = False
    """Whether a smaller image may be scaled up. By default it is for `exact` and `percent` alone."""

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, fields: Any) -> Any:
        if not isinstance(fields, dict):
            return fields
        fields = dict(fields)
        has_both = fields.get("width") is not None and fields.get("height") is not None
        if fields.get("fit") is None:
            keeps = fields.get("preserve_aspect")
            is_exact = not keeps if has_both else keeps is False
            fields["fit"] = Fit.EXACT if is_exact else Fit.INSIDE
        if fields.get("allow_enlarge") is None:
            is_exact = str(fields["fit"]) in {"exact", "fill"}
            fields["allow_enlarge"] = is_exact or fields.get("percent") is not None
        return fields

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.percent is not None:
            if self.width is not None or self.height is not None:
                raise ValueError("resize takes a percent, or a width and a height, but not both")
            return self
        if self.width is None and self.height is None:
            raise ValueError("resize needs a width, a height or both, or a percent")
        if self.fit is not Fit.INSIDE and (self.width is None or self.height is None):
            raise ValueError(f"resize with fit {self.fit.value!r} needs both a width and a height")
        if isinstance(self.position, Smart) and self.fit is not Fit.COVER:
            raise ValueError(f"resize looks for what to keep only with fit 'cover', not {self.fit.value!r}")
        if self.preserve_aspect is not None and self.preserve_aspect != (self.fit is not Fit.EXACT):
            raise ValueError(f"resize with fit {self.fit.value!r} contradicts preserve_aspect")
        return self


class Crop(Value):
    """
    A region of the image: at `x`, `y` from the top left in pixels, or of a size or an aspect ratio.

    A region is clipped to the image. A size or an aspect ratio is placed by `gravity`, `smart` or `focus`.
    """

    op: Literal["crop"] = "crop"
    x: Offset | None = None
    y: Offset | None = None
    width: Side | None = None
    height: Side | None = None
    aspect: AspectRatio | None = None
    """The largest region of this ratio."""
    gravity: Gravity = Gravity.CENTER
    smart: Smart | None = None
    focus: Focus | None = None

    @property
    def is_region(self) -> bool:
        """Whether the place is given in pixels."""
        return self.x is not None

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        has_size = self.width is not None and self.height is not None
        if (self.x is None) != (self.y is None):
            raise ValueError("crop needs both x and y, or neither")
        if (self.width is None) != (self.height is None):
            raise ValueError("crop needs both a width and a height, or neither")
        if has_size == (self.aspect is not None) or (self.is_region and not has_size):
            raise ValueError("crop needs x, y, width and height; or width and height; or an aspect")
        placings = [self.is_region, self.gravity is not Gravity.CENTER, self.smart, self.focus]
        if sum(map(bool, placings)) > 1:
            raise ValueError("crop takes one of x and y, gravity, smart and focus")
        return self


class Rotate(Value):
    """A turn clockwise, in degrees; what the corners uncover has the background's colour."""

    op: Literal["rotate"] = "rotate"
    degrees: float = Field(ge=-360, le=360)
    background: Colour = "#ffffff"


class Flip(Value):
    """Upside down."""

    op: Literal["flip"] = "flip"


class Flop(Value):
    """Left and right swapped, as in a mirror."""

    op: Literal["flop"] = "flop"


class Trim(Value):
    """Borders of one colour cut off; an image of nothing else stays as it is."""

    op: Literal["trim"] = "trim"
    threshold: float = Field(default=10, ge=0, le=255)
    """By how many levels of 255 a pixel may differ from the border's colour."""
    background: OpaqueColour | None = None
    """The border's colour; by default that of the top left pixel."""


class Pad(Value):
    """Borders added, in pixels."""

    op: Literal["pad"] = "pad"
    top: Offset = 0
    right: Offset = 0
    bottom: Offset = 0
    left: Offset = 0
    background: Colour = "#ffffff"
