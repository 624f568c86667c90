"""Chains of operations: as JSON or as values, what they say of the output, and what is wrong with them."""

import itertools
import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from image_processor.errors import ImageProcessorError, InvalidOperationError, UnsupportedFormatError
from image_processor.pipeline import (
    AvifOutput,
    Crop,
    ImageFormat,
    JpegOutput,
    Metadata,
    Optimize,
    PngOutput,
    Resize,
    SourceOutput,
    TextWatermark,
    WebpOutput,
)
from image_processor.pipeline.chain import (
    OPERATIONS,
    Convert,
    KeepMetadata,
    Policies,
    Strip,
    read_chain,
    read_operation,
)
from image_processor.pipeline.negotiation import OUTPUT_FORMATS, AutoOutput, Traits

JPEG = Traits(ImageFormat.JPEG)
REFERENCE = Path(__file__).parents[3] / "docs" / "reference" / "operations.md"


def refusal(*operations, **options):
    with pytest.raises(InvalidOperationError) as caught:
        read_chain(operations, **options)
    return str(caught.value)


def test_values_and_objects_may_be_mixed():
    chain = read_chain([Resize(width=800), {"op": "crop", "aspect": "16:9"}])
    assert chain.operations == (Resize(width=800), Crop(aspect="16:9"))


def test_a_chain_becomes_a_pipeline_of_one_variant():
    policies = {"optimize": "size", "linear_light": True, "profile": "source", "metadata": "copyright"}
    pipeline = read_chain([{"op": "flip"}], output="webp", policies=policies).pipeline(JPEG)
    (variant,) = pipeline.variants
    assert (variant.output, variant.optimize, variant.metadata) == (WebpOutput(), "size", "copyright")
    assert (pipeline.linear_light, pipeline.profile) == (True, "source")


def test_without_an_output_it_is_the_sources_own_format():
    assert read_chain([]).output == SourceOutput()


def test_the_last_convert_stands_above_all_others():
    webp = {"op": "convert", "format": "webp", "quality": 40}
    assert read_chain([Convert(output=PngOutput()), webp], output="avif").output == WebpOutput(quality=40)
    assert read_chain([webp, Convert(output=PngOutput())]).output == PngOutput()
    assert read_chain([webp, {"op": "flip"}]).operations == read_chain([{"op": "flip"}]).operations


@pytest.mark.parametrize(
    ("operations", "kept"),
    [
        ([], Metadata.ALL),
        ([{"op": "strip"}], Metadata.NONE),
        ([Strip(), KeepMetadata(keep="copyright")], Metadata.COPYRIGHT),
        ([{"op": "metadata", "keep": "copyright"}, {"op": "strip"}], Metadata.NONE),
    ],
)
def test_the_last_word_on_metadata_counts(operations, kept):
    assert read_chain(operations, policies=Policies(metadata="all")).policies.metadata is kept


@pytest.mark.parametrize(
    ("name", "output"),
    [
        ("jpg", JpegOutput()),
        ("JPEG", JpegOutput()),
        (" WebP ", WebpOutput()),
        ("tif", OUTPUT_FORMATS[ImageFormat.TIFF]()),
        (ImageFormat.AVIF, AvifOutput()),
        ({"format": "jpg", "quality": 7}, JpegOutput(quality=7)),
        ("source", SourceOutput()),
        ("auto", AutoOutput()),
    ],
)
def test_an_output_may_be_named(name, output):
    assert read_chain([], output=name).output == output


def test_a_watermark_is_of_text_or_of_base64():
    assert isinstance(read_operation({"op": "watermark", "text": "mine"}), TextWatermark)
    assert read_operation({"op": "watermark", "image": "aGVsbG8="}).image == b"hello"
    assert read_operation({"op": "watermark", "image": b"hello"}).image == b"hello"


@pytest.mark.parametrize(
    ("operation", "sentence"),
    [
        ({"op": "blur", "sigma": 1000}, "blur: sigma is 1000; it must be from 0.3 to 100."),
        ({"op": "blur", "sigma": float("nan")}, "blur: sigma is nan; it must be from 0.3 to 100."),
        (
            {"op": "resize", "width": "wide"},
            "resize: width is 'wide'; it must be a whole number from 1 to 65535.",
        ),
        (
            {"op": "resize", "width": 10**400},
            "resize: width is a number of too many digits; it must be a whole number from 1 to 65535.",
        ),
        (
            {"op": "resize", "percent": 0},
            "resize: percent is 0; it must be above 0 and at most 1000.",
        ),
        ({"op": "resize"}, "resize needs a width, a height or both, or a percent."),
        ({"op": "rotate"}, "rotate needs degrees."),
        (
            {"op": "resize", "width": 9, "focus": {"x": 2, "y": 0}},
            "resize: focus.x is 2; it must be from 0 to 1.",
        ),
        (
            {"op": "resize", "width": 9, "height": 9, "fit": "wrap"},
            "resize: fit is 'wrap'; it must be 'exact', 'inside', 'outside', 'cover' or 'pad'.",
        ),
        (
            {"op": "crop", "aspect": "wide"},
            "crop: aspect is 'wide'; it must be two whole numbers such as '16:9'.",
        ),
        ({"op": "tint", "color": "red"}, "tint: color is 'red'; it must be a colour such as '#ff8800'."),
        (
            {"op": "convert", "format": "webp", "quality": 101},
            "convert: quality is 101; it must be a whole number from 1 to 100 or 'auto'.",
        ),
        (
            {"op": "convert", "format": "gif", "quality": 80},
            "convert has no field 'quality'; its fields are colors, dither.",
        ),
        (
            {"op": "convert", "format": "source", "jpeg": {"quality": 0}},
            "convert: jpeg.quality is 0; it must be a whole number from 1 to 100 or 'auto'.",
        ),
        (
            {"op": "metadata", "keep": "gps"},
            "metadata: keep is 'gps'; it must be 'none', 'copyright' or 'all'.",
        ),
        ({"op": "flip", "sigma": 1}, "flip has no field 'sigma'; it has no fields."),
        ({"op": "watermark"}, "watermark needs an image or a text, and not both."),
        ("flip", "An operation is an object with the field 'op'; one is 'flip'."),
    ],
)
def test_the_sentence_names_operation_field_value_and_range(operation, sentence):
    assert refusal(operation) == sentence


def test_an_unknown_operation_is_answered_with_the_known_ones():
    said = refusal({"op": "resise", "width": 9})
    assert all(name in said for name in OPERATIONS)
    assert said.startswith("There is no operation 'resise'; there are resize, crop, ")
    assert said.endswith("Did you mean 'resize'?")


def test_a_format_that_cannot_be_written_is_answered_with_those_that_can():
    with pytest.raises(UnsupportedFormatError, match="JPEG, PNG, WebP, AVIF, GIF, TIFF"):
        read_chain([{"op": "convert", "format": "xyz"}])


def test_options_are_checked_as_operations_are():
    said = refusal(policies={"metadata": "gps"})
    assert said == "options: metadata is 'gps'; it must be 'none', 'copyright' or 'all'."


def test_a_chain_has_at_most_20_operations():
    assert len(read_chain([{"op": "flip"}] * 20).operations) == 20
    assert refusal(*[{"op": "flip"}] * 21) == "There are more than 20 operations."
    with pytest.raises(InvalidOperationError, match="more than 20"):
        read_chain(itertools.repeat({"op": "flip"}))


@pytest.mark.parametrize("alone", [{"op": "flip"}, "flip", Resize(width=9)])
def test_a_chain_is_a_list(alone):
    with pytest.raises(InvalidOperationError, match="are a list"):
        read_chain(alone)


@pytest.mark.parametrize("value", ["x" * 10_000, b"secret " * 1000, ["secret"] * 1000, {"secret": "x"}])
def test_a_sentence_is_short_whatever_was_given(value):
    said = refusal({"op": "blur", "sigma": value})
    assert len(said) < 120
    assert "secret" not in said
    assert len(refusal({"op": "x" * 10_000})) < 400
    assert len(refusal({"op": "flip", "y" * 10_000: 1})) < 120


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=6,
)
FIELDS = sorted({"format", *(name for model in OPERATIONS.values() for name in model.model_fields)} - {"op"})
hostile = st.builds(
    lambda op, fields: {"op": op, **fields},
    st.sampled_from(sorted(OPERATIONS)) | json_values,
    st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=9), json_values, max_size=4),
)


@given(st.lists(hostile | json_values, max_size=3))
def test_whatever_is_given_it_is_a_pipeline_or_one_of_our_sentences(operations):
    try:
        pipeline = read_chain(operations).pipeline(JPEG)
    except ImageProcessorError as error:
        said = str(error)
        assert re.search(r"[.?]$", said)
        assert len(said) < 1000
    else:
        assert json.loads(pipeline.model_dump_json())["variants"]


def documented(model):
    """What the reference says in the table below the heading of an operation or a format."""
    field = "op" if "op" in model.model_fields else "format"
    name = model.model_fields[field].default
    section = re.search(
        rf"^### {name}$(.*?)^##", REFERENCE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    assert section, f"there is no section {name}"
    lines = [line.strip("| ").split(" | ") for line in section[1].splitlines() if line.startswith("| `")]
    return {cells[0].strip("`"): [cell.strip() for cell in cells[1:]] for cells in lines}


def ranges(schema):
    """The numbers that bound a field, of its schema."""
    kinds = schema.get("anyOf", [schema])
    keys = ("minimum", "exclusiveMinimum", "maximum")
    return {f"{kind[key]:.15g}" for kind in kinds for key in keys if key in kind}


SIMPLE = [
    model for name, model in OPERATIONS.items() if name not in {"convert", "strip", "metadata", "watermark"}
]


@pytest.mark.parametrize("model", [*SIMPLE, *OUTPUT_FORMATS.values()], ids=lambda model: model.__name__)
def test_the_reference_has_every_field_with_its_range_and_default(model: type[BaseModel]):
    rows = documented(model)
    schema = model.model_json_schema()["properties"]
    assert set(rows) == set(schema) - {"op", "format"}
    for name, (allowed, default, *_) in rows.items():
        assert ranges(schema[name]) <= set(re.findall(r"-?[0-9]+(?:\.[0-9]+)?", allowed.replace(" ", ""))), (
            name
        )
        if "default" in schema[name] and schema[name]["default"] not in (None, ""):
            assert default.strip("`'") == json.dumps(schema[name]["default"]).strip('"'), name


def test_policies_say_how_hard_the_encoders_try():
    assert read_chain([], policies={"optimize": "speed"}).policies.optimize is Optimize.SPEED
