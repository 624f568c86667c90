"""Frames between parent and child."""

import json

import pytest
from pydantic import ValidationError

from image_processor.engine import wire
from image_processor.engine.base import ColorSpace, Facts, InspectRequest, RenderRequest
from image_processor.pipeline import BUILTIN_PRESETS, ImageFormat, Limits

INSPECT = InspectRequest(source="/a", source_format=ImageFormat.PNG, limits=Limits(), palette=3)
RENDER = RenderRequest(
    source="/a",
    source_format=ImageFormat.PNG,
    limits=Limits(),
    pipeline=BUILTIN_PRESETS["web"].pipeline,
    output_directory="/out",
)
FACTS = Facts(
    format=ImageFormat.PNG,
    media_type="image/png",
    size_bytes=9,
    width=1,
    height=2,
    color_space=ColorSpace.RGB,
)


def test_a_frame_begins_with_its_length():
    framed = wire.frame(wire.Failed(code="corrupt_image", message="Cut off."))
    assert wire.body_length(framed) == len(framed) - wire.LENGTH_BYTES
    answer = wire.answers.validate_json(framed[wire.LENGTH_BYTES :])
    assert answer == wire.Failed(code="corrupt_image", message="Cut off.")


@pytest.mark.parametrize("announced", [wire.MAX_FRAME_BYTES + 1, 2**32 - 1])
def test_too_long_a_frame_is_refused_before_it_is_read(announced):
    with pytest.raises(ValueError, match="is the most"):
        wire.body_length(announced.to_bytes(4))


def test_too_long_a_frame_is_not_sent(monkeypatch):
    monkeypatch.setattr(wire, "MAX_FRAME_BYTES", 10)
    with pytest.raises(ValueError, match="longer than 10"):
        wire.frame(wire.Failed(code="corrupt_image", message="Cut off."))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{",
        b'{"kind": "rendered"}',
        b'{"kind": "inspected"}',
        b'{"kind": "inspected", "facts": {}}',
        b'{"kind": "other", "code": "x", "message": "y"}',
        b'{"kind": "failed", "code": "x"}',
        b'{"kind": "failed", "code": "x", "message": "y", "more": 1}',
        b'{"kind": "failed", "code": "x", "message": "' + b"y" * 501 + b'"}',
        b"[" * 100_000,
        b"\xff\xfe",
    ],
)
def test_what_is_no_answer_is_refused(body):
    with pytest.raises(ValidationError):
        wire.answers.validate_json(body)


@pytest.mark.parametrize(
    "job",
    [wire.RenderJob(request=RENDER, cpu_seconds=1), wire.InspectJob(request=INSPECT, cpu_seconds=2)],
)
def test_a_job_arrives_as_what_it_is(job):
    assert wire.jobs.validate_json(wire.frame(job)[wire.LENGTH_BYTES :]) == job


def test_facts_arrive_as_they_were_sent():
    framed = wire.frame(wire.Inspected(facts=FACTS))
    assert wire.answers.validate_json(framed[wire.LENGTH_BYTES :]) == wire.Inspected(facts=FACTS)


@pytest.mark.parametrize(
    "lie",
    [
        {"width": 0},
        {"orientation": 9},
        {"bits_per_channel": 65},
        {"color_space": "ultraviolet"},
        {"media_type": ""},
        {"icc_profile": "a\u202eb"},
        {"dominant_color": "#abcdef"},
        {"palette": [{"color": "#000000", "share": 1.5}]},
        {"palette": [{"color": "#000000", "share": 0.01}] * 17},
        {"blurhash": "short"},
        {"blurhash": "L\u00f6DI]wfQfQfQfQfQfQfQfQfQfQfQ"},
        {"thumbhash": "not base64!"},
        {"thumbhash": "A" * 100},
        {"exif": {"exposure_seconds": float("inf")}},
        {"exif": {"iso": 0}},
        {"exif": {"gps": {"latitude": 91, "longitude": 0}}},
        {"exif": {"taken_at": "yesterday"}},
    ],
)
def test_facts_out_of_their_ranges_are_refused(lie):
    body = json.dumps({"kind": "inspected", "facts": FACTS.model_dump(mode="json") | lie})
    with pytest.raises(ValidationError):
        wire.answers.validate_json(body)
