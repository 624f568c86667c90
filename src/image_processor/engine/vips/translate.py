"""From one operation to the steps it means for an image of some size. Pure arithmetic: no pixels here."""

import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

from image_processor.engine.vips.geometry import (
    Cut,
    Look,
    Mirror,
    Pad,
    Paint,
    Scale,
    Seek,
    Size,
    Spin,
    Step,
    Turn,
)
from image_processor.errors import InvalidOperationError
from image_processor.pipeline import (
    Crop,
    Fit,
    Flip,
    Flop,
    Focus,
    Gravity,
    Operation,
    Resize,
    Rotate,
    Smart,
    Trim,
)
from image_processor.pipeline.operations import Pad as PadOperation

QUARTER = 90
FULL_TURN = 360


def steps_of(operation: Operation, size: Size) -> tuple[Step, ...]:
    """
    The steps of one operation on an image of this size; a look is a step as it stands.

    Raises InvalidOperationError for a region that lies wholly outside the image.
    """
    return (Paint(operation),) if isinstance(operation, Look) else _STEPS[type(operation)](operation, size)


def note_of(operation: Operation, size: Size) -> str | None:
    """What the caller should know: a region that reaches beyond the image is clipped to it."""
    if not isinstance(operation, Crop) or operation.width is None or operation.height is None:
        return None
    kept = _region(operation, size).size if operation.is_region else _kept(operation, size)
    if kept == Size(operation.width, operation.height):
        return None
    return (
        f"The region of {operation.width} x {operation.height} pixels was clipped to "
        f"{kept.width} x {kept.height}: the image has {size.width} x {size.height}."
    )


def inside(size: Size, width: int | None, height: int | None, *, allow_enlarge: bool = False) -> Size:
    """The largest size of the same aspect ratio within these sides."""
    by_width = height is None or (width is not None and width * size.height <= height * size.width)
    wanted, have = (width, size.width) if by_width else (height, size.height)
    if wanted is None or (wanted >= have and not allow_enlarge):
        return size
    return size.scaled(wanted, have)


def _resize(operation: Resize, size: Size) -> tuple[Step, ...]:
    if operation.percent is not None:
        factor = Fraction(str(operation.percent)) / 100
        scaled = size.scaled(factor.numerator, factor.denominator)
        return (Scale(scaled if operation.allow_enlarge else scaled.meet(size)),)
    return _FITS[operation.fit](operation, size)


def _exact(operation: Resize, size: Size) -> tuple[Step, ...]:
    wanted = _box(operation, size)
    return (Scale(wanted if operation.allow_enlarge else wanted.meet(size)),)


def _inside(operation: Resize, size: Size) -> tuple[Step, ...]:
    return (Scale(inside(size, operation.width, operation.height, allow_enlarge=operation.allow_enlarge)),)


def _outside(operation: Resize, size: Size) -> tuple[Step, ...]:
    return (Scale(_filling(size, _box(operation, size), allow_enlarge=operation.allow_enlarge)),)


def _cover(operation: Resize, size: Size) -> tuple[Step, ...]:
    """As sharp's `withoutEnlargement`: a smaller image keeps its scale and is cut where it is too long."""
    wanted = _box(operation, size)
    scaled = _filling(size, wanted, allow_enlarge=operation.allow_enlarge)
    kept = scaled.meet(wanted)
    return Scale(scaled), _placed(kept, scaled, operation.focus or operation.position)


def _pad_to(operation: Resize, size: Size) -> tuple[Step, ...]:
    canvas = _box(operation, size)
    scaled = inside(size, canvas.width, canvas.height, allow_enlarge=operation.allow_enlarge)
    gravity = operation.position if isinstance(operation.position, Gravity) else Gravity.CENTER
    # Half a pixel goes to the right and to the bottom, as in sharp; a cut takes it from the left and the top.
    x = (canvas.width - scaled.width) * gravity.across // 2
    y = (canvas.height - scaled.height) * gravity.down // 2
    return Scale(scaled), Pad(x, y, canvas, operation.background)


def _box(operation: Resize, size: Size) -> Size:
    return Size(operation.width or size.width, operation.height or size.height)


def _filling(size: Size, box: Size, *, allow_enlarge: bool) -> Size:
    by_width = box.width * size.height >= box.height * size.width
    wanted, have = (box.width, size.width) if by_width else (box.height, size.height)
    return size if wanted >= have and not allow_enlarge else size.scaled(wanted, have)


def _crop(operation: Crop, size: Size) -> tuple[Step, ...]:
    if operation.is_region:
        return (_region(operation, size),)
    return (_placed(_kept(operation, size), size, operation.focus or operation.smart or operation.gravity),)


def _region(operation: Crop, size: Size) -> Cut:
    x, y = operation.x or 0, operation.y or 0
    if x >= size.width or y >= size.height:
        raise InvalidOperationError(
            f"The region at {x}, {y} lies outside the image of {size.width} x {size.height} pixels."
        )
    rest = Size(size.width - x, size.height - y)
    return Cut(x, y, rest.meet(Size(operation.width or 1, operation.height or 1)))


def _kept(operation: Crop, size: Size) -> Size:
    if operation.aspect is None:
        return size.meet(Size(operation.width or size.width, operation.height or size.height))
    across, down = map(int, operation.aspect.split(":"))
    if size.width * down >= size.height * across:
        return size.meet(Size(Size(across, across).scaled(size.height, down).width, size.height))
    return size.meet(Size(size.width, Size(down, down).scaled(size.width, across).height))


def _placed(kept: Size, size: Size, where: Gravity | Smart | Focus) -> Step:
    """The cut that keeps so much, at a place that is given or has to be found."""
    if isinstance(where, Smart):
        return Seek(kept, where)
    spare_x, spare_y = size.width - kept.width, size.height - kept.height
    if isinstance(where, Focus):
        x, y = _around(where.x, size.width, kept.width), _around(where.y, size.height, kept.height)
        return Cut(x, y, kept)
    # An odd pixel is cut off at the left and at the top, as sharp does.
    return Cut((spare_x * where.across + 1) // 2, (spare_y * where.down + 1) // 2, kept)


def _around(fraction: float, side: int, kept: int) -> int:
    return min(max(0, math.floor(fraction * side - kept / 2 + 0.5)), side - kept)


def _rotate(operation: Rotate, size: Size) -> tuple[Step, ...]:
    degrees = operation.degrees % FULL_TURN
    if degrees % QUARTER == 0:
        return (Turn(int(degrees)),) if degrees % FULL_TURN else ()
    return (Spin(degrees, _turned_size(size, degrees), operation.background),)


def _turned_size(size: Size, degrees: float) -> Size:
    """Of the upright rectangle around the turned one, halves rounded up, as libvips' `affine` does."""
    across, down = abs(math.cos(math.radians(degrees))), abs(math.sin(math.radians(degrees)))
    width, height = size.width * across + size.height * down, size.width * down + size.height * across
    return Size(max(1, math.floor(width + 0.5)), max(1, math.floor(height + 0.5)))


def _flip(_operation: Flip, _size: Size) -> tuple[Step, ...]:
    return (Mirror(upside_down=True),)


def _flop(_operation: Flop, _size: Size) -> tuple[Step, ...]:
    return (Mirror(upside_down=False),)


def _pad(operation: PadOperation, size: Size) -> tuple[Step, ...]:
    width = size.width + operation.left + operation.right
    height = size.height + operation.top + operation.bottom
    return (Pad(operation.left, operation.top, Size(width, height), operation.background),)


def _trim(_operation: Trim, _size: Size) -> tuple[Step, ...]:
    raise TypeError("what a trim leaves is seen in the pixels: it becomes a crop before the plan is made")


_FITS: Mapping[Fit, Callable[[Resize, Size], tuple[Step, ...]]] = {
    Fit.EXACT: _exact,
    Fit.INSIDE: _inside,
    Fit.OUTSIDE: _outside,
    Fit.COVER: _cover,
    Fit.PAD: _pad_to,
}
_STEPS: Mapping[type, Callable[[Any, Size], tuple[Step, ...]]] = {
    Resize: _resize,
    Crop: _crop,
    Rotate: _rotate,
    Flip: _flip,
    Flop: _flop,
    PadOperation: _pad,
    Trim: _trim,
}
