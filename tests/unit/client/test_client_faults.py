"""The clients against a server that fails as a test wants: what is sent again, and what is made of it."""

import asyncio
import io
import socket
import sys
import time

import pytest

from client_stub import (
    BUSY,
    DONE,
    HASTY,
    JOB,
    LOST,
    RECEIPT,
    RESULT,
    RUNNING,
    UPLOAD,
    Pipe,
    answer,
    events,
    header,
    in_turn,
    refused,
)
from image_processor import errors
from image_processor.client import (
    AsyncImageProcessorClient,
    ImageProcessorClient,
    Retries,
    UnexpectedAnswerError,
    UnreachableError,
    WaitTimeoutError,
)
from image_processor.errors import (
    ConflictError,
    FileTooLargeError,
    ImageProcessorError,
    InvalidRequestError,
    MissingExtraError,
    NotFoundError,
    RateLimitError,
    UnavailableError,
)


def test_a_busy_service_is_asked_again(serve, client_of):
    server = serve(**{JOB: in_turn(BUSY, BUSY, answer(RUNNING))})
    status = client_of(server).status("one")
    assert (status.status, status.is_final, len(server.requests)) == ("processing", False, 3)


def test_a_lost_answer_is_asked_for_with_the_same_key(serve, client_of, tmp_path):
    server = serve(**{UPLOAD: in_turn(LOST, BUSY, answer(RECEIPT, 202, Idempotent_Replayed="true"))})
    picture = tmp_path / "picture"
    picture.write_bytes(b"p" * 600_000)
    told = []
    receipt = client_of(server).upload(picture, bucket="tests", on_progress=lambda *sent: told.append(sent))
    assert receipt.replayed
    assert receipt.job_id == "one"
    assert len({header(request, "Idempotency-Key") for request in server.requests}) == 1
    assert len(server.requests) == 3
    assert told[-1] == (600_000, 600_000)
    assert [sent for sent, _ in told].count(600_000) == 3


def test_each_upload_has_a_key_of_its_own_or_the_one_that_is_given(serve, client_of):
    server = serve(**{UPLOAD: answer(RECEIPT, 202)})
    client = client_of(server)
    for key in (None, None, "mine"):
        client.upload(b"picture", bucket="tests", idempotency_key=key)
    first, second, mine = (header(request, "Idempotency-Key") for request in server.requests)
    assert first != second
    assert mine == "mine"


def test_a_stream_that_cannot_be_rewound_is_sent_once(serve, client_of):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        nobody = f"http://127.0.0.1:{listener.getsockname()[1]}"
    pipe = Pipe(b"picture")
    with pytest.raises(UnreachableError) as unsent:
        client_of(nobody).upload(pipe, bucket="tests")
    assert not unsent.value.was_sent
    server = serve(**{UPLOAD: pipe.lose})
    with pytest.raises(UnreachableError) as lost:
        client_of(server).upload(pipe, bucket="tests")
    assert lost.value.was_sent
    assert "cannot be rewound" in lost.value.__notes__[0]
    assert len(server.requests) == 1


def test_a_stream_is_sent_again_from_where_it_stood(serve, client_of):
    server = serve(**{UPLOAD: in_turn(LOST, answer(RECEIPT, 202))})
    stream = io.BytesIO(b"beforepicture")
    stream.seek(6)
    told = []
    client_of(server).upload(stream, bucket="tests", on_progress=lambda *sent: told.append(sent))
    assert told == [(7, 7), (7, 7)]
    assert len({header(request, "Content-Length") for request in server.requests}) == 1


def test_what_may_have_happened_is_not_asked_for_twice_where_that_counts(serve, client_of):
    path = "/jobs/one/retry"
    lost = serve(**{path: LOST})
    with pytest.raises(UnreachableError):
        client_of(lost).retry("one")
    broken = serve(**{path: answer(b"<h1>Bad Gateway</h1>", 502)})
    with pytest.raises(UnavailableError) as bad:
        client_of(broken).retry("one")
    busy = serve(**{path: in_turn(BUSY, refused(409, "conflict"))})
    with pytest.raises(ConflictError):
        client_of(busy).retry("one")
    assert [len(server.requests) for server in (lost, broken, busy)] == [1, 1, 2]
    assert bad.value.status == 502


def test_the_end_of_patience(serve, client_of):
    path = JOB
    busy = serve(**{path: BUSY})
    with pytest.raises(UnavailableError):
        client_of(busy).status("one")
    later = serve(**{path: refused(503, "storage_down", Retry_After="3600")})
    with pytest.raises(errors.StorageDownError) as down:
        client_of(later).status("one")
    assert down.value.retry_after_seconds == 3600
    assert [len(server.requests) for server in (busy, later)] == [HASTY.attempts, 1]


def test_a_used_up_limit_is_waited_for_where_that_is_wished(serve, client_of):
    used_up = refused(429, "rate_limited", Retry_After="0")
    server = serve(**{UPLOAD: in_turn(used_up, used_up, answer(RECEIPT, 202))})
    with pytest.raises(RateLimitError) as limited:
        client_of(server).upload(b"picture", bucket="tests")
    assert (limited.value.retry_after_seconds, limited.value.details) == (0, {"a": 1})
    patient = Retries(first_pause_seconds=0.01, rate_limit=True)
    assert client_of(server, retries=patient).upload(b"picture", bucket="tests").job_id == "one"
    assert len(server.requests) == 3


def test_deleting_what_a_lost_attempt_deleted_is_no_error(serve, client_of):
    gone = refused(404, "not_found")
    server = serve(**{"/api/v1/images/two": in_turn(LOST, gone, gone)})
    assert client_of(server).delete("two") is None
    with pytest.raises(NotFoundError):
        client_of(server).delete("two")


@pytest.mark.parametrize(
    ("status", "body", "kind", "code"),
    [
        (418, b'{"error": {"code": "teapot", "message": "Tea."}}', ImageProcessorError, "teapot"),
        (413, b"<h1>Request Entity Too Large</h1>", FileTooLargeError, "http_error"),
        (400, b'{"error": {"code": "invalid_request"}}', InvalidRequestError, "invalid_request"),
        (500, b'{"error": "no"}', ImageProcessorError, "http_error"),
        (500, b"[" * 100_000, ImageProcessorError, "http_error"),
        (200, b"<h1>Welcome</h1>", UnexpectedAnswerError, "unexpected_answer"),
        (200, b'{"job_id": 1}', UnexpectedAnswerError, "unexpected_answer"),
    ],
)
def test_strange_answers(serve, client_of, *, status, body, kind, code):
    server = serve(**{JOB: answer(body, status)})
    with pytest.raises(kind) as strange:
        client_of(server).status("one")
    assert strange.value.code == code
    assert strange.value.status == (status if status != 200 else 502)
    assert str(strange.value).endswith(".")


def test_a_broken_stream_is_taken_up_where_it_ended(serve, client_of):
    cut = events((1, "progress", RUNNING), length=99)
    rest = events((2, "completed", {**DONE, "step": None}))
    server = serve(JOB=answer(RUNNING), **{"JOB/events": in_turn(cut, rest), "JOB/result": answer(RESULT)})
    told = []
    result = client_of(server).wait("one", on_status=told.append)
    assert result.urls == RESULT["urls"]
    assert [status.status for status in told] == ["processing", "completed"]
    streams = [request for request in server.requests if "/events" in request]
    assert "Last-Event-ID" not in streams[0]
    assert header(streams[1], "Last-Event-ID") == "1"


@pytest.mark.parametrize(
    "no_stream",
    [
        LOST,
        refused(503, "unavailable", Retry_After="3600"),
        refused(429, "too_many_streams"),
        answer(b"<h1>Welcome</h1>", Content_Type="text/html"),
        answer(b"data: nonsense\n\n", Content_Type="text/event-stream"),
        answer(b"", 204),
    ],
)
def test_without_a_stream_it_polls(serve, client_of, no_stream):
    server = serve(
        JOB=in_turn(answer(RUNNING), answer(DONE)),
        **{"JOB/events": no_stream, "JOB/result": answer(RESULT)},
    )
    assert client_of(server).wait("one").image_id == "two"


def test_the_time_to_wait_ends_while_the_stream_is_silent(serve, client_of):
    def silence(connection, server):
        connection.sendall(events((1, "progress", RUNNING), length=99))
        server.stopping.wait(20)

    server = serve(JOB=answer(RUNNING), **{"JOB/events": silence})
    began = time.monotonic()
    with pytest.raises(WaitTimeoutError) as late:
        client_of(server).wait("one", timeout=1.2)
    server.stopping.set()
    assert isinstance(late.value, TimeoutError)
    assert 1.2 <= time.monotonic() - began < 10


def test_a_download_is_whole_or_not_there(serve, client_of, tmp_path):
    path = "/api/v1/images/two/direct?size=large"
    half = answer(b"half", Content_Length=8)
    server = serve(**{path: in_turn(half, half, answer(b"whole"), half)})
    target = tmp_path / "picture.webp"
    target.write_bytes(b"old")
    client = client_of(server, retries=Retries(attempts=2, first_pause_seconds=0.01))
    with pytest.raises(UnreachableError):
        client.download("two", "large", to=target)
    assert target.read_bytes() == b"old"
    assert client.download("two", "large", to=target) == target
    assert target.read_bytes() == b"whole"
    with pytest.raises(UnreachableError):
        client.download("two", "large")
    assert list(tmp_path.iterdir()) == [target]
    whole = serve(**{path: answer(b"whole")})
    with pytest.raises(NotFoundError, match="folder"):
        client_of(whole).download("two", "large", to=tmp_path / "missing" / "picture.webp")


def test_a_token_is_asked_for_each_time_and_goes_to_the_service_alone(serve, client_of):
    storage = serve(**{"/bucket": answer(b"", 204)})
    ticket = {
        "upload_id": "three",
        "method": "PUT",
        "url": f"http://127.0.0.1:{storage.port}/bucket",
        "fields": {},
        "headers": {"Content-Type": "image/png"},
        "complete_url": "/api/v1/images/uploads/three/complete",
    }
    server = serve(
        **{"/api/v1/images/uploads": answer(ticket, 201), ticket["complete_url"]: answer(RECEIPT, 202)}
    )
    tokens = iter(("first", "second"))
    client_of(server, token=lambda: next(tokens)).upload_directly(b"\x89PNG\r\n\x1a\n", bucket="tests")
    sent = [header(request, "Authorization") for request in server.requests]
    assert sent == ["Bearer first", "Bearer second"]
    assert "authorization" not in storage.requests[0].lower()
    assert header(storage.requests[0], "Content-Type") == "image/png"


def test_an_async_token(serve):
    server = serve(**{JOB: answer(RUNNING)})

    async def token():
        await asyncio.sleep(0)
        return "awaited"

    async def use():
        async with AsyncImageProcessorClient(f"http://127.0.0.1:{server.port}", token) as client:
            return await client.status("one")

    assert asyncio.run(use()).job_id == "one"
    assert header(server.requests[0], "Authorization") == "Bearer awaited"


def test_a_wait_that_is_cancelled_gives_its_connection_back(serve):
    def silence(connection, server):
        connection.sendall(events((1, "progress", RUNNING), length=99))
        assert connection.recv(1) == b""
        server.stopping.set()

    server = serve(**{"JOB/events": silence})

    async def use():
        heard = asyncio.Event()
        async with AsyncImageProcessorClient(f"http://127.0.0.1:{server.port}", "token") as client:
            waiting = asyncio.create_task(client.wait("one", on_status=lambda _: heard.set()))
            await asyncio.wait_for(heard.wait(), 20)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            await asyncio.to_thread(server.stopping.wait, 20)

    asyncio.run(use())
    assert server.stopping.is_set()


def test_sources_that_are_none(serve, client_of, tmp_path):
    client = client_of(serve())
    with pytest.raises(NotFoundError, match="no file"):
        client.upload(tmp_path / "missing.jpg", bucket="tests")
    with pytest.raises(InvalidRequestError, match="cannot be read"):
        client.upload(tmp_path, bucket="tests")
    with pytest.raises(InvalidRequestError, match="A source is"):
        client.upload(io.StringIO("text"), bucket="tests")
    with pytest.raises(InvalidRequestError, match="size"):
        client.upload_directly(Pipe(b"picture"), bucket="tests")
    with pytest.raises(InvalidRequestError, match="content_type"):
        client.upload_directly(b"words", bucket="tests")
    with pytest.raises(InvalidRequestError, match="id"):
        client.status("")


def test_a_client_that_cannot_be():
    with pytest.raises(InvalidRequestError, match="http"):
        ImageProcessorClient("example.com", "token")


def test_without_httpx_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(MissingExtraError, match=r"image-processor\[client\]"):
        ImageProcessorClient("http://127.0.0.1", "token")


def test_the_token_is_in_no_words_of_the_client():
    client = ImageProcessorClient("http://127.0.0.1:1", "secret", retries=Retries(attempts=1))
    with client, pytest.raises(UnreachableError) as unreachable:
        client.status("one")
    shown = f"{client!r}{client._operations.caller!r}{unreachable.value}"
    assert "secret" not in shown
