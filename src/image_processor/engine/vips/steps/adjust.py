"""Adjust: brightness, saturation and hue in LCh, then contrast in sRGB."""

import math
from functools import partial

import pyvips

from image_processor.engine.vips.color import GREY, most
from image_processor.engine.vips.levels import as_deep_as, in_16_bits, recolored, rounded, through_table
from image_processor.engine.vips.picture import Picture
from image_processor.pipeline import Adjust

Matrix = list[list[float]]
FULL_TURN = 360
_UNCHANGED: Matrix = [[1, 0, 0], [0, 1, 0], [0, 0, 1]]


def adjust(picture: Picture, operation: Adjust) -> Picture:
    """Every frame, adjusted."""
    matrix = _matrix(operation)
    return picture.map(
        lambda frame: recolored(frame, partial(_adjust, matrix=matrix, contrast=operation.contrast))
    )


def _adjust(colors: pyvips.Image, matrix: Matrix, contrast: float) -> pyvips.Image:
    if matrix == _UNCHANGED:
        return _stretch(colors, contrast)
    change = partial(_shift, matrix=matrix, contrast=contrast)
    return through_table(colors, change) if colors.interpretation in GREY else change(colors)


def _shift(colors: pyvips.Image, matrix: Matrix, contrast: float) -> pyvips.Image:
    shifted = in_16_bits(colors.colourspace("lab").recomb(matrix), like=colors)
    return as_deep_as(colors, _stretch(shifted, contrast))


def _stretch(colors: pyvips.Image, contrast: float) -> pyvips.Image:
    def stretch(levels: pyvips.Image) -> pyvips.Image:
        middle = most(levels) / 2
        return rounded((levels - middle) * contrast + middle, levels)

    return colors if contrast == 1 else through_table(colors, stretch)


def _matrix(operation: Adjust) -> Matrix:
    """On L, a and b: a factor on the chroma and a turn of the hue are linear in them."""
    if (operation.brightness, operation.saturation, operation.hue % FULL_TURN) == (1, 1, 0):
        return _UNCHANGED
    # Black has no chroma: without lightness alone, libvips would leave traces of it.
    chroma = operation.saturation if operation.brightness else 0
    across, along = (chroma * part(math.radians(operation.hue)) for part in (math.cos, math.sin))
    return [[operation.brightness, 0, 0], [0, across, -along], [0, along, across]]
