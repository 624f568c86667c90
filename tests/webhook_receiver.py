"""A real receiver of webhooks on a free port of 127.0.0.1, which checks signatures by its own means."""

import base64
import hashlib
import hmac
import json
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = bytes(range(32))
SECRET = "whsec_" + base64.b64encode(KEY).decode()
PATIENCE_SECONDS = 20.0
"""How long a test waits for what must come; it passes long before."""


@dataclass(frozen=True)
class Request:
    """One request that came."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def event_id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def event(self) -> dict[str, Any]:
        return json.loads(self.body)

    @property
    def is_genuine(self) -> bool:
        """As the convention's text has it, and not as our code does."""
        signed = b".".join((self.event_id.encode(), self.headers["webhook-timestamp"].encode(), self.body))
        digest = hmac.digest(KEY, signed, hashlib.sha256)
        return self.headers["webhook-signature"] == "v1," + base64.standard_b64encode(digest).decode("ascii")


class Receiver:
    """Answers with one status after the other, then with 204; 0 stands for no answer until `let_go`."""

    def __init__(self, *answers: int | tuple[int, dict[str, str]]):
        self._answers = list(answers)
        self._came = threading.Condition()
        self.requests: list[Request] = []
        self.let_go = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._answering())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/hook?token=hidden"

    def wait_for(self, count: int) -> list[Request]:
        """The requests, once there are so many."""
        with self._came:
            assert self._came.wait_for(lambda: len(self.requests) >= count, PATIENCE_SECONDS)
            return list(self.requests)

    def close(self) -> None:
        self.let_go.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _take(self, request: Request) -> tuple[int, dict[str, str]]:
        with self._came:
            self.requests.append(request)
            self._came.notify_all()
            answer = self._answers.pop(0) if self._answers else 204
        return answer if isinstance(answer, tuple) else (answer, {})

    def _answering(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Answering(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                status, fields = receiver._take(Request(self.path, headers, body))
                if status == 0:
                    receiver.let_go.wait(PATIENCE_SECONDS)
                    return
                self.send_response(status)
                for name, value in fields.items():
                    self.send_header(name, value)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_words):
                pass

        return Answering
