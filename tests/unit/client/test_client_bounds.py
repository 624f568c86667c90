"""What no service can make a client do: keep all that is sent, wait for ever, tell its token."""

import json
import socket
import time
import traceback
import tracemalloc

import httpx
import pytest

from client_faces import FACES, new_client
from client_stub import (
    BUSY,
    DONE,
    JOB,
    LOST,
    RECEIPT,
    RESULT,
    RUNNING,
    UPLOAD,
    Swallower,
    answer,
    header,
    in_turn,
    refused,
)
from image_processor.client import (
    ImageProcessorClient,
    Retries,
    UnexpectedAnswerError,
    UnreachableError,
    WaitTimeoutError,
    calls,
    downloading,
    waiting,
)
from image_processor.errors import InvalidRequestError, RateLimitError, UnavailableError

ONCE = Retries(attempts=1)
LARGE = 100 * 1024 * 1024


def endless(head, piece):
    def give(connection, server):
        connection.sendall(head)
        while not server.stopping.is_set():
            connection.sendall(piece)

    return give


def endless_body(status=200):
    return endless(f"HTTP/1.1 {status} x\r\nConnection: close\r\n\r\n".encode(), b" " * 65536)


def test_an_answer_without_end_is_not_kept(serve, client_of, monkeypatch, tmp_path):
    monkeypatch.setattr(downloading, "MAX_DOWNLOAD_BYTES", 1024 * 1024)
    file = "/api/v1/images/two/direct"
    server = serve(**{JOB: endless_body(), file: endless_body()})
    client = client_of(server, retries=ONCE)
    with pytest.raises(UnexpectedAnswerError, match=str(calls.MAX_ANSWER_BYTES)):
        client.status("one")
    with pytest.raises(UnexpectedAnswerError):
        client.download("two")
    with pytest.raises(UnexpectedAnswerError):
        client.download("two", to=tmp_path / "two")
    assert list(tmp_path.iterdir()) == []


def test_a_refusal_without_end_still_says_its_status(serve, client_of):
    server = serve(**{JOB: endless_body(503)})
    with pytest.raises(UnavailableError):
        client_of(server, retries=ONCE).status("one")


def test_an_event_without_end_makes_it_poll(serve, client_of):
    stream = endless(
        b"HTTP/1.1 200 x\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n", b"data: 1\n" * 8192
    )
    server = serve(**{JOB: answer(DONE), "JOB/events": stream, "JOB/result": answer(RESULT)})
    assert client_of(server).wait("one", timeout=30).image_id == "two"


def test_packed_answers_are_neither_asked_for_nor_unpacked(serve, client_of):
    server = serve(**{JOB: answer(b"\x1f\x8b", Content_Encoding="gzip")})
    with pytest.raises(UnexpectedAnswerError, match="packed"):
        client_of(server).status("one")
    assert header(server.requests[0], "Accept-Encoding") == "identity"


def dripping(connection, server):
    connection.sendall(b"HTTP/1.1 200 x\r\nContent-Length: 100000\r\n\r\n")
    while not server.stopping.wait(0.05):
        connection.sendall(b" ")


def silent(_connection, server):
    server.stopping.wait(20)


@pytest.mark.parametrize("slow", [dripping, silent, BUSY])
def test_a_deadline_ends_whatever_goes_on(serve, client_of, slow):
    server = serve(**{JOB: slow})
    patient = Retries(attempts=1000, first_pause_seconds=0.05, longest_pause_seconds=0.05)
    began = time.monotonic()
    with pytest.raises(UnavailableError):
        client_of(server, deadline=0.3, retries=patient).status("one")
    assert time.monotonic() - began < 10
    server.stopping.set()


def test_a_service_that_says_nothing_does_not_hold_a_wait(serve, client_of):
    server = serve(**{JOB: silent, "JOB/events": silent})
    began = time.monotonic()
    with pytest.raises(WaitTimeoutError):
        client_of(server).wait("one", timeout=1.2)
    assert time.monotonic() - began < 15
    server.stopping.set()


def test_a_wait_outlasts_a_service_that_is_down(serve, client_of, monkeypatch):
    monkeypatch.setattr(waiting, "LONGEST_POLL_SECONDS", 0.01)
    bad_gateway = answer(b"<h1>Bad Gateway</h1>", 502)
    down = [LOST, BUSY, bad_gateway, refused(429, "http_error", Retry_After="0"), answer(RUNNING)] * 2
    server = serve(
        **{JOB: in_turn(*down, answer(DONE)), "JOB/events": BUSY, "JOB/result": in_turn(BUSY, answer(RESULT))}
    )
    assert client_of(server, retries=ONCE).wait("one", timeout=60).image_id == "two"


def test_the_end_of_a_wait_tells_what_was_wrong(serve, client_of, monkeypatch):
    monkeypatch.setattr(waiting, "POLL_SECONDS", 0.01)
    later = refused(503, "storage_down", Retry_After="3600")
    with pytest.raises(WaitTimeoutError) as late:
        client_of(serve(**{JOB: later}), retries=ONCE).wait("one", timeout=0.3, by_events=False)
    assert late.value.__cause__.code == "storage_down"


def test_a_limit_that_ends_too_late_is_not_waited_for(serve, client_of):
    server = serve(**{UPLOAD: refused(429, "rate_limited", Retry_After="86400")})
    with pytest.raises(RateLimitError) as limited:
        client_of(server, retries=Retries(rate_limit=True)).upload(b"picture", bucket="tests")
    assert limited.value.retry_after_seconds == 86400
    assert len(server.requests) == 1


def test_a_connection_that_was_closed_meanwhile_costs_nothing(serve):
    job = {"job_id": "one", "image_id": "two", "status": "queued", "state": "pending", "progress": 0}
    rest = {"priority": "low", "attempts": 1, "retries": 0, "max_retries": 1, "cancel_requested": False}
    text = json.dumps(job | rest | {"created_at": "2026-11-08T14:00:00Z"}).encode()
    kept_alive = f"HTTP/1.1 202 x\r\nContent-Length: {len(text)}\r\n\r\n".encode() + text
    server = serve(**{"/jobs/one/retry": kept_alive})
    with ImageProcessorClient(f"http://127.0.0.1:{server.port}", "token", retries=ONCE) as client:
        for _ in range(3):
            assert client.retry("one").status == "queued"
            server._threads[-1].join(20)
    assert server.connections == 3


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_nothing_is_sent_to_where_a_service_says_it_is(serve, status):
    elsewhere = serve(**{JOB: answer(RUNNING), UPLOAD: answer(RECEIPT, 202)})
    to = f"http://127.0.0.1:{elsewhere.port}"
    server = serve(
        **{
            JOB: answer(b"", status, Location=to + JOB),
            UPLOAD: answer(b"", status, Location=to + UPLOAD),
        }
    )
    with (
        httpx.Client(follow_redirects=True) as follower,
        ImageProcessorClient(f"http://127.0.0.1:{server.port}", "token", http_client=follower) as client,
    ):
        with pytest.raises(UnexpectedAnswerError) as led:
            client.status("one")
        with pytest.raises(UnexpectedAnswerError):
            client.upload(b"picture", bucket="tests")
    assert led.value.details["location"] == to + JOB
    assert (elsewhere.requests, len(server.requests)) == ([], 2)


def test_the_credentials_of_an_httpx_client_stay_with_the_service(serve):
    storage = serve(**{"/bucket": answer(b"", 204)})
    ticket = {
        "upload_id": "three",
        "method": "POST",
        "url": f"http://127.0.0.1:{storage.port}/bucket",
        "fields": {"key": "incoming/three"},
        "headers": {},
        "complete_url": "/api/v1/images/uploads/three/complete",
    }
    server = serve(
        **{"/api/v1/images/uploads": answer(ticket, 201), ticket["complete_url"]: answer(RECEIPT, 202)}
    )
    own = {"Authorization": "Bearer own", "Cookie": "session=own"}
    with (
        httpx.Client(headers=own, auth=("own", "own")) as http_client,
        ImageProcessorClient(f"http://127.0.0.1:{server.port}", "token", http_client=http_client) as client,
    ):
        client.upload_directly(b"\x89PNG\r\n\x1a\n", bucket="tests")
    assert header(server.requests[0], "Authorization") == "Bearer token"
    assert "own" not in storage.requests[0]
    assert "token" not in storage.requests[0]


@pytest.mark.parametrize("url", ["ftp://example.com/one", "javascript:alert(1)", "example.com"])
def test_an_address_that_is_none_is_not_uploaded_to(serve, client_of, url):
    ticket = {"upload_id": "3", "method": "PUT", "url": url, "fields": {}, "headers": {}, "complete_url": "/"}
    server = serve(**{"/api/v1/images/uploads": answer(ticket, 201)})
    with pytest.raises(UnexpectedAnswerError, match="address"):
        client_of(server).upload_directly(b"\x89PNG\r\n\x1a\n", bucket="tests")


@pytest.mark.parametrize("token", ["sec\nret", "", "gehe\u00efm", b"secret", None])
def test_a_token_that_cannot_be_sent_is_quoted_nowhere(serve, client_of, token):
    server = serve(**{JOB: answer(RUNNING)})
    with pytest.raises(InvalidRequestError) as refusal:
        client_of(server, token=lambda: token).status("one")
    told = "".join(traceback.format_exception(refusal.value))
    assert not token or str(token) not in told
    assert "gehe" not in told
    assert server.requests == []
    assert client_of(server, token=" token\n").status("one").job_id == "one"
    assert header(server.requests[0], "Authorization") == "Bearer token"


def test_an_idempotency_key_that_cannot_be_sent(serve, client_of):
    client = client_of(serve())
    for key in ("two\nlines", "k" * 256, "schl\u00fcssel"):
        with pytest.raises(InvalidRequestError, match="idempotency key"):
            client.upload(b"picture", bucket="tests", idempotency_key=key)
        with pytest.raises(InvalidRequestError, match="idempotency key"):
            client.submit_job("https://example.com/one.jpg", idempotency_key=key)


@pytest.mark.parametrize(
    "address",
    ["example.com", "http://", "http://[", "http://host:port", "https://host/?a=1", "https://me:pass@host"],
)
def test_an_address_of_no_service(address):
    with pytest.raises(InvalidRequestError, match="address") as refusal:
        ImageProcessorClient(address, "token")
    assert "pass@" not in str(refusal.value)


@pytest.mark.slow
@pytest.mark.parametrize("face", FACES)
def test_a_large_file_takes_no_memory_and_its_progress_is_what_was_sent(face, tmp_path):
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(LARGE)
    told = []
    server = Swallower({UPLOAD: in_turn(LOST, answer(RECEIPT, 202))})
    client = new_client(face, f"http://127.0.0.1:{server.port}", "token")
    tracemalloc.start()
    try:
        client.upload(path, bucket="tests", on_progress=lambda *sent: told.append(sent))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        client.close()
        server.close()
    assert peak < 16 * 1024 * 1024
    assert [sent for sent, _ in told].count(LARGE) == len(server.requests) == 2
    assert {total for _, total in told} == {LARGE}
    begins = [number for number, (sent, _) in enumerate(told) if number == 0 or sent < told[number - 1][0]]
    assert len(begins) == 2


def test_a_connection_that_nobody_takes_is_given_up_soon(client_of):
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        address = listener.getsockname()
        held = [socket.socket() for _ in range(4)]
        for connection in held:
            connection.setblocking(False)
            connection.connect_ex(address)
        began = time.monotonic()
        with pytest.raises(UnreachableError) as unreachable:
            client_of(f"http://127.0.0.1:{address[1]}", retries=ONCE, connect_timeout=0.3).status("one")
        for connection in held:
            connection.close()
    assert time.monotonic() - began < 10
    assert not unreachable.value.was_sent
