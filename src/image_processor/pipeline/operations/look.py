"""The operations that change how the pixels look, and leave the size as it is."""

from typing import Literal

from pydantic import Field

from image_processor.pipeline.operations.fields import OpaqueColour
from image_processor.pipeline.value import Value


class Blur(Value):
    """A Gaussian blur."""

    op: Literal["blur"] = "blur"
    sigma: float = Field(default=1.0, ge=0.3, le=100)
    """Standard deviation, in pixels."""


class Sharpen(Value):
    """An unsharp mask on the lightness, milder in flat areas than at edges."""

    op: Literal["sharpen"] = "sharpen"
    sigma: float = Field(default=1.0, ge=0.3, le=10)
    """Standard deviation of the mask, in pixels."""
    flat: float = Field(default=1.0, ge=0, le=100)
    """How much flat areas are sharpened."""
    jagged: float = Field(default=2.0, ge=0, le=100)
    """How much edges are sharpened."""


class Grayscale(Value):
    """Shades of grey by lightness."""

    op: Literal["grayscale"] = "grayscale"


class Tint(Value):
    """The hue of one colour over the lightness of the image."""

    op: Literal["tint"] = "tint"
    color: OpaqueColour


class Adjust(Value):
    """Brightness, contrast and saturation as factors (1 changes nothing), and a turn of the hue."""

    op: Literal["adjust"] = "adjust"
    brightness: float = Field(default=1.0, ge=0, le=10)
    """Factor on the lightness; 0 is black."""
    contrast: float = Field(default=1.0, ge=0, le=10)
    """Factor on the distance to middle grey, 50 % of the range; 0 is grey."""
    saturation: float = Field(default=1.0, ge=0, le=10)
    """Factor on the chroma; 0 is without colour."""
    hue: float = Field(default=0.0, ge=-360, le=360)
    """Degrees around the colour circle."""


class Gamma(Value):
    """A brightness curve: each level, from 0 to 1, to the power of 1 / gamma."""

    op: Literal["gamma"] = "gamma"
    gamma: float = Field(default=2.2, ge=0.1, le=10)
    """Above 1 brightens the middle tones, below 1 darkens them."""


class Flatten(Value):
    """Transparency laid on a colour."""

    op: Literal["flatten"] = "flatten"
    background: OpaqueColour = "#ffffff"
