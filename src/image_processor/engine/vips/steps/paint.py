"""Paint: the operations on how pixels look, and the table that finds the function for one."""

from collections.abc import Callable, Mapping
from typing import Any

from image_processor.engine.vips.geometry import Paint
from image_processor.engine.vips.picture import Picture
from image_processor.engine.vips.steps.adjust import adjust
from image_processor.engine.vips.steps.blur import blur
from image_processor.engine.vips.steps.flatten import flatten
from image_processor.engine.vips.steps.gamma import gamma
from image_processor.engine.vips.steps.grayscale import grayscale
from image_processor.engine.vips.steps.sharpen import sharpen
from image_processor.engine.vips.steps.tint import tint
from image_processor.engine.vips.steps.watermark import watermark
from image_processor.pipeline import (
    Adjust,
    Blur,
    Flatten,
    Gamma,
    Grayscale,
    ImageWatermark,
    Sharpen,
    TextWatermark,
    Tint,
)

LOOKS: Mapping[type, Callable[[Picture, Any], Picture]] = {
    Blur: blur,
    Sharpen: sharpen,
    Grayscale: grayscale,
    Tint: tint,
    Adjust: adjust,
    Gamma: gamma,
    Flatten: flatten,
    ImageWatermark: watermark,
    TextWatermark: watermark,
}


def paint(picture: Picture, step: Paint) -> Picture:
    """The picture after the operation, in the same size."""
    return LOOKS[type(step.operation)](picture, step.operation)
