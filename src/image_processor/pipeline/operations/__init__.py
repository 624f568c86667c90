"""The closed set of operations that a caller can ask for, each with the ranges of its fields."""

from typing import Annotated

from pydantic import Field

from image_processor.pipeline.operations.fields import (
    MAX_SIDE,
    AspectRatio,
    Colour,
    Fit,
    Focus,
    Gravity,
    Side,
    Smart,
)
from image_processor.pipeline.operations.geometry import Crop, Flip, Flop, Pad, Resize, Rotate, Trim
from image_processor.pipeline.operations.look import (
    Adjust,
    Blur,
    Flatten,
    Gamma,
    Grayscale,
    Sharpen,
    Tint,
)
from image_processor.pipeline.operations.watermark import ImageWatermark, TextWatermark, Watermark

Operation = Annotated[
    Resize
    | Crop
    | Rotate
    | Flip
    | Flop
    | Trim
    | Pad
    | Blur
    | Sharpen
    | Grayscale
    | Tint
    | Adjust
    | Gamma
    | Flatten
    | Watermark,
    Field(discriminator="op"),
]

__all__ = [
    "MAX_SIDE",
    "Adjust",
    "AspectRatio",
    "Blur",
    "Colour",
    "Crop",
    "Fit",
    "Flatten",
    "Flip",
    "Flop",
    "Focus",
    "Gamma",
    "Gravity",
    "Grayscale",
    "ImageWatermark",
    "Operation",
    "Pad",
    "Resize",
    "Rotate",
    "Sharpen",
    "Side",
    "Smart",
    "TextWatermark",
    "Tint",
    "Trim",
    "Watermark",
]
