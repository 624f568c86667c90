"""The steps on a picture, one file per step, and the table that finds the one for a planned step."""

from collections.abc import Callable, Mapping
from typing import Any

from image_processor.engine.vips.geometry import Cut, Mirror, Pad, Paint, Scale, Seek, Spin, Step, Turn
from image_processor.engine.vips.picture import Picture
from image_processor.engine.vips.steps.cut import cut
from image_processor.engine.vips.steps.mirror import mirror
from image_processor.engine.vips.steps.pad import pad
from image_processor.engine.vips.steps.paint import paint
from image_processor.engine.vips.steps.scale import scale
from image_processor.engine.vips.steps.seek import seek
from image_processor.engine.vips.steps.spin import spin
from image_processor.engine.vips.steps.turn import turn

STEPS: Mapping[type[Step], Callable[[Picture, Any], Picture]] = {
    Scale: scale,
    Cut: cut,
    Seek: seek,
    Pad: pad,
    Turn: turn,
    Spin: spin,
    Mirror: mirror,
    Paint: paint,
}


def apply(steps: tuple[Step, ...], picture: Picture) -> Picture:
    """The picture after the steps, in their order; its pixels are worked out when somebody asks for them."""
    for step in steps:
        picture = STEPS[type(step)](picture, step)
    return picture
