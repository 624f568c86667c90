"""The types of the fields that several operations share."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from image_processor.pipeline.value import Value

MAX_SIDE = 65_535
"""No side that is asked for may be longer, in pixels: the most that JPEG can hold."""

Side = Annotated[int, Field(ge=1, le=MAX_SIDE)]
Colour = Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}([0-9a-fA-F]{2})?$")]
"""`#rrggbb` or `#rrggbbaa` in sRGB; `#00000000` is wholly transparent."""
OpaqueColour = Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")]
"""`#rrggbb` in sRGB."""
AspectRatio = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,4}:[1-9][0-9]{0,4}$")]
"""Width to height in whole numbers, such as `16:9`."""


class Fit(StrEnum):
    """How an image is brought to a width and a height."""

    EXACT = "exact"
    """Exactly that size; the aspect ratio may change."""
    INSIDE = "inside"
    """As large as fits inside, aspect ratio kept."""
    OUTSIDE = "outside"
    """As small as fills it, aspect ratio kept; nothing is cut off."""
    COVER = "cover"
    """Fill it, aspect ratio kept; what is left over is cut off."""
    PAD = "pad"
    """Fit inside, then fill up with the background. Also read as `contain`."""

    @classmethod
    def _missing_(cls, value: object) -> "Fit | None":
        return {"contain": cls.PAD, "fill": cls.EXACT}.get(str(value))


class Gravity(StrEnum):
    """The part of the image that is kept, or the place where something is put."""

    CENTER = "center"
    NORTH = "north"
    NORTHEAST = "northeast"
    EAST = "east"
    SOUTHEAST = "southeast"
    SOUTH = "south"
    SOUTHWEST = "southwest"
    WEST = "west"
    NORTHWEST = "northwest"

    @property
    def across(self) -> int:
        """0 at the left edge, 1 in the middle, 2 at the right edge."""
        return 0 if "west" in self else 2 if "east" in self else 1

    @property
    def down(self) -> int:
        """0 at the top edge, 1 in the middle, 2 at the bottom edge."""
        return 0 if "north" in self else 2 if "south" in self else 1

    @classmethod
    def _missing_(cls, value: object) -> "Gravity | None":
        return _OTHER_NAMES.get(str(value))


_OTHER_NAMES: Mapping[str, Gravity] = {
    "centre": Gravity.CENTER,
    "top": Gravity.NORTH,
    "right top": Gravity.NORTHEAST,
    "right": Gravity.EAST,
    "right bottom": Gravity.SOUTHEAST,
    "bottom": Gravity.SOUTH,
    "left bottom": Gravity.SOUTHWEST,
    "left": Gravity.WEST,
    "left top": Gravity.NORTHWEST,
}


class Smart(StrEnum):
    """What is looked for in the image to decide which part of it is kept."""

    ATTENTION = "attention"
    """What draws the eye: luminance contrast, saturated colours, skin."""
    ENTROPY = "entropy"
    """Where there is most detail."""
    FACE = "face"
    """Faces; the middle where there are none. Needs the extra `faces`."""


class Focus(Value):
    """A point of the image that is to stay in sight, as fractions of its width and height."""

    x: float = Field(ge=0, le=1)
    y: float = Field(ge=0, le=1)
