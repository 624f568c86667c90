"""Gamma: a brightness curve."""

import pyvips

from image_processor.engine.vips.color import most
from image_processor.engine.vips.levels import recolored, rounded, through_table
from image_processor.engine.vips.picture import Picture
from image_processor.pipeline import Gamma


def gamma(picture: Picture, operation: Gamma) -> Picture:
    """Every level of every frame, from 0 to 1, to the power of 1 / gamma."""

    def bend(levels: pyvips.Image) -> pyvips.Image:
        return rounded((levels / most(levels)) ** (1 / operation.gamma) * most(levels), levels)

    return picture.map(lambda frame: recolored(frame, lambda colors: through_table(colors, bend)))
