"""jpegli, and mozjpeg's lossless pass: JPEG encoders beside the one that libvips has."""

import mozjpeg_lossless_optimization
import pyjpegli
import pyvips

from image_processor.engine.vips.save.quality_scale import JPEGLI, on_scale
from image_processor.errors import CorruptImageError

LONGEST_SIDE = 65_500
HIGHEST_QUALITY = 99
"""100 is for the encoder that adds nothing of its own."""


def encode(image: pyvips.Image, quality: int) -> bytes:
    """A baseline JPEG with 4:2:0 of an sRGB image of three bands, quality on libjpeg's scale."""
    pixels = image.write_to_memory()
    return bytes(pyjpegli.encode(pixels, image.width, image.height, on_scale(quality, JPEGLI)))


def losslessly_shorter(data: bytes) -> bytes:
    """
    The same picture, pixel for pixel, progressive and without any metadata.

    Raises CorruptImageError for what is no JPEG, or one that is coded in a way that cannot be copied.
    """
    try:
        shorter = mozjpeg_lossless_optimization.optimize(data)
    except ValueError as error:
        raise CorruptImageError("The JPEG cannot be copied losslessly.") from error
    return bytes(shorter)
