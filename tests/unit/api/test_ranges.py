"""One byte range, as HTTP asks for it."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from image_processor.api.ranges import ByteRange, UnsatisfiableRangeError, parse_range

SIZE = 1000


@pytest.mark.parametrize(
    ("value", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-499", 0, 500),
        ("bytes=500-999", 500, 1000),
        ("bytes=999-", 999, 1000),
        ("bytes=0-", 0, 1000),
        ("bytes=500-5000", 500, 1000),
        ("bytes=500-999999999999999999", 500, 1000),
        ("bytes=-1", 999, 1000),
        ("bytes=-1000", 0, 1000),
        ("bytes=-5000", 0, 1000),
        ("bytes=007-010", 7, 11),
        ("  bytes=1-2 ", 1, 3),
        ("Bytes=1-2", 1, 3),
    ],
)
def test_a_range_is_clipped_to_the_file(value, start, end):
    assert parse_range(value, SIZE) == ByteRange(start, end)


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=--1",
        "bytes=a-b",
        "bytes=5-2",
        "bytes=0-1,5-6",
        "bytes=0-1, 5-6",
        "bytes 0-1",
        "bytes=0-1-2",
        "bytes=0x0-0x5",
        "bytes=1.5-2",
        "bytes=+1-2",
        "bytes= 1-2",
        "bytes=\u0661-\u0662",
        "bytes=0-" + "9" * 10_000,
        "items=0-5",
        "bytes=0-1\x00",
    ],
)
def test_what_is_no_single_range_gets_the_whole_file(value):
    assert parse_range(value, SIZE) is None


@pytest.mark.parametrize("value", ["bytes=1000-", "bytes=1000-2000", "bytes=999999999999999999-", "bytes=-0"])
def test_a_range_outside_the_file_is_not_satisfiable(value):
    with pytest.raises(UnsatisfiableRangeError):
        parse_range(value, SIZE)


@pytest.mark.parametrize("value", ["bytes=0-", "bytes=0-0", "bytes=-1", "bytes=-0"])
def test_an_empty_file_has_no_range(value):
    with pytest.raises(UnsatisfiableRangeError):
        parse_range(value, 0)


def test_a_range_says_its_length_and_its_place():
    wanted = ByteRange(500, 1000)
    assert wanted.length == 500
    assert wanted.content_range(1000) == "bytes 500-999/1000"


values = st.text() | st.from_regex(r"\s*(?:bytes|Bytes|b)?=?\d*-?\d*(?:,\d*-\d*)?\s*")


@given(value=st.none() | values, size=st.integers(0, 10**15))
@example(value="bytes=0-0\n", size=1)
@example(value="bytes=-99999999999999999999", size=1)
def test_every_value_is_the_whole_a_part_inside_or_not_satisfiable(value, size):
    try:
        wanted = parse_range(value, size)
    except UnsatisfiableRangeError:
        assert any(character.isdigit() for character in value)
        return
    if wanted is not None:
        assert 0 <= wanted.start < wanted.end <= size


@given(st.data(), st.integers(1, 10**6))
def test_every_right_range_is_understood(data, size):
    start = data.draw(st.integers(0, size - 1))
    last = data.draw(st.integers(start, 10**7))
    assert parse_range(f"bytes={start}-{last}", size) == ByteRange(start, min(size, last + 1))
    suffix = data.draw(st.integers(1, 10**7))
    assert parse_range(f"bytes=-{suffix}", size) == ByteRange(max(0, size - suffix), size)
