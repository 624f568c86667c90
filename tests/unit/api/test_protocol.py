"""What comes off the wire is bounded: heads, addresses, trailers, and the time that they may take."""

import asyncio
import json

import pytest
import uvicorn
from uvicorn.server import ServerState

from image_processor.api import protocol
from image_processor.api.protocol import MAX_HEAD_BYTES, MAX_HEADERS, MAX_TARGET_BYTES, BoundedProtocol

PATIENCE_SECONDS = 20
HELLO = b"GET / HTTP/1.1\r\nHost: x\r\n"


async def application(scope, receive, send):
    """Answers with the number of headers and bytes of the body; `/slow` never answers."""
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size, more = size + len(message.get("body", b"")), message.get("more_body", False)
    if scope["path"] == "/slow":
        await asyncio.sleep(3600)
    body = json.dumps({"headers": len(scope["headers"]), "body": size}).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def say(*pieces, is_whole=True, seconds=PATIENCE_SECONDS):
    """What a server answers to these pieces until it ends the connection."""

    async def talk():
        config = uvicorn.Config(application, http=BoundedProtocol, ws="none", log_config=None)
        config.load()
        state = ServerState()
        taken = asyncio.Event()

        class Watched(BoundedProtocol):
            def data_received(self, data):
                super().data_received(data)
                taken.set()

        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Watched(config, state, {}), "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        try:
            async with asyncio.timeout(seconds):
                for piece in pieces:
                    writer.write(piece)
                    await taken.wait()
                    taken.clear()
                return await (reader.readuntil(b"}") if is_whole else reader.read())
        finally:
            writer.close()
            server.close()
            for task in list(state.tasks):
                task.cancel()
            await asyncio.gather(*state.tasks, return_exceptions=True)

    return asyncio.run(talk())


def refused(answer, status, code):
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ".encode())
    assert b"Connection: close" in head
    assert b"X-Content-Type-Options: nosniff" in head
    assert json.loads(body)["error"]["code"] == code


def test_a_request_is_answered():
    assert b'{"headers": 1, "body": 0}' in say(HELLO + b"\r\n")
    assert b'{"headers": 2, "body": 5}' in say(HELLO + b"Content-Length: 5\r\n\r\nhello")


def test_as_many_headers_as_allowed_are_taken_and_one_more_is_not():
    fields = [f"X-{number}: y\r\n".encode() for number in range(MAX_HEADERS)]
    assert b'"headers": 100' in say(HELLO + b"".join(fields[:-1]) + b"\r\n")
    answer = say(HELLO + b"".join(fields) + b"\r\n", is_whole=False)
    refused(answer, 431, "headers_too_large")


@pytest.mark.parametrize(
    "pieces",
    [
        [HELLO, b"X: " + b"y" * MAX_HEAD_BYTES + b"\r\n\r\n"],
        [HELLO, b"X: " + b"y" * MAX_HEAD_BYTES],
        [HELLO, b"y" * (MAX_HEAD_BYTES + 1)],
        [b"\r\n" * (MAX_HEAD_BYTES // 2 + 1)],
    ],
    ids=["a value", "a value without an end", "a name without an end", "empty lines"],
)
def test_a_long_head_is_refused(pieces):
    refused(say(*pieces, is_whole=False), 431, "headers_too_large")


def test_a_long_address_is_refused():
    assert b"200 OK" in say(b"GET /" + b"a" * (MAX_TARGET_BYTES - 1) + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    answer = say(b"GET /" + b"a" * MAX_TARGET_BYTES + b" HTTP/1.1\r\nHost: x\r\n\r\n", is_whole=False)
    refused(answer, 414, "address_too_long")


def test_trailers_are_dropped_and_endless_ones_refused():
    chunked = HELLO + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n"
    assert b'{"headers": 2, "body": 5}' in say(chunked + b"Authorization: x\r\n\r\n")
    answer = say(chunked, b"X: " + b"y" * MAX_HEAD_BYTES, is_whole=False)
    refused(answer, 431, "headers_too_large")


def test_the_extension_of_a_chunk_has_an_end():
    chunked = HELLO + b"Transfer-Encoding: chunked\r\n\r\n5;a="
    refused(say(chunked, b"y" * (MAX_HEAD_BYTES + 1), is_whole=False), 431, "headers_too_large")


@pytest.mark.parametrize(
    "rubbish", [b"rubbish\r\n\r\n", b"GET / HTTP/1.1\r\nHost : x\r\n\r\n", b"\x16\x03\x01"]
)
def test_what_is_no_request_is_refused_in_our_words(rubbish):
    refused(say(rubbish, is_whole=False), 400, "malformed_request")


@pytest.mark.parametrize("pieces", [[], [HELLO], [b"\r\n"]], ids=["silence", "half a head", "an empty line"])
def test_a_head_that_does_not_come_is_not_waited_for(monkeypatch, pieces):
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.05)
    assert say(*pieces, is_whole=False) == b""


def test_who_waits_for_an_answer_may_wait_longer(monkeypatch):
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.05)

    with pytest.raises(TimeoutError):
        say(HELLO.replace(b"/ ", b"/slow ") + b"\r\n", b"\r\n", is_whole=False, seconds=0.3)
