"""Image Processor: upload, check, process into variants, store, serve."""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from image_processor.engine.base import Facts
    from image_processor.errors import (
        CorruptImageError,
        EngineCrashedError,
        EngineError,
        EngineTimeoutError,
        FileTooLargeError,
        ImageProcessorError,
        ImageTooLargeError,
        ImageTooSmallError,
        InvalidOperationError,
        InvalidRequestError,
        MissingExtraError,
        NotFoundError,
        RejectedError,
        StorageError,
        StorageFullError,
        UnsupportedFormatError,
    )
    from image_processor.pipeline import (
        Adjust,
        AvifOutput,
        Blur,
        Crop,
        Fit,
        Flatten,
        Flip,
        Flop,
        Focus,
        Gamma,
        GifOutput,
        Gravity,
        Grayscale,
        ImageFormat,
        ImageWatermark,
        JpegOutput,
        Limits,
        Metadata,
        Optimize,
        Pad,
        Pipeline,
        PngOutput,
        Preset,
        Profile,
        Resize,
        Rotate,
        Sharpen,
        Smart,
        SourceOutput,
        TextWatermark,
        TiffOutput,
        Tint,
        Trim,
        Variant,
        WebpOutput,
        load_presets,
        web_preset,
    )
    from image_processor.pipeline.chain import Convert, KeepMetadata, Strip
    from image_processor.pipeline.negotiation import AutoOutput
    from image_processor.processor import ImageProcessor
    from image_processor.result import Result

__version__ = version("image-processor")
__all__ = [
    "Adjust",
    "AutoOutput",
    "AvifOutput",
    "Blur",
    "Convert",
    "CorruptImageError",
    "Crop",
    "EngineCrashedError",
    "EngineError",
    "EngineTimeoutError",
    "Facts",
    "FileTooLargeError",
    "Fit",
    "Flatten",
    "Flip",
    "Flop",
    "Focus",
    "Gamma",
    "GifOutput",
    "Gravity",
    "Grayscale",
    "ImageFormat",
    "ImageProcessor",
    "ImageProcessorError",
    "ImageTooLargeError",
    "ImageTooSmallError",
    "ImageWatermark",
    "InvalidOperationError",
    "InvalidRequestError",
    "JpegOutput",
    "KeepMetadata",
    "Limits",
    "Metadata",
    "MissingExtraError",
    "NotFoundError",
    "Optimize",
    "Pad",
    "Pipeline",
    "PngOutput",
    "Preset",
    "Profile",
    "RejectedError",
    "Resize",
    "Result",
    "Rotate",
    "Sharpen",
    "Smart",
    "SourceOutput",
    "StorageError",
    "StorageFullError",
    "Strip",
    "TextWatermark",
    "TiffOutput",
    "Tint",
    "Trim",
    "UnsupportedFormatError",
    "Variant",
    "WebpOutput",
    "__version__",
    "load_presets",
    "web_preset",
]

_HOMES = (
    "errors",
    "pipeline",
    "pipeline.chain",
    "pipeline.negotiation",
    "engine.base",
    "result",
    "processor",
)
"""Where these names live. Nothing is loaded before it is asked for: most processes never decode."""


def __getattr__(name: str) -> Any:
    if name in __all__:
        for home in _HOMES:
            module = import_module(f"{__name__}.{home}")
            if hasattr(module, name):
                return globals().setdefault(name, getattr(module, name))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
