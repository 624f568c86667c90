"""What the plan announces is what is rendered, to the pixel."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from image_processor.engine.vips.geometry import Size
from image_processor.engine.vips.plan import make_plan
from image_processor.pipeline import (
    Crop,
    Fit,
    Flop,
    ImageFormat,
    JpegOutput,
    Limits,
    Pipeline,
    PngOutput,
    Resize,
    Rotate,
    Variant,
    WebpOutput,
)
from image_processor.testing import sample_images
from pictures import opened, pipeline_of, render

sides = st.integers(min_value=1, max_value=90)
resizes = st.builds(Resize, width=sides, height=sides, fit=st.sampled_from(Fit), allow_enlarge=st.booleans())
turns = st.builds(Rotate, degrees=st.sampled_from((90, 180, 270)))
corners = st.builds(Crop, x=st.just(0), y=st.just(0), width=sides, height=sides)
operations = st.lists(resizes | turns | corners | st.just(Flop()), max_size=3).map(tuple)


@settings(max_examples=80, deadline=None)
@given(original=st.tuples(sides, sides), operations=operations)
def test_the_announced_size_is_the_rendered_one(original, operations):
    pipeline = pipeline_of(*operations)
    announced = make_plan(pipeline, ImageFormat.PNG, Size(*original), Limits()).variants[0].size
    with tempfile.TemporaryDirectory() as folder:
        (variant,) = render(Path(folder), sample_images.png(*original), pipeline, "png").variants
        assert Size(*opened(variant.path.read_bytes()).size) == announced
    assert Size(variant.width, variant.height) == announced


@pytest.mark.parametrize("width", [16, 17, 31, 64, 99, 100, 101, 199, 255])
def test_shrink_on_load_does_not_change_the_size(tmp_path, width):
    """801 x 603: no power of two divides it."""
    pipeline = pipeline_of(Resize(width=width))
    announced = make_plan(pipeline, ImageFormat.JPEG, Size(801, 603), Limits()).variants[0].size
    (variant,) = render(tmp_path, sample_images.photo(801, 603), pipeline).variants
    assert Size(*opened(variant.path.read_bytes()).size) == announced == Size(variant.width, variant.height)


def test_every_size_comes_from_the_original_and_not_from_the_size_before(tmp_path):
    """3 : 2 with 999 x 667 in between: from there 150 would be 100.15 high, and 33 would be 22.03."""
    widths = (999, 150, 33)
    variants = tuple(
        Variant(name=f"w{width}", operations=(Resize(width=width),), output=JpegOutput()) for width in widths
    )
    rendering = render(tmp_path, sample_images.photo(1501, 1001), Pipeline(variants=variants))
    assert [variant.height for variant in rendering.variants] == [666, 100, 22]


@pytest.mark.slow
def test_a_picture_too_wide_for_webp_is_shrunk_to_what_it_can_hold(tmp_path):
    (variant,) = render(
        tmp_path, sample_images.png(17_000, 20, compression=1), pipeline_of(output=WebpOutput()), "png"
    ).variants
    assert opened(variant.path.read_bytes()).size == (16_383, 19)


def test_png_output_is_eight_bit(tmp_path):
    (variant,) = render(tmp_path, sample_images.png_16bit(), pipeline_of(output=PngOutput()), "png").variants
    depth = variant.path.read_bytes()[24]
    assert depth == 8
