"""Pure values: what a caller may ask for, with its ranges. No I/O and no pixels here."""

from image_processor.pipeline.formats import ImageFormat
from image_processor.pipeline.limits import Limits
from image_processor.pipeline.operations import Crop, Fit, Flip, Flop, Operation, Resize, Rotate
from image_processor.pipeline.outputs import JpegOutput, Output, PngOutput, SourceOutput, WebpOutput
from image_processor.pipeline.pipeline import Pipeline, Variant
from image_processor.pipeline.presets import BUILTIN_PRESETS, Preset, load_presets, web_preset

__all__ = [
    "BUILTIN_PRESETS",
    "Crop",
    "Fit",
    "Flip",
    "Flop",
    "ImageFormat",
    "JpegOutput",
    "Limits",
    "Operation",
    "Output",
    "Pipeline",
    "PngOutput",
    "Preset",
    "Resize",
    "Rotate",
    "SourceOutput",
    "Variant",
    "WebpOutput",
    "load_presets",
    "web_preset",
]
