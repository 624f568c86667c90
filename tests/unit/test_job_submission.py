"""Requests for jobs become what is queued, or are refused in words before anything is fetched."""

import json
import secrets

import pytest
from hypothesis import given
from hypothesis import strategies as st

from image_processor.errors import (
    ImageProcessorError,
    InvalidOperationError,
    InvalidRequestError,
    UnsupportedFormatError,
)
from image_processor.job_submission import (
    KEY_TEMPLATE,
    MAX_TTL_SECONDS,
    JobRequest,
    JobSubmission,
    fingerprint,
    read_request,
)
from image_processor.jobs.values import Idempotency, Priority
from image_processor.pipeline import (
    AvifOutput,
    GifOutput,
    JpegOutput,
    PngOutput,
    Resize,
    SourceOutput,
    TiffOutput,
    WebpOutput,
)
from image_processor.placement import KNOWN_FIELDS
from image_processor.storage.keys import KeyTemplate

RESIZE = {"op": "resize", "width": 800}


def lowered(uri):
    """A canonical form, as simple as one can be."""
    if "://" not in uri:
        raise InvalidRequestError("A URI begins with its scheme.")
    return uri.lower()


SUBMISSION = JobSubmission(
    check_source=lowered,
    check_destination=lowered,
    check_callback=lowered,
    new_staging_name=lambda: secrets.token_hex(16),
    ttl_seconds=86_400.0,
    max_retries=3,
)


def a_job(**fields):
    return SUBMISSION.new_job(read_request({"input": "s3://photos/in.jpg"} | fields), user_id="ada")


def refusal(kind=InvalidRequestError, **fields):
    with pytest.raises(ImageProcessorError) as caught:
        a_job(**fields)
    assert type(caught.value) is kind
    assert str(caught.value).endswith((".", "?"))
    return caught.value


def output_of(job):
    (variant,) = job.pipeline.variants
    return variant.output


def test_a_request_becomes_a_job_with_all_it_says():
    job = a_job(
        input="S3://photos/IN.jpg",
        operations=[RESIZE, {"op": "convert", "format": "webp", "quality": 70}],
        output="S3://photos/OUT.webp",
        priority="high",
        ttl_seconds=3600,
        max_retries=0,
        callback_url="HTTPS://example.com/hook",
        metadata={"album": ["summer"]},
        reuse=True,
    )
    assert (job.user_id, job.source_uri, job.output_uri) == (
        *("ada", "s3://photos/in.jpg"),
        "s3://photos/out.webp",
    )
    assert job.pipeline.variants[0].operations == (Resize(width=800),)
    assert output_of(job) == WebpOutput(quality=70)
    assert (job.priority, job.ttl_seconds, job.max_retries) == (Priority.HIGH, 3600, 0)
    assert job.callback_url == "https://example.com/hook"
    assert job.metadata == {"album": ["summer"]}
    assert job.reuse_completed
    assert (job.source_format, job.sha256, job.source_bytes) == (None, "", 0)


def test_what_is_not_said_is_the_settings():
    job = a_job()
    assert (job.priority, job.ttl_seconds, job.max_retries) == (Priority.NORMAL, 86_400.0, 3)
    assert (job.output_uri, job.callback_url, job.bucket, job.metadata) == (None, None, "jobs", {})
    assert not job.reuse_completed
    assert job.idempotency is None


def test_each_job_has_a_place_of_its_own_in_the_stage():
    assert a_job().staging_path != a_job().staging_path


def test_the_key_template_can_be_filled():
    assert KeyTemplate(KEY_TEMPLATE).fields() <= KNOWN_FIELDS


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("s3://b/a.jpg", JpegOutput()),
        ("s3://b/a.jpeg", JpegOutput()),
        ("s3://b/a.JPG", JpegOutput()),
        ("s3://b/a.png", PngOutput()),
        ("s3://b/a.webp", WebpOutput()),
        ("s3://b/a.avif", AvifOutput()),
        ("s3://b/a.gif", GifOutput()),
        ("s3://b/a.tif", TiffOutput()),
        ("s3://b/a.tiff", TiffOutput()),
        ("file:///out/v1.2/a.b.webp", WebpOutput()),
        ("s3://b/v1.2/a", SourceOutput()),
        ("s3://b/.jpg", SourceOutput()),
        ("s3://b/a.", SourceOutput()),
        (None, SourceOutput()),
    ],
)
def test_the_outputs_extension_says_its_format(output, expected):
    assert output_of(a_job(output=output)) == expected


@pytest.mark.parametrize("output", ["s3://b/a.jpg", "s3://b/a.bmp", "s3://b/a.2", None])
def test_a_convert_stands_above_the_extension(output):
    job = a_job(operations=[{"op": "convert", "format": "png", "compression": 3}], output=output)
    assert output_of(job) == PngOutput(compression=3)


@pytest.mark.parametrize("extension", ["bmp", "heic", "svg", "txt", "auto", "source", "x" * 500])
def test_an_extension_that_cannot_be_written_is_refused_with_those_that_can(extension):
    error = refusal(UnsupportedFormatError, output=f"s3://b/a.{extension}")
    assert "image/webp" in error.details["supported"]
    assert error.details["parameter"] == "output"
    assert len(str(error)) < 250


def test_auto_needs_the_picture():
    error = refusal(
        InvalidOperationError, operations=[RESIZE, {"op": "convert", "format": "auto"}], output="s3://b/a.jpg"
    )
    assert "'auto'" in str(error)
    assert (error.details["operation"], error.details["op"]) == (1, "convert")


@pytest.mark.parametrize(
    ("operation", "field", "given", "words"),
    [
        ({"op": "resize", "width": 0}, "width", "0", "resize: width is 0"),
        ({"op": "resize", "wdth": 5}, "wdth", "5", "resize has no field 'wdth'"),
        ({"op": "crop", "aspect": "wide"}, "aspect", "'wide'", "crop: aspect is 'wide'"),
        ({"op": "convert", "format": "webp", "quality": 101}, "quality", "101", "quality is 101"),
    ],
)
def test_an_operation_out_of_its_range_is_named_with_its_field(operation, field, given, words):
    error = refusal(InvalidOperationError, operations=[RESIZE, operation])
    assert words in str(error)
    assert (error.details["operation"], error.details["op"]) == (1, operation["op"])
    (fault,) = error.details["faults"]
    assert (fault["field"].rpartition(".")[2], fault["given"]) == (field, given)
    assert fault["allowed"]


def test_an_unknown_operation_is_refused_with_those_there_are():
    error = refusal(InvalidOperationError, operations=[{"op": "rezise"}])
    assert "Did you mean 'resize'?" in str(error)
    assert "resize" in error.details["operations"]
    assert error.details["operation"] == 0


def test_a_format_that_cannot_be_written_lists_those_that_can():
    error = refusal(UnsupportedFormatError, operations=[{"op": "convert", "format": "bmp"}])
    assert "image/avif" in error.details["supported"]
    assert error.details["operation"] == 0


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"input": None}, "input"),
        ({"input": ""}, "input is ''"),
        ({"input": "photo.jpg"}, "begins with its scheme"),
        ({"input": "s3://" + "a" * 2048}, "input"),
        ({"output": "photo.jpg"}, "begins with its scheme"),
        ({"callback_url": "hook"}, "begins with its scheme"),
        ({"priority": "urgent"}, "'high', 'normal' or 'low'"),
        ({"ttl_seconds": 59}, "from 60 to 2592000"),
        ({"ttl_seconds": MAX_TTL_SECONDS + 1}, "from 60 to 2592000"),
        ({"ttl_seconds": 1e999}, "ttl_seconds"),
        ({"max_retries": -1}, "from 0 to 20"),
        ({"max_retries": 21}, "from 0 to 20"),
        ({"operations": "resize"}, "operations"),
        ({"operations": ["resize"]}, "operations"),
        ({"operations": [RESIZE] * 21}, "operations"),
        ({"bucket": "No"}, "bucket name"),
        ({"metadata": []}, "metadata"),
        ({"reuse": "perhaps"}, "reuse"),
        ({"inputs": []}, "no field 'inputs'"),
    ],
)
def test_every_refusal_names_what_is_wrong(fields, words):
    assert words in str(refusal(**fields))


@pytest.mark.parametrize("fields", [None, [], "text", 5, True])
def test_a_request_is_an_object(fields):
    with pytest.raises(InvalidRequestError, match="not an object"):
        read_request(fields)


@pytest.mark.parametrize(
    "fields",
    [
        {f"field{number}": 1 for number in range(2000)},
        {"operations": [RESIZE] * 2000},
        {"operations": [RESIZE | {f"field{number}": 1 for number in range(2000)}]},
        {"operations": [{"op": "crop", "focus": {"x": [[0] * 2000]}}]},
    ],
)
def test_a_flood_of_values_is_refused_in_one_sentence(fields):
    assert "1000 values" in str(refusal(**fields))


def test_few_of_many_faults_are_told():
    error = refusal(**{f"{number}" * 500: 1 for number in range(50)})
    assert len(json.dumps(error.details)) < 3000
    assert len(str(error)) < 1000


def test_metadata_is_bounded_and_can_be_written():
    assert a_job(metadata={"a": "é" * 8187}).metadata
    assert "16384 bytes" in str(refusal(metadata={"a": "é" * 8190}))
    assert "JSON" in str(refusal(metadata={"a": float("inf")}))
    assert "JSON" in str(refusal(metadata={"a": "\ud800"}))


def test_the_output_must_not_be_the_input():
    error = refusal(input="file:///a/B.jpg", output="FILE:///a/b.jpg")
    assert error.details == {"parameter": "output"}


def test_the_same_work_has_the_same_key_however_it_is_written():
    key = a_job(operations=[RESIZE], output="s3://b/out.jpg").dedupe_key
    same = [
        a_job(operations=[{"width": 800, "op": "resize"}], output="S3://b/OUT.jpg"),
        a_job(operations=[RESIZE, {"op": "convert", "format": "jpeg"}], output="s3://b/out.jpg"),
        a_job(operations=[RESIZE], output="s3://b/out.jpg", priority="low", ttl_seconds=60, reuse=True),
    ]
    assert [job.dedupe_key for job in same] == [key] * 3


def test_other_work_has_another_key():
    common = {"operations": [RESIZE], "output": "s3://b/out.jpg"}
    jobs = [
        a_job(**common),
        a_job(**common | {"input": "s3://photos/other.jpg"}),
        a_job(**common | {"operations": [{"op": "resize", "width": 801}]}),
        a_job(**common | {"output": "s3://b/out2.jpg"}),
        a_job(**common | {"output": None}),
        a_job(**common | {"output": None, "bucket": "mine"}),
        a_job(**common | {"callback_url": "https://example.com/hook"}),
        a_job(**common | {"metadata": {"a": 1}}),
    ]
    assert len({job.dedupe_key for job in jobs}) == len(jobs)


def test_a_fingerprint_tells_requests_apart_and_not_how_they_are_written():
    def of(**fields):
        return fingerprint(read_request({"input": "s3://b/a.jpg"} | fields))

    assert of(operations=[RESIZE]) == of(operations=[dict(reversed(RESIZE.items()))], priority="normal")
    different = [of(), of(priority="low"), of(ttl_seconds=60), of(metadata={"a": 1}), of(reuse=True)]
    assert len(set(different)) == len(different)


def test_an_idempotency_key_goes_along():
    key = Idempotency(key="k", fingerprint="f")
    request = read_request({"input": "s3://b/a.jpg"})
    assert SUBMISSION.new_job(request, user_id="ada", idempotency=key).idempotency is key


def test_the_schema_shows_every_field_with_what_it_is_for():
    schema = JobRequest.model_json_schema()
    assert schema["required"] == ["input"]
    assert "$defs" not in schema  # it stands alone in the description of the API
    assert [name for name, field in schema["properties"].items() if not field.get("description")] == []


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(max_size=8), inside, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(list(JobRequest.model_fields))
OPERATIONS = st.lists(
    st.fixed_dictionaries(
        {"op": st.sampled_from(["resize", "crop", "convert", "watermark", "strip", "blur", "x"])},
        optional={"width": ANYTHING, "format": ANYTHING, "text": ANYTHING, "image": ANYTHING},
    ),
    max_size=3,
)


@given(st.dictionaries(NAMES, ANYTHING), OPERATIONS)
def test_nothing_but_our_own_errors_come_out(fields, operations):
    asked = {"input": "s3://b/a.jpg", "operations": operations} | fields
    try:
        told = SUBMISSION.new_job(read_request(asked), user_id="ada").pipeline.model_dump(mode="json")
    except ImageProcessorError as error:
        told = {"message": str(error), "details": error.details}
    assert json.dumps(told, allow_nan=False, ensure_ascii=False).encode()
