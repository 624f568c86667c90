"""Something laid over the image: another image, or a text."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from image_processor.pipeline.operations.fields import Gravity, OpaqueColour
from image_processor.pipeline.value import Value

MAX_WATERMARK_BYTES = 256 * 1024
"""A watermark travels with its job, as base64: it is small."""
MAX_TEXT_LENGTH = 200
MAX_MARGIN = 10_000


class _Watermark(Value):
    op: Literal["watermark"] = "watermark"
    gravity: Gravity = Gravity.SOUTHEAST
    opacity: float = Field(default=1.0, ge=0, le=1)
    tile: bool = False
    """Whether it is repeated over the whole image."""
    margin: int = Field(default=0, ge=0, le=MAX_MARGIN)
    """Pixels between it and the edge, or between tiles."""


class ImageWatermark(_Watermark):
    """An image laid over the image."""

    image: Annotated[bytes, Field(min_length=1, max_length=MAX_WATERMARK_BYTES)]
    """A PNG, JPEG or WebP file; base64 in JSON."""
    width_percent: float | None = Field(default=None, gt=0, le=100)
    """Its width, of the image's width; by default it keeps its pixels, or shrinks to fit inside."""


class TextWatermark(_Watermark):
    """A line of text laid over the image."""

    text: str = Field(min_length=1, max_length=MAX_TEXT_LENGTH)
    """One line; letters that the font does not have are an error."""
    size: int = Field(default=32, ge=4, le=1000)
    """Height of the font, in pixels."""
    color: OpaqueColour = "#ffffff"


def _kind(fields: Any) -> str:
    has_text = "text" in fields if isinstance(fields, dict) else isinstance(fields, TextWatermark)
    return "text" if has_text else "image"


Watermark = Annotated[
    Annotated[ImageWatermark, Tag("image")] | Annotated[TextWatermark, Tag("text")], Discriminator(_kind)
]
