"""Frames between parent and child."""

import pytest
from pydantic import ValidationError

from image_processor.engine import wire


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
