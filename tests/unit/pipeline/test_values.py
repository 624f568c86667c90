"""The values of a pipeline: their ranges, their closedness, and the way through JSON and back."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter, ValidationError

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
    Limits,
    Operation,
    Output,
    Pad,
    Pipeline,
    PngOutput,
    Resize,
    Rotate,
    Sharpen,
    SourceOutput,
    TextWatermark,
    TiffOutput,
    Tint,
    Trim,
    Variant,
    WebpOutput,
)
from image_processor.pipeline.outputs import resolve_output
from image_processor.pipeline.value import Value, describe_faults, faults

OPERATIONS: TypeAdapter[Any] = TypeAdapter(Operation)
OUTPUTS: TypeAdapter[Any] = TypeAdapter(Output)
CROP = {"x": 0, "y": 0, "width": 1, "height": 1}

RANGES = [
    (Resize, {"height": 1}, "width", 1, 65_535),
    (Resize, {"width": 1}, "height", 1, 65_535),
    (Crop, CROP, "x", 0, 65_535),
    (Crop, CROP, "y", 0, 65_535),
    (Crop, CROP, "width", 1, 65_535),
    (Crop, CROP, "height", 1, 65_535),
    (JpegOutput, {}, "quality", 1, 100),
    (WebpOutput, {}, "quality", 1, 100),
    (WebpOutput, {}, "max_bytes", 100, None),
    (AvifOutput, {}, "quality", 1, 100),
    (AvifOutput, {}, "speed", 0, 9),
    (GifOutput, {}, "colors", 2, 256),
    (TiffOutput, {}, "quality", 1, 100),
    (Pad, {}, "top", 0, 65_535),
    (TextWatermark, {"text": "a"}, "size", 4, 1000),
    (TextWatermark, {"text": "a"}, "margin", 0, 10_000),
    (PngOutput, {}, "compression", 0, 9),
    (PngOutput, {}, "colors", 2, 256),
    (Limits, {}, "max_side", 1, 65_535),
    (Limits, {}, "max_bytes", 1, None),
    (Limits, {}, "max_pixels", 1, None),
    (Limits, {}, "max_frames", 1, None),
    (Limits, {}, "min_side", 1, None),
]


@pytest.mark.parametrize(("kind", "others", "field", "least", "most"), RANGES)
def test_a_number_is_taken_from_its_range_alone(kind, others, field, least, most):
    for allowed in (least, least if most is None else most):
        assert getattr(kind(**others | {field: allowed}), field) == allowed
    for refused in (
        least - 1,
        -(10**30),
        "wide",
        1.5,
        float("nan"),
        [],
        *([] if most is None else [most + 1]),
    ):
        with pytest.raises(ValidationError) as error:
            kind(**others | {field: refused})
        assert [fault["loc"] for fault in error.value.errors()] == [(field,)]


FRACTIONS = [
    (Resize, {}, "percent", 0.001, 1000),
    (Rotate, {}, "degrees", -360, 360),
    (Trim, {}, "threshold", 0, 255),
    (Blur, {}, "sigma", 0.3, 100),
    (Sharpen, {}, "sigma", 0.3, 10),
    (Sharpen, {}, "flat", 0, 100),
    (Sharpen, {}, "jagged", 0, 100),
    (Adjust, {}, "brightness", 0, 10),
    (Adjust, {}, "contrast", 0, 10),
    (Adjust, {}, "saturation", 0, 10),
    (Adjust, {}, "hue", -360, 360),
    (Gamma, {}, "gamma", 0.1, 10),
    (Focus, {"y": 0}, "x", 0, 1),
    (ImageWatermark, {"image": b"x"}, "opacity", 0, 1),
    (ImageWatermark, {"image": b"x"}, "width_percent", 0.001, 100),
]


@pytest.mark.parametrize(("kind", "others", "field", "least", "most"), FRACTIONS)
def test_a_fraction_is_taken_from_its_range_alone(kind, others, field, least, most):
    for allowed in (least, (least + most) / 2, most):
        assert getattr(kind(**others | {field: allowed}), field) == allowed
    for refused in (least - 0.002, most + 0.001, float("inf"), float("nan"), "wide", []):
        with pytest.raises(ValidationError) as error:
            kind(**others | {field: refused})
        assert [fault["loc"] for fault in error.value.errors()] == [(field,)]


@pytest.mark.parametrize("degrees", [361, -360.5, float("inf"), float("nan"), "north", None])
def test_a_turn_is_by_any_angle_once_around(degrees):
    with pytest.raises(ValidationError):
        Rotate(degrees=degrees)
    assert [Rotate(degrees=angle).degrees for angle in (-360, 0, 0.5, 90, 360)] == [-360, 0, 0.5, 90, 360]


@pytest.mark.parametrize(
    "text", ["#fff", "white", "#12345g", "123456", "#1234567", "#123456\n", " #123456", "", "#123456789"]
)
def test_a_colour_is_six_hexadecimal_digits_or_eight_with_alpha(text):
    assert JpegOutput(background="#00ffAA").background == "#00ffAA"
    assert Resize(width=1, background="#00ffAA80").background == "#00ffAA80"
    with pytest.raises(ValidationError):
        JpegOutput(background="#00ffAA80")
    with pytest.raises(ValidationError):
        JpegOutput(background=text)
    with pytest.raises(ValidationError):
        Resize(width=1, background=text)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"fit": "cover", "width": 10},
        {"fit": "pad", "height": 10},
        {"fit": "exact", "width": 10},
        {"width": None, "height": None},
    ],
)
def test_a_resize_has_the_sides_it_needs(fields):
    with pytest.raises(ValidationError, match="needs"):
        Resize(**fields)


@pytest.mark.parametrize(
    ("fields", "fit", "enlarges"),
    [
        ({"width": 10}, Fit.INSIDE, False),
        ({"width": 10, "height": 10}, Fit.EXACT, True),
        ({"width": 10, "height": 10, "preserve_aspect": True}, Fit.INSIDE, False),
        ({"width": 10, "height": 10, "preserve_aspect": False}, Fit.EXACT, True),
        ({"width": 10, "height": 10, "allow_enlarge": False}, Fit.EXACT, False),
        ({"width": 10, "height": 10, "fit": "cover"}, Fit.COVER, False),
        ({"width": 10, "height": 10, "fit": "contain"}, Fit.PAD, False),
        ({"width": 10, "height": 10, "fit": "fill"}, Fit.EXACT, True),
        ({"width": 10, "height": 10, "fit": "outside"}, Fit.OUTSIDE, False),
        ({"percent": 200}, Fit.INSIDE, True),
        ({"width": 10, "preserve_aspect": True}, Fit.INSIDE, False),
    ],
)
def test_a_resize_is_exact_where_that_is_what_is_asked_for(fields, fit, enlarges):
    resize = Resize(**fields)
    assert (resize.fit, resize.allow_enlarge, resize.background) == (fit, enlarges, "#ffffff")


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"percent": 50, "width": 10}, "not both"),
        ({"width": 10, "preserve_aspect": False}, "needs both"),
        ({"width": 10, "height": 9, "fit": "cover", "preserve_aspect": False}, "contradicts"),
        ({"width": 10, "height": 9, "fit": "pad", "position": "face"}, "only with fit 'cover'"),
    ],
)
def test_a_resize_does_not_contradict_itself(fields, fault):
    with pytest.raises(ValidationError, match=fault):
        Resize(**fields)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"x": 1, "width": 5, "height": 5},
        {"x": 1, "y": 1},
        {"x": 1, "y": 1, "width": 5},
        {"x": 1, "y": 1, "aspect": "1:1"},
        {"aspect": "1:1", "width": 5, "height": 5},
        {"aspect": "1:1", "smart": "face", "gravity": "north"},
        {"width": 5, "height": 5, "smart": "entropy", "focus": {"x": 0, "y": 0}},
        {"x": 1, "y": 1, "width": 5, "height": 5, "smart": "entropy"},
        {"aspect": "0:1"},
        {"aspect": "16/9"},
        {"aspect": "1:1", "smart": "luck"},
        {"aspect": "1:1", "gravity": "up"},
    ],
)
def test_a_crop_has_one_region_and_one_place(fields):
    with pytest.raises(ValidationError):
        Crop(**fields)


def test_places_have_the_names_that_sharp_has_for_them():
    given = [
        "centre",
        "top",
        "right top",
        "right",
        "right bottom",
        "bottom",
        "left bottom",
        "left",
        "left top",
    ]
    assert [Resize(width=1, height=1, fit="cover", position=name).position for name in given] == list(Gravity)


@pytest.mark.parametrize(
    "name", ["", "-a", "_a", "A", "a b", "a/b", "a.b", "ä", "a" * 41, "a\n", "..", "a\x00"]
)
def test_a_variant_has_a_plain_name(name):
    assert Variant(name="a-b_9", output=PngOutput()).name == "a-b_9"
    with pytest.raises(ValidationError):
        Variant(name=name, output=PngOutput())
    with pytest.raises(ValidationError):
        Variant(name="a", key_name=name, output=PngOutput())


def test_a_variant_has_at_most_twenty_operations():
    Variant(name="a", operations=(Flip(),) * 20, output=PngOutput())
    with pytest.raises(ValidationError):
        Variant(name="a", operations=(Flip(),) * 21, output=PngOutput())


def test_a_pipeline_has_one_to_fifty_variants_of_different_names():
    variants = tuple(Variant(name=f"v{number}", output=PngOutput()) for number in range(51))
    assert len(Pipeline(variants=variants[:50]).variants) == 50
    for refused in ((), variants, variants[:1] * 2):
        with pytest.raises(ValidationError):
            Pipeline(variants=refused)


EXAMPLES: list[Value] = [
    Resize(width=1),
    Crop(**CROP),
    Rotate(degrees=90),
    Flip(),
    Flop(),
    Trim(),
    Pad(top=1),
    Blur(),
    Sharpen(),
    Grayscale(),
    Tint(color="#112233"),
    Adjust(),
    Gamma(),
    Flatten(),
    ImageWatermark(image=b"\xff"),
    TextWatermark(text="a"),
    AvifOutput(),
    GifOutput(),
    TiffOutput(),
    JpegOutput(),
    PngOutput(),
    WebpOutput(),
    SourceOutput(),
    Variant(name="a", output=PngOutput()),
    Pipeline(variants=(Variant(name="a", output=PngOutput()),)),
    Limits(),
]


@pytest.mark.parametrize("value", EXAMPLES, ids=lambda value: type(value).__name__)
def test_a_value_is_closed_and_frozen(value):
    fields = value.model_dump()
    with pytest.raises(ValidationError, match="colour"):
        type(value).model_validate(fields | {"colour": "blue"})
    for name, held in fields.items():
        with pytest.raises(ValidationError, match="frozen"):
            setattr(value, name, held)


@pytest.mark.parametrize("value", EXAMPLES, ids=lambda value: type(value).__name__)
def test_a_value_can_be_compared_and_hashed(value):
    assert value == type(value).model_validate(value.model_dump())
    assert hash(value) == hash(value.model_copy())


@pytest.mark.parametrize(
    ("fields", "value"),
    [
        ({"op": "resize", "width": 5}, Resize(width=5)),
        ({"op": "crop", **CROP}, Crop(**CROP)),
        ({"op": "rotate", "degrees": 180}, Rotate(degrees=180)),
        ({"op": "trim"}, Trim()),
        ({"op": "pad", "left": 3}, Pad(left=3)),
        ({"op": "watermark", "text": "a"}, TextWatermark(text="a")),
        ({"op": "watermark", "image": b"a"}, ImageWatermark(image=b"a")),
        ({"op": "flip"}, Flip()),
        ({"op": "flop"}, Flop()),
    ],
)
def test_op_says_which_operation_it_is(fields, value):
    read = OPERATIONS.validate_python(fields)
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("fields", "value"),
    [
        ({"format": "jpeg"}, JpegOutput()),
        ({"format": "png"}, PngOutput()),
        ({"format": "webp"}, WebpOutput()),
        ({"format": "source"}, SourceOutput()),
        ({"format": "source", "jpeg": {"quality": 60}}, SourceOutput(jpeg=JpegOutput(quality=60))),
    ],
)
def test_format_says_which_output_it_is(fields, value):
    read = OUTPUTS.validate_python(fields)
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"width": 5},
        {"op": "sepia"},
        {"op": "os.system", "width": 5},
        {"op": None},
        {"op": ["resize"]},
        {"op": "flip", "width": 5},
        {"op": "resize", "width": 5, "degrees": 90},
        {"format": "jpeg"},
        "resize",
        None,
        [],
    ],
)
def test_what_is_no_operation_is_refused(fields):
    with pytest.raises(ValidationError):
        OPERATIONS.validate_python(fields)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"format": "bmp"},
        {"format": "JPEG"},
        {"format": "jpeg", "compression": 3},
        {"format": "png", "quality": 3},
        {"format": "source", "jpeg": {"format": "png"}},
        {"format": "source", "bmp": {}},
        {"format": "jpeg", "quality": "best"},
        {"format": "jpeg", "quality": "auto", "max_bytes": 5000},
        {"format": "webp", "lossless": True, "quality": "auto"},
        {"format": "avif", "lossless": True, "max_bytes": 5000},
        {"format": "gif", "colors": 257},
        {"format": "tiff", "compression": "zip"},
        "jpeg",
    ],
)
def test_what_is_no_output_is_refused(fields):
    with pytest.raises(ValidationError):
        OUTPUTS.validate_python(fields)


@pytest.mark.parametrize(
    ("source", "written"),
    [
        (ImageFormat.JPEG, JpegOutput(quality=60)),
        (ImageFormat.HEIC, JpegOutput(quality=60)),
        (ImageFormat.PNG, PngOutput(compression=3)),
        (ImageFormat.WEBP, WebpOutput(lossless=True)),
        (ImageFormat.GIF, GifOutput()),
        (ImageFormat.TIFF, TiffOutput()),
        (ImageFormat.AVIF, AvifOutput()),
        (ImageFormat.BMP, PngOutput(compression=3)),
        (ImageFormat.SVG, PngOutput(compression=3)),
    ],
)
def test_the_sources_own_format_has_the_settings_given_for_it(source, written):
    output = SourceOutput(
        jpeg=JpegOutput(quality=60), png=PngOutput(compression=3), webp=WebpOutput(lossless=True)
    )
    assert output.resolve(source) == written
    assert resolve_output(output, source) == written
    assert resolve_output(WebpOutput(quality=3), source) == WebpOutput(quality=3)


sides = st.integers(1, 65_535)
colours = st.from_regex(r"#[0-9a-f]{6}", fullmatch=True)
names = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,39}", fullmatch=True)
operations = st.one_of(
    st.builds(Resize, width=sides, height=sides, fit=st.sampled_from(Fit), background=colours),
    st.builds(Resize, width=sides, allow_enlarge=st.booleans()),
    st.builds(Resize, height=sides),
    st.builds(Crop, x=sides, y=sides, width=sides, height=sides),
    st.builds(Rotate, degrees=st.sampled_from([90, 180, 270])),
    st.just(Flip()),
    st.just(Flop()),
)
jpegs = st.builds(JpegOutput, quality=st.integers(1, 100), background=colours)
pngs = st.builds(PngOutput, compression=st.integers(0, 9))
webps = st.builds(WebpOutput, quality=st.integers(1, 100), lossless=st.booleans())
outputs = st.one_of(jpegs, pngs, webps, st.builds(SourceOutput, jpeg=jpegs, png=pngs, webp=webps))
variants = st.builds(
    Variant,
    name=names,
    key_name=st.none() | names,
    operations=st.lists(operations, max_size=5).map(tuple),
    output=outputs,
    never_larger=st.booleans(),
)


@given(st.lists(variants, min_size=1, max_size=5, unique_by=lambda variant: variant.name))
def test_a_pipeline_comes_back_from_json_as_it_was(made):
    pipeline = Pipeline(variants=tuple(made))
    read = Pipeline.model_validate_json(pipeline.model_dump_json())
    assert read == pipeline
    assert [type(operation) for v in read.variants for operation in v.operations] == [
        type(operation) for v in made for operation in v.operations
    ]


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(sorted({*CROP, "op", "format"})), inner)
    ),
    max_leaves=6,
)


@given(anything)
def test_whatever_is_asked_for_is_a_value_or_a_validation_error(asked):
    for reader, base in ((OPERATIONS, Value), (OUTPUTS, Value)):
        try:
            value = reader.validate_python(asked)
        except ValidationError:
            continue
        assert isinstance(value, base)


@pytest.mark.parametrize("name", ["jpeg", "png", "webp", "gif", "tiff", "bmp", "avif", "heic"])
def test_a_format_and_its_media_type_lead_to_each_other(name):
    image_format = ImageFormat(name)
    assert image_format.media_type == f"image/{name}"
    assert ImageFormat.from_media_type(image_format.media_type) is image_format


@pytest.mark.parametrize(
    "media_type", ["", "image", "image/", "image/jpg", "text/jpeg", "jpeg", "IMAGE/JPEG", "image/jpeg "]
)
def test_what_is_no_known_media_type_is_a_value_error(media_type):
    with pytest.raises(ValueError, match=r"not"):
        ImageFormat.from_media_type(media_type)


def test_formats_are_written_as_people_and_files_do():
    assert [
        (f.label, f.extension)
        for f in (ImageFormat.JPEG, ImageFormat.WEBP, ImageFormat.TIFF, ImageFormat.PNG)
    ] == [
        ("JPEG", "jpg"),
        ("WebP", "webp"),
        ("TIFF", "tif"),
        ("PNG", "png"),
    ]


class Card(BaseModel):
    front: Variant


def test_faults_name_the_field_and_never_the_input():
    with pytest.raises(ValidationError) as error:
        Card.model_validate({"front": {"name": "a", "output": {"format": "webp", "quality": 12345}}})
    assert faults(error.value) == [
        ("front.output.webp.quality", "Input should be a whole number from 1 to 100, or 'auto'")
    ]
    assert (
        describe_faults(error.value)
        == "front.output.webp.quality: Input should be a whole number from 1 to 100, or 'auto'"
    )


def test_a_fault_of_the_whole_is_said_without_a_field():
    with pytest.raises(ValidationError) as error:
        Resize()
    assert describe_faults(error.value) == "resize needs a width, a height or both, or a percent"
