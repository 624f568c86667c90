"""What the clients are made of: events, errors from answers, pauses, bodies, signatures."""

import inspect
import io
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from image_processor.client import (
    AsyncImageProcessorClient,
    ImageProcessorClient,
    Receipt,
    UnexpectedAnswerError,
    UnreachableError,
)
from image_processor.client.bodies import PIECE_BYTES, Body, Content
from image_processor.client.listening import MAX_EVENT_BYTES, Event, EventReader
from image_processor.client.refusals import entry_refusal, errors_by_code, refusal, retry_after
from image_processor.client.retries import Patience, Retries
from image_processor.errors import ImageProcessorError, RateLimitError, UnavailableError

STREAM = (
    ": a comment\nretry: 1500\n\nid: 1\nevent: progress\ndata: {}\n\n"
    "data: ä\r\ndata:two\r\nunknown: x\r\n\r\nid: 3\r\revent: completed\rdata: last\r\rdata: unfinished"
).encode()
EVENTS = [Event("progress", "{}"), Event("message", "ä\ntwo"), Event("completed", "last")]


@given(st.lists(st.integers(min_value=0, max_value=len(STREAM)), max_size=20))
def test_events_are_the_same_however_they_are_cut(cuts):
    reader = EventReader()
    edges = [0, *sorted(cuts), len(STREAM)]
    pieces = [STREAM[start:end] for start, end in pairwise(edges)]
    assert [event for piece in pieces for event in reader.feed(piece)] == EVENTS
    assert (reader.last_id, reader.retry_seconds) == ("3", 1.5)


@pytest.mark.parametrize(
    "text", [b"data: " + b"x" * MAX_EVENT_BYTES, b"data: y\n" * (MAX_EVENT_BYTES // 2 + 1)]
)
def test_an_event_without_end_is_not_kept(text):
    reader = EventReader()
    with pytest.raises(UnexpectedAnswerError):
        list(reader.feed(text))


def every_error(kind=ImageProcessorError):
    yield kind
    for below in kind.__subclasses__():
        if below.__module__ == "image_processor.errors":
            yield from every_error(below)


@pytest.mark.parametrize("kind", sorted(set(every_error()), key=lambda kind: kind.__name__))
def test_each_error_of_the_service_comes_back_as_itself(kind):
    body = f'{{"error": {{"code": "{kind.code}", "message": "No.", "details": {{"message": 1}}}}}}'
    error = refusal(kind.status, {"retry-after": "7"}, body.encode())
    assert type(error) is errors_by_code[kind.code]
    assert (error.code, error.status, str(error), error.details) == (
        kind.code,
        kind.status,
        "No.",
        {"message": 1},
    )
    if isinstance(error, UnavailableError):
        assert error.retry_after_seconds == 7


def test_retry_after_is_a_number_or_a_date():
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    assert 85 <= retry_after({"retry-after": date}) <= 90
    assert retry_after({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}) == 0
    assert retry_after({"retry-after": "12"}) == 12
    assert retry_after({"retry-after": "soon"}) is None
    assert retry_after({}) is None


def test_a_date_counts_by_the_clock_of_who_named_it():
    then = datetime(1999, 12, 31, 23, 59, tzinfo=UTC)
    headers = {"date": format_datetime(then, usegmt=True)}
    later = format_datetime(then + timedelta(seconds=30), usegmt=True)
    assert retry_after({**headers, "retry-after": later}) == 30
    said = {"code": "rate_limited", "message": "No.", "details": {"reset_at": "2000-01-01T00:01:00Z"}}
    limited = entry_refusal(said, headers)
    assert (type(limited), limited.retry_after_seconds, limited.status) == (RateLimitError, 120, 429)
    assert entry_refusal({**said, "details": {"reset_at": "soon"}}, headers).retry_after_seconds == 60


def test_the_limit_of_somebody_else_is_none_of_ours():
    receipt = Receipt(job_id="one", image_id="two", status_url="/")
    ours = {"x-ratelimit-limit": "50", "x-ratelimit-remaining": "49"}
    reset = {"x-ratelimit-reset": "2026-11-08T15:00:00Z"}
    assert receipt.with_headers(ours | reset).rate_limit.remaining == 49
    assert receipt.with_headers({"x-ratelimit-limit": "50, 50;w=3600"}).rate_limit is None
    assert receipt.with_headers(ours).rate_limit is None


def test_pauses_grow_and_are_bounded():
    patience = Patience(Retries(attempts=30, first_pause_seconds=1, longest_pause_seconds=8))
    error = refusal(502, {}, b"")
    error.retry_after_seconds = 0
    assert 0.5 <= patience.pause_after(error) <= 1
    error.retry_after_seconds = 20
    assert 20 <= patience.pause_after(error) <= 25
    lost = Patience(Retries(attempts=30, total_seconds=100, first_pause_seconds=1, longest_pause_seconds=8))
    pauses = [lost.pause_after(UnreachableError("Lost.")) for _ in range(6)]
    assert all(
        0.5 * longest <= pause <= longest for pause, longest in zip(pauses, (1, 2, 4, 8, 8, 8), strict=True)
    )


class Endless:
    """A stream of so many bytes, none of which are kept; it knows the largest piece that was asked for."""

    def __init__(self, size):
        self.left = size
        self.largest = 0

    def read(self, size):
        self.largest = max(self.largest, size)
        piece = bytes(min(size, self.left))
        self.left -= len(piece)
        return piece


def test_a_body_is_read_in_pieces():
    stream = Endless(20 * PIECE_BYTES + 1)
    sizes = [len(piece) for piece, _ in Body(Content(stream)).pieces()]
    assert sum(sizes) == 20 * PIECE_BYTES + 1
    assert max(sizes) == stream.largest == PIECE_BYTES


def test_a_file_that_changes_while_it_is_sent_is_not_passed_off_as_whole(tmp_path):
    path = tmp_path / "picture"
    path.write_bytes(bytes(10))
    body = Body(Content(path))
    path.write_bytes(bytes(30))
    assert sum(len(piece) for piece, _ in body.pieces()) == 10
    path.write_bytes(bytes(3))
    with pytest.raises(ImageProcessorError, match="shorter"):
        list(body.pieces())


def test_a_stream_stays_open():
    stream = io.BytesIO(b"picture")
    list(Body(Content(stream)).pieces())
    assert not stream.closed


def public(kind):
    return {name for name in vars(kind) if not name.startswith("_")}


def test_both_clients_have_the_same_methods_with_their_words():
    assert public(ImageProcessorClient) == public(AsyncImageProcessorClient)
    for name in public(ImageProcessorClient) - {"close"}:
        ours, theirs = getattr(ImageProcessorClient, name), getattr(AsyncImageProcessorClient, name)
        assert inspect.signature(ours).parameters.keys() == inspect.signature(theirs).parameters.keys()
        assert ours.__doc__
        assert ours.__name__ == theirs.__name__ == name
    assert inspect.signature(ImageProcessorClient.upload).return_annotation is Receipt


@pytest.mark.parametrize("zone", ["+999999999999999", "GMT"])
def test_a_date_beyond_any_number_is_none(zone):
    date = f"Mon, 01 Jan 2024 {'0' if zone != 'GMT' else 10**12}:00:00 {zone}"
    assert retry_after({"retry-after": date}) is None
    assert retry_after({"retry-after": "Mon, 01 Jan 2024 00:00:00 GMT", "date": date}) == 0
