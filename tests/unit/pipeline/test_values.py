"""The values of a pipeline: their ranges, their closedness, and the way through JSON and back."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter, ValidationError

from image_processor.pipeline import (
    Crop,
    Fit,
    Flip,
    Flop,
    ImageFormat,
    JpegOutput,
    Limits,
    Operation,
    Output,
    Pipeline,
    PngOutput,
    Resize,
    Rotate,
    SourceOutput,
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
    (PngOutput, {}, "compression", 0, 9),
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


@pytest.mark.parametrize("degrees", [0, 45, 360, -90, 90.5, "north"])
def test_a_turn_is_by_right_angles(degrees):
    with pytest.raises(ValidationError):
        Rotate(degrees=degrees)
    assert [Rotate(degrees=right).degrees for right in (90, 180, 270)] == [90, 180, 270]


@pytest.mark.parametrize(
    "text", ["#fff", "white", "#12345g", "123456", "#1234567", "#123456\n", " #123456", ""]
)
def test_a_colour_is_six_hexadecimal_digits(text):
    assert JpegOutput(background="#00ffAA").background == "#00ffAA"
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


def test_a_resize_keeps_the_aspect_ratio_and_enlarges_nothing_unless_told():
    resize = Resize(width=10)
    assert (resize.fit, resize.allow_enlarge, resize.background) == (Fit.INSIDE, False, "#ffffff")


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
        {"format": "source", "avif": {}},
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
        (ImageFormat.GIF, PngOutput(compression=3)),
        (ImageFormat.TIFF, PngOutput(compression=3)),
        (ImageFormat.BMP, PngOutput(compression=3)),
        (ImageFormat.AVIF, PngOutput(compression=3)),
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
    assert faults(error.value) == [("front.output.webp.quality", "Input should be less than or equal to 100")]
    assert (
        describe_faults(error.value) == "front.output.webp.quality: Input should be less than or equal to 100"
    )


def test_a_fault_of_the_whole_is_said_without_a_field():
    with pytest.raises(ValidationError) as error:
        Resize()
    assert describe_faults(error.value) == "resize needs a width, a height or both"
