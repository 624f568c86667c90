"""JSON bodies of any shape: read, or refused in words."""

import pytest

from image_processor.errors import InvalidRequestError
from image_processor.intake.json_text import parse_json


def nested(levels):
    return b'{"a":' * levels + b"1" + b"}" * levels


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b"{}", {}),
        (b' {"a": [1, 2.5, null, true, "\xc3\xa9"]} ', {"a": [1, 2.5, None, True, "é"]}),
        (b'{"a": "\\ud83d\\ude00"}', {"a": "\N{GRINNING FACE}"}),
        (b"null", None),
    ],
)
def test_json_is_read(body, value):
    assert parse_json(body, max_depth=3) == value


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{", b"{}{}", b"\xff\xfe", b"\xef\xbb\xbf{}", b'"\xe9"', "{}".encode("utf-16")),
        *(b"NaN", b"-Infinity", b"1e999", b'{"a": [1e999]}'),
        *(b'"\\ud800"', b'{"\\udfff": 1}'),
        b"9" * 5000,
        b"[" * 100_000,
        nested(100_000),
    ],
    ids=lambda body: repr(body[:20]),
)
def test_what_is_no_json_is_refused(body):
    with pytest.raises(InvalidRequestError, match="not valid JSON"):
        parse_json(body, max_depth=1_000_000)


def test_depth_is_bounded():
    assert parse_json(nested(3), max_depth=3)
    with pytest.raises(InvalidRequestError, match="3 levels"):
        parse_json(nested(4), max_depth=3)
