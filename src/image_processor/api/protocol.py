"""HTTP as it comes off the wire, within bounds of size and time that uvicorn does not set."""

import asyncio
import json
from collections.abc import Mapping
from http import HTTPStatus

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from image_processor.api.edge import API
from image_processor.api.errors import HTTP_CODES

MAX_TARGET_BYTES = 32 * 1024
"""Path and query. Fifty ids of a batch are 2 KiB, a signed address is less."""
MAX_HEAD_BYTES = 64 * 1024
"""All header fields of a request; also what may come without an end: trailers, extensions of chunks."""
MAX_HEADERS = 100
HEAD_SECONDS = 30.0
"""For a request to begin, and for its head to be there."""

REFUSALS: Mapping[HTTPStatus, str] = {
    HTTPStatus.BAD_REQUEST: "The request is not well-formed HTTP.",
    HTTPStatus.REQUEST_URI_TOO_LONG: f"Path and query are longer than {MAX_TARGET_BYTES // 1024} KiB.",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: (
        f"A request has at most {MAX_HEADERS} header fields of {MAX_HEAD_BYTES // 1024} KiB together."
    ),
}


class HeadError(Exception):
    """The head of a request is over a bound; ends the parsing."""

    def __init__(self, status: HTTPStatus) -> None:
        super().__init__(status.phrase)
        self.status = status


class BoundedProtocol(HttpToolsProtocol):
    """One connection, whose requests have heads of a bounded size that come in a bounded time."""

    _is_in_head = True
    """From the end of one request to the end of the head of the next."""
    _has_progressed = False
    """Whether the parser gave something out since it was last fed."""
    _unused_bytes = 0
    """That came since the parser last gave something out: it, or nobody, keeps them."""
    _field_count = 0
    _field_bytes = 0
    _refusal = HTTPStatus.BAD_REQUEST
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a request, and not for ever."""
        super().connection_made(transport)
        self._set_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._clear_deadline()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take the next bytes."""
        self._has_progressed = False
        super().data_received(data)
        if self._has_progressed:
            self._unused_bytes = 0
            return
        self._unused_bytes += len(data)
        if self._is_in_head:
            self._set_deadline()
        if self._unused_bytes > MAX_HEAD_BYTES:
            self._refusal = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            self._refuse()

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._field_count = self._field_bytes = 0

    def on_url(self, url: bytes) -> None:
        """A piece of the target. Raises HeadError where that gets too long."""
        super().on_url(url)
        if len(self.url) > MAX_TARGET_BYTES:
            self._stop(HTTPStatus.REQUEST_URI_TOO_LONG)

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header, or one trailer, which is dropped. Raises HeadError where there are too many."""
        self._field_count += 1
        self._field_bytes += len(name) + len(value)
        if self._field_count > MAX_HEADERS or self._field_bytes > MAX_HEAD_BYTES:
            self._stop(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        if self._is_in_head:
            super().on_header(name, value)

    def _stop(self, status: HTTPStatus) -> None:
        self._refusal = status
        raise HeadError(status)

    def on_headers_complete(self) -> None:
        """The request can be answered."""
        self._is_in_head, self._has_progressed = False, True
        self._clear_deadline()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._has_progressed = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request has ended."""
        self._is_in_head, self._has_progressed = True, True
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's words are not ours
        """Refuse what the parser stumbled over."""
        self._refuse()

    def _refuse(self) -> None:
        if self.transport.is_closing():
            return
        if not (self._is_busy() and self.cycle.response_started):
            self.transport.write(_refusal(self._refusal))
        self.transport.close()

    def _is_busy(self) -> bool:
        """Whether a request is being answered."""
        return self.cycle is not None and not self.cycle.response_complete

    def _set_deadline(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(HEAD_SECONDS, self._end)

    def _clear_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _end(self) -> None:
        self._deadline = None
        if not self._is_busy():  # behind its answer waits uvicorn's own time for the next request
            self.transport.close()


def _refusal(status: HTTPStatus) -> bytes:
    error = {"code": HTTP_CODES[status.value], "message": REFUSALS[status], "details": {}}
    body = json.dumps({"error": error}).encode()
    headers = {
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "Connection": "close",
        **API,
    }
    lines = [f"HTTP/1.1 {status.value} {status.phrase}", *(f"{name}: {headers[name]}" for name in headers)]
    return "\r\n".join([*lines, "", ""]).encode() + body
