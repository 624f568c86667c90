"""A web server of raw sockets for tests: it says whatever a test wants said, at whatever pace."""

import re
import socket
import ssl
import subprocess
import threading
from contextlib import contextmanager, suppress
from pathlib import Path


class WebServer:
    """Answers by path; an answer is bytes, or a function that is given the connection."""

    def __init__(self, answers, *, host="127.0.0.1", tls=None):
        self.answers = answers
        self.requests = []
        self.connections = 0
        self.stopping = threading.Event()
        self._tls = tls
        self._listener = socket.create_server((host, 0))
        self.port = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            if self.stopping.is_set():
                connection.close()
                return
            self.connections += 1
            thread = threading.Thread(target=self._serve, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection):
        connection.settimeout(20)
        with suppress(OSError), connection:
            if self._tls:
                connection = self._tls.wrap_socket(connection, server_side=True)
            with connection:
                head = self._read_head(connection)
                self.requests.append(head)
                answer = self.answers[head.split(" ")[1]]
                if callable(answer):
                    answer(connection, self)
                else:
                    connection.sendall(answer)

    def _read_head(self, connection):
        """The request's head; its body is read too, for a close with bytes unread would undo the answer."""
        with connection.makefile("rb") as stream:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                line = stream.readline()
                if not line:
                    raise ConnectionResetError
                head += line
            length = re.search(rb"(?i)\r\ncontent-length: ([0-9]+)", head)
            stream.read(int(length[1]) if length else 0)
        return head.decode("latin-1")

    def close(self):
        self.stopping.set()
        with suppress(OSError), socket.create_connection(self._listener.getsockname(), 2):
            pass
        self._threads[0].join(10)
        self._listener.close()
        for thread in self._threads:
            thread.join(20)


@contextmanager
def serving(answers, *, host="127.0.0.1", tls=None):
    server = WebServer(answers, host=host, tls=tls)
    try:
        yield server
    finally:
        server.close()


def answer(body=b"", *headers, status="200 OK", length=None):
    """A whole HTTP/1.1 answer."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


def redirect(location, status="302 Found"):
    return answer(b"", f"Location: {location}", status=status)


def self_signed(folder: Path, name: str):
    """A server's TLS context for `name` and the client's that trusts it."""
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-nodes", "-days", "2", "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
        timeout=30,
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)
    return server, ssl.create_default_context(cafile=str(certificate))
