"""
A proxy between a client and a real S3 server that stages bad weather, request by request.

It speaks HTTP where `fault_proxy` speaks TCP: it can answer as S3 does, and choose which requests it spoils.
The client signs for our address; the server checks the signature against the Host that it gets, and gets it
as it was sent. Requests and replies are held in memory whole: it is not made for large objects.
"""

import http.client
import socket
import struct
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

UPSTREAM_SECONDS = 60.0
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
HOP_BY_HOP = {"connection", "expect", "keep-alive", "transfer-encoding"}
ERROR_PAGE = (
    '<?xml version="1.0" encoding="UTF-8"?>\n'
    "<Error><Code>{code}</Code><Message>Staged.</Message><Resource>{path}</Resource>"
    "<RequestId>{id}</RequestId></Error>"
)


class Weather(StrEnum):
    """What becomes of a request."""

    DELAY = "delay"
    """It reaches the server `seconds` late."""
    DROP = "drop"
    """The connection is closed; the server hears nothing."""
    RESET = "reset"
    """The connection is reset; the server hears nothing."""
    ANSWER = "answer"
    """We answer with `status` and `code`, as S3 would; the server hears nothing."""
    HALF_SENT = "half_sent"
    """Half of its body reaches the server, then both connections are reset."""
    CHANGED = "changed"
    """One byte of its body reaches the server flipped."""
    LOST_REPLY = "lost_reply"
    """It has its effect, and the connection is closed instead of the answer."""
    SILENCE = "silence"
    """It has its effect, and nothing is answered."""
    TRUNCATE = "truncate"
    """The answer comes with the length of the whole and half of it; then the connection is closed."""
    STALL = "stall"
    """The answer comes by half; then there is silence."""
    DRIP = "drip"
    """The answer comes a byte at a time, every `seconds`."""
    CORRUPT = "corrupt"
    """One byte of the answer's body is flipped."""


@dataclass
class Storm:
    """Weather for some requests: those of a method, with a word in their path, so many of them."""

    weather: Weather
    method: str = ""
    """Empty for all."""
    within: str = ""
    """What the path and query have in them; empty for all."""
    times: int | None = None
    """None for as long as it is not cleared."""
    status: int = 500
    code: str = "InternalError"
    seconds: float = 0.1

    def strikes(self, method: str, path: str) -> bool:
        """Whether it is meant for this request; counts down."""
        if self.times == 0 or self.method not in {"", method} or self.within not in path:
            return False
        if self.times is not None:
            self.times -= 1
        return True


@dataclass(frozen=True)
class Reply:
    """What the server answered."""

    status: int
    reason: str
    headers: list[tuple[str, str]]
    body: bytes


class S3Weather:
    """
    Stands before the server of `target_port` while the block lasts; clear skies until a storm is staged.

    `with S3Weather(s3.port) as sky: sky.stage(Weather.ANSWER, status=503, code="SlowDown", times=2)`.
    """

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self.requests: Counter[tuple[str, str]] = Counter()
        """How often each method came with each path, without its query."""
        self._storms: list[Storm] = []
        self._turn = threading.Lock()
        self._over = threading.Event()
        self._server = _Server(self)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, name="s3-weather"
        )

    @property
    def port(self) -> int:
        return self._server.server_address[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def stage(self, weather: Weather, **storm) -> None:
        """From now on; with several storms, the first that is meant for a request strikes it."""
        with self._turn:
            self._storms.append(Storm(weather, **storm))

    def clear(self) -> None:
        """No weather any more; what is silent stays so, as behind a router that forgot it."""
        with self._turn:
            self._storms.clear()

    def count(self, method: str, within: str = "") -> int:
        """How many requests of a method came, with a word in their path."""
        with self._turn:
            return sum(n for (verb, path), n in self.requests.items() if verb == method and within in path)

    def met(self, method: str, path: str) -> Storm | None:
        """Count a request; the storm that it meets."""
        with self._turn:
            self.requests[method, path.partition("?")[0]] += 1
            return next((storm for storm in self._storms if storm.strikes(method, path)), None)

    def wait(self, seconds: float) -> None:
        """Until so much time is over, or all this."""
        self._over.wait(seconds)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._server.shutdown()
        self._thread.join()
        self._server.hang_up()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    """Knows its connections, so that their threads can be ended."""

    daemon_threads = False
    request_queue_size = 128

    def __init__(self, sky: S3Weather) -> None:
        super().__init__(("127.0.0.1", 0), _Exchange)
        self.sky = sky
        self._connections: set[socket.socket] = set()

    def process_request(self, request, client_address) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request) -> None:
        self._connections.discard(request)
        # Not `shutdown`, which would say goodbye where a reset is meant.
        request.close()

    def handle_error(self, request, client_address) -> None:
        """A client that hangs up in the middle is one that lost its patience."""

    def hang_up(self) -> None:
        for connection in tuple(self._connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Exchange(BaseHTTPRequestHandler):
    """One connection of a client's."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def exchange(self) -> None:
        """One request, through the weather that it meets."""
        storm = self.server.sky.met(self.command, self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            if storm is None:
                self._reply(self._asked(body))
            else:
                STAGES[storm.weather](self, storm, body)
        except (OSError, http.client.HTTPException):
            self._reset()

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = exchange  # noqa: N815 - http.server looks for these

    def log_message(self, *_: object) -> None:
        """What is of interest is counted."""

    def delay(self, storm: Storm, body: bytes) -> None:
        self.server.sky.wait(storm.seconds)
        self._reply(self._asked(body))

    def drop(self, _storm: Storm, _body: bytes) -> None:
        self.close_connection = True

    def reset(self, _storm: Storm, _body: bytes) -> None:
        self._reset()

    def answer(self, storm: Storm, _body: bytes) -> None:
        page = ERROR_PAGE.format(code=storm.code, path=self.path.partition("?")[0], id=uuid.uuid4().hex)
        headers = [("Content-Type", "application/xml"), ("Content-Length", str(len(page)))]
        self._reply(Reply(storm.status, storm.code, headers, page.encode()))

    def half_sent(self, _storm: Storm, body: bytes) -> None:
        upstream = self._upstream()
        try:
            upstream.send(body[: len(body) // 2])
            upstream.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        finally:
            upstream.close()
        self._reset()

    def changed(self, _storm: Storm, body: bytes) -> None:
        self._reply(self._asked(_flipped(body)))

    def lost_reply(self, _storm: Storm, body: bytes) -> None:
        self._asked(body)
        self.close_connection = True

    def silence(self, _storm: Storm, body: bytes) -> None:
        self._asked(body)
        self._wait_for_hang_up()

    def truncate(self, _storm: Storm, body: bytes) -> None:
        reply = self._asked(body)
        self._reply(reply, reply.body[: len(reply.body) // 2])
        self.close_connection = True

    def stall(self, _storm: Storm, body: bytes) -> None:
        reply = self._asked(body)
        self._reply(reply, reply.body[: len(reply.body) // 2])
        self._wait_for_hang_up()

    def drip(self, storm: Storm, body: bytes) -> None:
        reply = self._asked(body)
        self._reply(reply, b"")
        with suppress(OSError):
            for byte in reply.body:
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
                time.sleep(storm.seconds)
        self.close_connection = True

    def corrupt(self, _storm: Storm, body: bytes) -> None:
        reply = self._asked(body)
        self._reply(reply, _flipped(reply.body))

    def _asked(self, body: bytes) -> Reply:
        """What the server answers."""
        upstream = self._upstream()
        try:
            upstream.send(body)
            response = upstream.getresponse()
            return Reply(response.status, response.reason, response.getheaders(), response.read())
        finally:
            upstream.close()

    def _upstream(self) -> http.client.HTTPConnection:
        """A connection to the server, on which the head of the request has gone."""
        upstream = http.client.HTTPConnection(
            "127.0.0.1", self.server.sky.target_port, timeout=UPSTREAM_SECONDS
        )
        upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() not in HOP_BY_HOP:
                upstream.putheader(name, value)
        upstream.endheaders()
        return upstream

    def _reply(self, reply: Reply, body: bytes | None = None) -> None:
        """The answer, or a part or a change of its body under the length of the whole."""
        self.send_response_only(reply.status, reply.reason)
        named = [(name, value) for name, value in reply.headers if name.lower() not in HOP_BY_HOP]
        if self.command != "HEAD" and reply.status != http.HTTPStatus.NO_CONTENT:
            named = [(name, value) for name, value in named if name.lower() != "content-length"]
            named.append(("Content-Length", str(len(reply.body))))
        for name, value in named:
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body if body is None else body)

    def _wait_for_hang_up(self) -> None:
        """Silence; a client that gives up, or our own end, is heard as the end of the stream."""
        self.close_connection = True
        while self.connection.recv(65_536):
            pass

    def _reset(self) -> None:
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)


def _flipped(body: bytes) -> bytes:
    middle = len(body) // 2
    return body[:middle] + bytes([body[middle] ^ 0xFF]) + body[middle + 1 :] if body else body


STAGES: dict[Weather, Callable[[_Exchange, Storm, bytes], None]] = {
    Weather.DELAY: _Exchange.delay,
    Weather.DROP: _Exchange.drop,
    Weather.RESET: _Exchange.reset,
    Weather.ANSWER: _Exchange.answer,
    Weather.HALF_SENT: _Exchange.half_sent,
    Weather.CHANGED: _Exchange.changed,
    Weather.LOST_REPLY: _Exchange.lost_reply,
    Weather.SILENCE: _Exchange.silence,
    Weather.TRUNCATE: _Exchange.truncate,
    Weather.STALL: _Exchange.stall,
    Weather.DRIP: _Exchange.drip,
    Weather.CORRUPT: _Exchange.corrupt,
}
