"""Chains of whatever operations: the size announced is the size rendered, and all refusals are our own."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from image_processor.engine.vips.geometry import Size
from image_processor.engine.vips.plan import make_plan
from image_processor.errors import InvalidOperationError
from image_processor.pipeline import (
    Adjust,
    AvifOutput,
    Blur,
    Crop,
    Fit,
    Flatten,
    Flip,
    Flop,
    Focus,
    Gamma,
    GifOutput,
    Gravity,
    Grayscale,
    ImageFormat,
    ImageWatermark,
    JpegOutput,
    Metadata,
    Optimize,
    Pad,
    Pipeline,
    PngOutput,
    Profile,
    Resize,
    Rotate,
    Sharpen,
    Smart,
    TextWatermark,
    TiffOutput,
    Tint,
    Trim,
    Variant,
    WebpOutput,
)
from image_processor.testing import sample_images
from pictures import GENEROUS, opened, render
from running_service import IS_SOAK

SIDE = st.integers(1, 90)
OPAQUE = st.from_regex(r"\A#[0-9a-f]{6}\Z")
COLOUR = st.from_regex(r"\A#[0-9a-f]{6}([0-9a-f]{2})?\Z")
PLACE = st.sampled_from([*Gravity, Smart.ATTENTION, Smart.ENTROPY])
FOCUS = st.none() | st.builds(Focus, x=st.floats(0, 1), y=st.floats(0, 1))
BORDER = st.integers(0, 20)

resizes = st.one_of(
    st.builds(Resize, percent=st.floats(1, 150)),
    st.builds(Resize, width=SIDE, allow_enlarge=st.booleans()),
    st.builds(Resize, height=SIDE, allow_enlarge=st.booleans()),
    st.builds(Resize, width=SIDE, height=SIDE, fit=st.sampled_from(Fit), allow_enlarge=st.booleans()),
    st.builds(Resize, width=SIDE, height=SIDE, fit=st.just(Fit.COVER), position=PLACE, focus=FOCUS),
    st.builds(Resize, width=SIDE, height=SIDE, fit=st.just(Fit.PAD), background=COLOUR),
)
crops = st.one_of(
    st.builds(Crop, x=BORDER, y=BORDER, width=SIDE, height=SIDE),
    st.builds(Crop, width=SIDE, height=SIDE, gravity=st.sampled_from(Gravity)),
    st.builds(Crop, width=SIDE, height=SIDE, smart=st.sampled_from([Smart.ATTENTION, Smart.ENTROPY])),
    st.builds(Crop, aspect=st.sampled_from(["1:1", "16:9", "1:7", "99:1"]), focus=FOCUS),
)
looks = st.one_of(
    st.builds(Blur, sigma=st.floats(0.3, 5)),
    st.builds(Sharpen, sigma=st.floats(0.3, 3)),
    st.just(Grayscale()),
    st.builds(Tint, color=OPAQUE),
    st.builds(
        Adjust,
        brightness=st.floats(0, 3),
        contrast=st.floats(0, 3),
        saturation=st.floats(0, 3),
        hue=st.floats(-360, 360),
    ),
    st.builds(Gamma, gamma=st.floats(0.1, 10)),
    st.builds(Flatten, background=OPAQUE),
)
marks = st.one_of(
    st.builds(
        ImageWatermark,
        image=st.just(sample_images.png_with_alpha(9, 7)),
        gravity=st.sampled_from(Gravity),
        opacity=st.floats(0, 1),
        tile=st.booleans(),
        margin=st.integers(0, 30),
        width_percent=st.none() | st.floats(0.1, 100),
    ),
    st.builds(
        TextWatermark, text=st.sampled_from(["a", "Ada Lovelace 1843"]), size=st.integers(4, 60), color=OPAQUE
    ),
)
turns = st.one_of(
    st.builds(Rotate, degrees=st.floats(-360, 360) | st.sampled_from([90, 180, 270]), background=COLOUR),
    st.just(Flip()),
    st.just(Flop()),
)
borders = st.one_of(
    st.builds(Pad, top=BORDER, right=BORDER, bottom=BORDER, left=BORDER, background=COLOUR),
    st.builds(Trim, threshold=st.floats(0, 255), background=st.none() | OPAQUE),
)
chains = st.lists(st.one_of(resizes, crops, looks, marks, turns, borders), max_size=5).map(tuple)
outputs = st.sampled_from(
    [
        PngOutput(compression=1),
        PngOutput(compression=1, bit_depth=16),
        PngOutput(palette=True, colors=16),
        JpegOutput(),
        JpegOutput(subsampling="4:4:4", quality=95),
        WebpOutput(),
        WebpOutput(lossless=True),
        AvifOutput(speed=9),
        GifOutput(),
        TiffOutput(compression="lzw"),
    ]
)
SOURCES = {
    "photo": (sample_images.photo(80, 60), "jpeg"),
    "sideways": (sample_images.photo(80, 60, orientation=6), "jpeg"),
    "alpha": (sample_images.png_with_alpha(70, 50), "png"),
    "animation": (sample_images.animated_webp(40, 30), "webp"),
    "pixel": (sample_images.one_pixel(), "png"),
}


@st.composite
def pipelines(draw):
    variant = Variant(
        name="only",
        operations=draw(chains),
        output=draw(outputs),
        metadata=draw(st.sampled_from(Metadata)),
        optimize=draw(st.sampled_from([Optimize.SPEED, Optimize.BALANCED])),
    )
    return Pipeline(
        variants=(variant,), profile=draw(st.sampled_from(Profile)), linear_light=draw(st.booleans())
    )


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("original", "kind"), SOURCES.values(), ids=SOURCES.keys())
@settings(max_examples=600 if IS_SOAK else 25, deadline=None, suppress_health_check=list(HealthCheck))
@given(pipeline=pipelines())
def test_any_chain_renders_what_was_announced_or_says_why_not(original, kind, pipeline):
    with tempfile.TemporaryDirectory() as folder:
        try:
            rendering = render(Path(folder), original, pipeline, kind)
        except InvalidOperationError as error:
            event(f"refused: {error.message[:30]}")
            return
        (variant,) = rendering.variants
        shown = opened(variant.path.read_bytes())
        assert shown.size == (variant.width, variant.height)
        operations = pipeline.variants[0].operations
        if not any(isinstance(operation, Trim) for operation in operations):
            original_size = Size(rendering.width, rendering.height)
            plan = make_plan(pipeline, ImageFormat(kind), original_size, GENEROUS)
            assert plan.variants[0].size == Size(variant.width, variant.height)
