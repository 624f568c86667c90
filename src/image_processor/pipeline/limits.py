"""What intake refuses, and the engine checks once more before it decodes."""

from pydantic import Field

from image_processor.pipeline.value import Value

MEGAPIXEL = 1_000_000


class Limits(Value):
    """Upper bounds on one original, and the shortest side it may have."""

    max_bytes: int = Field(default=10 * 1024 * 1024, ge=1)
    """Length of the file, in bytes."""
    max_pixels: int = Field(default=120 * MEGAPIXEL, ge=1)
    """Width x height x frames, in pixels. The largest camera files of today have 108 megapixels."""
    max_side: int = Field(default=30_000, ge=1, le=65_535)
    """Width and height each, in pixels. 65 535 is the most that JPEG can hold."""
    max_frames: int = Field(default=300, ge=1)
    """Frames of an animation, or pages."""
    min_side: int = Field(default=1, ge=1)
    """Width and height each, in pixels."""
