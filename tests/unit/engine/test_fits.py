"""Every fit, place, shape and size, against sizes and places computed here by the rule, in fractions."""

from fractions import Fraction
from itertools import product

import pytest

from image_processor.engine.vips.geometry import Cut, Pad, Scale, Seek, Size
from image_processor.engine.vips.plan import make_plan
from image_processor.errors import InvalidOperationError
from image_processor.pipeline import (
    Crop,
    Fit,
    Focus,
    Gravity,
    ImageFormat,
    Limits,
    Pipeline,
    PngOutput,
    Resize,
    Rotate,
    Smart,
    Variant,
)
from image_processor.pipeline import Pad as PadOperation

ORIGINALS = {"landscape": (4000, 3000), "portrait": (3024, 4032), "square": (500, 500), "odd": (101, 67)}
BOXES = [(800, 600), (600, 800), (333, 333), (50, 49)]


def planned(original, *operations, limits=None):
    variant = Variant(name="only", operations=operations, output=PngOutput())
    pipeline = Pipeline(variants=(variant,))
    return make_plan(pipeline, ImageFormat.JPEG, Size(*original), limits or Limits()).variants[0]


def half_up(value):
    return max(1, int(value + Fraction(1, 2)))


def scaled(original, factor):
    return tuple(half_up(side * factor) for side in original)


def expected(fit, original, box, enlarge):
    """The size of the whole scaled image, and the size of the result."""
    (width, height), (across, down) = original, box
    ratios = Fraction(across, width), Fraction(down, height)
    if fit is Fit.EXACT:
        size = box if enlarge else (min(across, width), min(down, height))
        return size, size
    factor = max(ratios) if fit in {Fit.COVER, Fit.OUTSIDE} else min(ratios)
    whole = original if factor >= 1 and not enlarge else scaled(original, factor)
    kept = tuple(map(min, whole, box))
    return whole, {Fit.COVER: kept, Fit.PAD: box}.get(fit, whole)


@pytest.mark.parametrize("fit", Fit)
@pytest.mark.parametrize("original", ORIGINALS.values(), ids=ORIGINALS.keys())
@pytest.mark.parametrize("enlarge", [False, True])
def test_a_fit_has_the_size_and_the_place_of_the_rule(fit, original, enlarge):
    for box, gravity in product(BOXES, Gravity):
        resize = Resize(width=box[0], height=box[1], fit=fit, position=gravity, allow_enlarge=enlarge)
        variant = planned(original, resize)
        whole, result = expected(fit, original, box, enlarge)
        assert variant.size == Size(*result), (box, gravity)
        steps = {type(step): step for step in variant.steps}
        assert (Scale in steps) == (whole != original)
        if Cut in steps:
            spare = whole[0] - result[0], whole[1] - result[1]
            assert (steps[Cut].x, steps[Cut].y) == at(spare, gravity, rounds_up=True)
        if Pad in steps:
            spare = result[0] - whole[0], result[1] - whole[1]
            assert (steps[Pad].x, steps[Pad].y) == at(spare, gravity, rounds_up=False)


def at(spare, gravity, *, rounds_up):
    """Where the image lies: at an edge, or in the middle, where half a pixel is rounded as sharp does."""
    middle = [(side + rounds_up) // 2 for side in spare]
    names = gravity.value
    x = 0 if names.endswith("west") else spare[0] if names.endswith("east") else middle[0]
    y = 0 if names.startswith("north") else spare[1] if names.startswith("south") else middle[1]
    return x, y


@pytest.mark.parametrize(
    ("original", "percent", "size"),
    [
        ((4000, 3000), 50, (2000, 1500)),
        ((101, 67), 50, (51, 34)),
        ((101, 67), 200, (202, 134)),
        ((3, 1), 1, (1, 1)),
        ((1000, 10), 33.3, (333, 3)),
        ((100, 100), 12.5, (13, 13)),
    ],
)
def test_a_percentage_is_of_both_sides(original, percent, size):
    assert planned(original, Resize(percent=percent)).size == Size(*size)


def test_a_percentage_enlarges_unless_told_not_to():
    assert planned((10, 10), Resize(percent=200, allow_enlarge=False)).size == Size(10, 10)


@pytest.mark.parametrize(
    ("aspect", "size"),
    [("16:9", (4000, 2250)), ("1:1", (3000, 3000)), ("9:16", (1688, 3000)), ("4:3", (4000, 3000))],
)
def test_an_aspect_ratio_keeps_the_largest_region_in_the_middle(aspect, size):
    variant = planned((4000, 3000), Crop(aspect=aspect))
    assert variant.size == Size(*size)
    if variant.steps:
        assert variant.steps == (Cut((4001 - size[0]) // 2, (3001 - size[1]) // 2, Size(*size)),)


@pytest.mark.parametrize("original", [(1, 1), (1, 10_000), (10_000, 1), (3, 2)])
@pytest.mark.parametrize("aspect", ["16:9", "1:99999", "99999:1", "1:1"])
def test_an_aspect_ratio_always_leaves_a_pixel(original, aspect):
    size = planned(original, Crop(aspect=aspect)).size
    assert size.fits(Size(*original))
    assert min(size.width, size.height) >= 1


def test_a_crop_is_placed_by_gravity_focus_or_search():
    half = {"width": 100, "height": 50}
    assert planned((200, 100), Crop(**half, gravity="southeast")).steps == (Cut(100, 50, Size(100, 50)),)
    assert planned((200, 100), Crop(**half, smart="entropy")).steps == (Seek(Size(100, 50), Smart.ENTROPY),)
    for focus, x, y in [((0.5, 0.5), 50, 25), ((0, 0), 0, 0), ((1, 1), 100, 50), ((0.6, 0.4), 70, 15)]:
        crop = Crop(**half, focus=Focus(x=focus[0], y=focus[1]))
        assert planned((200, 100), crop).steps == (Cut(x, y, Size(100, 50)),)


def test_cover_is_placed_by_focus_or_search():
    box = {"width": 100, "height": 100, "fit": "cover"}
    focused = planned((400, 200), Resize(**box, focus=Focus(x=0.25, y=0.5)))
    assert focused.steps == (Scale(Size(200, 100)), Cut(0, 0, Size(100, 100)))
    sought = planned((400, 200), Resize(**box, position="attention"))
    assert sought.steps == (Scale(Size(200, 100)), Seek(Size(100, 100), Smart.ATTENTION))


def test_a_region_beyond_the_image_is_clipped_and_said():
    variant = planned((300, 200), Crop(x=100, y=100, width=500, height=500))
    assert variant.size == Size(200, 100)
    assert variant.notes == (
        "The region of 500 x 500 pixels was clipped to 200 x 100: the image has 300 x 200.",
    )
    assert planned((300, 200), Crop(x=0, y=0, width=300, height=200)).notes == ()
    assert planned((300, 200), Crop(width=301, height=10)).notes != ()


@pytest.mark.parametrize(
    ("original", "degrees", "size"),
    [
        ((400, 300), 45, (495, 495)),
        ((400, 300), -45, (495, 495)),
        ((400, 300), 0.1, (401, 301)),
        ((400, 300), 360, (400, 300)),
        ((400, 300), -90, (300, 400)),
        ((1, 1), 30, (1, 1)),
        ((1000, 1), 30, (867, 501)),
    ],
)
def test_a_turn_has_the_rectangle_around_it(original, degrees, size):
    assert planned(original, Rotate(degrees=degrees)).size == Size(*size)


def test_padding_adds_to_each_side():
    variant = planned((100, 50), PadOperation(top=1, right=2, bottom=3, left=4, background="#11223344"))
    assert variant.steps == (Pad(4, 1, Size(106, 54), "#11223344"),)


@pytest.mark.parametrize(
    "operations",
    [
        [PadOperation(top=65_535, left=65_535), Resize(width=10)],
        [Resize(width=9000, height=9000), Rotate(degrees=45), Resize(width=10)],
    ],
)
def test_a_canvas_over_the_limits_is_refused_also_on_the_way(operations):
    with pytest.raises(InvalidOperationError, match="megapixels"):
        planned((4000, 3000), *operations)
