"""What a service that fails as a test wants says to a client, as bytes of HTTP."""

import io
import json
import re
import threading

from image_processor.client import Retries
from web_server import WebServer

HASTY = Retries(first_pause_seconds=0.01, longest_pause_seconds=0.05)
JOB = "/api/v1/images/jobs/one"
UPLOAD = "/api/v1/images/upload"
STATUS = {"job_id": "one", "image_id": "two", "attempts": 1, "created_at": "2026-11-08T14:00:00.000Z"}
RUNNING = {**STATUS, "status": "processing", "progress": 0}
DONE = {**STATUS, "status": "completed", "progress": 100}
RESULT = {
    "image_id": "two",
    "status": "completed",
    "urls": {"medium": "/storage/medium.webp"},
    "metadata": {
        "dominant_color": "#3A5F8C",
        "original_dimensions": {"width": 4, "height": 3},
        "variants": {},
    },
    "completed_at": "2026-11-08T14:00:01.204Z",
}
RECEIPT = {"job_id": "one", "image_id": "two", "status_url": JOB}


def answer(body, status=200, **headers):
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = {"Content_Length": len(text), "Connection": "close", **headers}
    head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in lines.items())
    return f"HTTP/1.1 {status} x\r\n{head}\r\n".encode() + text


def refused(status, code, **headers):
    return answer({"error": {"code": code, "message": "No.", "details": {"a": 1}}}, status, **headers)


BUSY = refused(503, "unavailable", Retry_After="0")
LOST = b""


def in_turn(*answers):
    """Each request gets the next answer; the last one stays."""
    waiting = list(answers)

    def give(connection, _server):
        connection.sendall(waiting.pop(0) if len(waiting) > 1 else waiting[0])

    return give


def events(*events, length=None):
    text = b"retry: 10\n\n" + b"".join(
        f"id: {number}\nevent: {name}\ndata: {json.dumps(data)}\n\n".encode() for number, name, data in events
    )
    missing = 0 if length is None else length
    return answer(text, Content_Type="text/event-stream", Content_Length=len(text) + missing)


def header(request, name):
    return re.search(rf"(?im)^{name}: (.*?)\r$", request)[1]


class Pipe:
    """A stream that can be read once; a server may wait for that."""

    def __init__(self, data):
        self._file = io.BytesIO(data)
        self._is_read = threading.Event()

    def read(self, size):
        piece = self._file.read(size)
        if not piece:
            self._is_read.set()
        return piece

    def lose(self, _connection, _server):
        """As an answer: wait until it was read to its end, and say nothing."""
        self._is_read.wait(20)


class Swallower(WebServer):
    """Reads any body without keeping it."""

    def _read_head(self, connection):
        head = b""
        while b"\r\n\r\n" not in head:
            head += connection.recv(4096)
        head, _, rest = head.partition(b"\r\n\r\n")
        text = head.decode("latin-1") + "\r\n"
        left = int(header(text, "Content-Length")) - len(rest)
        room = bytearray(1 << 18)
        while left:
            left -= connection.recv_into(room, min(left, len(room)))
        return text
