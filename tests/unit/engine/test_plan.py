"""Sizes and steps, worked out without a pixel: one table per way to fit."""

import pytest

from image_processor.engine.vips.geometry import Cut, Mirror, Pad, Scale, Size, Turn
from image_processor.engine.vips.plan import make_plan
from image_processor.errors import InvalidRequestError
from image_processor.pipeline import (
    BUILTIN_PRESETS,
    Crop,
    Fit,
    Flip,
    Flop,
    ImageFormat,
    JpegOutput,
    Limits,
    Pipeline,
    PngOutput,
    Resize,
    Rotate,
    SourceOutput,
    Variant,
    WebpOutput,
)

LANDSCAPE, PORTRAIT, SQUARE = (4000, 3000), (3024, 4032), (500, 500)


def plan_of(*operations, original=LANDSCAPE, output=None, limits=None, source=ImageFormat.JPEG):
    variant = Variant(name="only", operations=operations, output=output or PngOutput())
    pipeline = Pipeline(variants=(variant,))
    return make_plan(pipeline, source, Size(*original), limits or Limits())


def planned(*operations, **options):
    return plan_of(*operations, **options).variants[0]


def size_of(*operations, **options):
    size = planned(*operations, **options).size
    return size.width, size.height


@pytest.mark.parametrize(
    ("original", "asked", "enlarge", "expected"),
    [
        (LANDSCAPE, {"width": 150}, False, (150, 113)),
        (PORTRAIT, {"width": 150}, False, (150, 200)),
        (PORTRAIT, {"height": 150}, False, (113, 150)),
        (SQUARE, {"width": 150}, False, (150, 150)),
        (LANDSCAPE, {"width": 800, "height": 800}, False, (800, 600)),
        (PORTRAIT, {"width": 800, "height": 800}, False, (600, 800)),
        (LANDSCAPE, {"width": 800, "height": 100}, False, (133, 100)),
        (LANDSCAPE, {"width": 4000}, False, (4000, 3000)),
        (LANDSCAPE, {"width": 8000}, False, (4000, 3000)),
        (LANDSCAPE, {"width": 8000}, True, (8000, 6000)),
        (SQUARE, {"width": 750, "height": 600}, True, (600, 600)),
        (SQUARE, {"width": 400, "height": 600}, False, (400, 400)),
        ((3, 2), {"width": 1}, False, (1, 1)),
        ((10_000, 3), {"width": 100}, False, (100, 1)),
        ((200, 25), {"width": 100}, False, (100, 13)),
        ((4608, 3456), {"width": 150}, False, (150, 113)),
    ],
)
def test_inside_keeps_the_aspect_ratio_and_rounds_halves_up(original, asked, enlarge, expected):
    resize = Resize(**asked, fit=Fit.INSIDE, allow_enlarge=enlarge)
    assert size_of(resize, original=original) == expected


@pytest.mark.parametrize(
    ("original", "asked", "enlarge", "expected"),
    [
        (LANDSCAPE, (100, 200), False, (100, 200)),
        (PORTRAIT, (100, 50), False, (100, 50)),
        (SQUARE, (600, 200), False, (500, 200)),
        (SQUARE, (600, 200), True, (600, 200)),
        (SQUARE, (600, 700), False, (500, 500)),
    ],
)
def test_exact_may_change_the_aspect_ratio(original, asked, enlarge, expected):
    resize = Resize(width=asked[0], height=asked[1], fit=Fit.EXACT, allow_enlarge=enlarge)
    assert size_of(resize, original=original) == expected


@pytest.mark.parametrize(
    ("original", "asked", "enlarge", "expected", "steps"),
    [
        (LANDSCAPE, (150, 150), False, (150, 150), (Scale(Size(200, 150)), Cut(25, 0, Size(150, 150)))),
        (PORTRAIT, (150, 150), False, (150, 150), (Scale(Size(150, 200)), Cut(0, 25, Size(150, 150)))),
        (SQUARE, (150, 150), False, (150, 150), (Scale(Size(150, 150)),)),
        ((101, 100), (50, 50), False, (50, 50), (Scale(Size(51, 50)), Cut(1, 0, Size(50, 50)))),
        (SQUARE, (800, 800), True, (800, 800), (Scale(Size(800, 800)),)),
        # As sharp's withoutEnlargement: the scale stays, and what is too long is cut.
        (SQUARE, (800, 800), False, (500, 500), ()),
        (SQUARE, (800, 300), False, (500, 300), (Cut(0, 100, Size(500, 300)),)),
        ((100, 50), (80, 80), False, (80, 50), (Cut(10, 0, Size(80, 50)),)),
    ],
)
def test_cover_fills_the_box_and_cuts_around_the_centre(original, asked, enlarge, expected, steps):
    resize = Resize(width=asked[0], height=asked[1], fit=Fit.COVER, allow_enlarge=enlarge)
    variant = planned(resize, original=original)
    assert (variant.size, variant.steps) == (Size(*expected), steps)


WHITE = "#ffffff"


@pytest.mark.parametrize(
    ("original", "enlarge", "steps"),
    [
        (LANDSCAPE, False, (Scale(Size(512, 384)), Pad(0, 64, Size(512, 512), WHITE))),
        (PORTRAIT, False, (Scale(Size(384, 512)), Pad(64, 0, Size(512, 512), WHITE))),
        (SQUARE, False, (Pad(6, 6, Size(512, 512), WHITE),)),
        (SQUARE, True, (Scale(Size(512, 512)),)),
        ((101, 60), False, (Pad(205, 226, Size(512, 512), WHITE),)),
    ],
)
def test_pad_always_gives_the_full_canvas(original, enlarge, steps):
    resize = Resize(width=512, height=512, fit=Fit.PAD, allow_enlarge=enlarge)
    variant = planned(resize, original=original)
    assert (variant.size, variant.steps) == (Size(512, 512), steps)


def test_a_crop_is_clipped():
    assert planned(Crop(x=3900, y=2950, width=500, height=500)).steps == (Cut(3900, 2950, Size(100, 50)),)


@pytest.mark.parametrize("at", [(4000, 0), (0, 3000), (65_000, 65_000)])
def test_a_crop_wholly_outside_is_refused(at):
    with pytest.raises(InvalidRequestError, match="outside the image of 4000 x 3000"):
        plan_of(Crop(x=at[0], y=at[1], width=1, height=1))


def test_a_crop_after_a_resize_counts_in_the_resized_pixels():
    with pytest.raises(InvalidRequestError):
        plan_of(Resize(width=100), Crop(x=100, y=0, width=1, height=1))
    assert size_of(Resize(width=100), Crop(x=90, y=70, width=50, height=50)) == (10, 5)


def test_a_quarter_turn_swaps_the_sides():
    assert size_of(Rotate(degrees=90)) == (3000, 4000)
    assert size_of(Rotate(degrees=180)) == LANDSCAPE
    assert size_of(Rotate(degrees=270), Flip(), Flop()) == (3000, 4000)


def test_a_resize_after_turns_is_done_first():
    variant = planned(Rotate(degrees=90), Flip(), Resize(width=150))
    assert variant.steps == (Scale(Size(200, 150)), Turn(90), Mirror(upside_down=True))
    assert variant.size == Size(150, 200)
    assert variant.start(Size(*LANDSCAPE)) == Size(200, 150)


def test_a_resize_after_a_crop_stays_behind_it():
    steps = planned(Crop(x=0, y=0, width=1000, height=1000), Resize(width=100)).steps
    assert [type(step) for step in steps] == [Cut, Scale]


def test_steps_that_change_nothing_are_left_out():
    assert planned(Resize(width=4000), Crop(x=0, y=0, width=9999, height=9999)).steps == ()


@pytest.mark.parametrize(
    ("output", "original", "expected"),
    [
        (WebpOutput(), (20_000, 1000), (16_383, 819)),
        (WebpOutput(), (1000, 20_000), (819, 16_383)),
        (WebpOutput(), (16_383, 10), (16_383, 10)),
        (JpegOutput(), (65_535, 100), (65_500, 100)),
        (PngOutput(), (20_000, 1000), (20_000, 1000)),
    ],
)
def test_a_side_that_the_format_cannot_hold_is_shrunk(output, original, expected):
    assert size_of(output=output, original=original) == expected


def test_a_resize_and_the_bound_of_the_format_are_one_step():
    variant = planned(Resize(width=30_000, allow_enlarge=True), output=WebpOutput(), original=(15_000, 1000))
    assert variant.steps == (Scale(Size(16_383, 1092)),)


def test_more_pixels_than_the_limits_allow_are_refused():
    resize = Resize(width=20_000, height=20_000, fit=Fit.EXACT, allow_enlarge=True)
    with pytest.raises(InvalidRequestError, match="400 megapixels; at most 120"):
        plan_of(resize)


def test_a_sliver_that_would_be_enlarged_beyond_measure_is_refused():
    resize = Resize(width=800, height=800, fit=Fit.COVER, allow_enlarge=True)
    assert size_of(resize, original=(100, 10_000)) == (800, 800)
    with pytest.raises(InvalidRequestError, match="too narrow"):
        plan_of(resize, original=(1, 30_000))


def test_the_source_output_follows_the_source():
    webp = planned(output=SourceOutput(), source=ImageFormat.WEBP)
    gif = planned(output=SourceOutput(), source=ImageFormat.GIF)
    bmp = planned(output=SourceOutput(), source=ImageFormat.BMP)
    assert (webp.format, gif.format, bmp.format) == (ImageFormat.WEBP, ImageFormat.GIF, ImageFormat.PNG)
    assert webp.file_name == "only.webp"


def test_the_web_preset_needs_no_more_of_the_original_than_its_largest_variant():
    plan = make_plan(BUILTIN_PRESETS["web"].pipeline, ImageFormat.JPEG, Size(6000, 4000), Limits())
    assert plan.largest_start == Size(4096, 2731)
    assert plan.is_scaled_at_once
    assert plan.is_animated


def test_sizes_too_near_each_other_are_each_made_from_the_original():
    variants = tuple(
        Variant(name=f"w{width}", operations=(Resize(width=width),), output=PngOutput())
        for width in (1000, 800)
    )
    plan = make_plan(Pipeline(variants=variants), ImageFormat.JPEG, Size(4000, 3000), Limits())
    assert plan.largest_start == Size(1000, 750)
    assert not plan.is_scaled_at_once


def test_a_variant_that_is_cut_first_needs_all_of_the_original():
    plan = plan_of(Crop(x=0, y=0, width=1000, height=1000), Resize(width=100))
    assert plan.largest_start == Size(*LANDSCAPE)
