"""A real nginx with the configuration that we ship, on free ports of 127.0.0.1."""

import shutil
import signal
import socket
import ssl
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from valkey_server import free_port

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
SHIPPED = Path(__file__).parents[1] / "deploy" / "nginx"
START_SECONDS = 20.0
STOP_SECONDS = 10.0
PAUSE_SECONDS = 0.02
"""Between two questions to a server that is starting: nothing tells of that but its port."""
AROUND = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 512; }}
http {{
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    scgi_temp_path {folder}/scgi;
    uwsgi_temp_path {folder}/uwsgi;
    include {folder}/conf.d/*.conf;
}}
"""
needs_nginx = pytest.mark.skipif(NGINX is None, reason="there is no nginx: apt-get install nginx-light")


@dataclass
class NginxServer:
    """nginx before a service at `upstream_port`; with `data`, variants come from that folder's `storage`."""

    folder: Path
    upstream_port: int
    data: Path | None = None
    changes: dict[str, str] = field(default_factory=dict)
    """Further words of the configuration, and what to put in their place."""
    https_port: int = field(default_factory=free_port)
    http_port: int = field(default_factory=free_port)
    process: subprocess.Popen | None = None

    @property
    def url(self) -> str:
        return f"https://localhost:{self.https_port}"

    def tls(self) -> ssl.SSLContext:
        """Of a client that trusts this server and no other."""
        return ssl.create_default_context(cafile=str(self.folder / "tls" / "fullchain.pem"))

    def configure(self) -> None:
        """Write the configuration as a user of it would: with ports, names and paths of this machine."""
        conf = self.folder / "conf.d"
        conf.mkdir(parents=True)
        (self.folder / "nginx.conf").write_text(AROUND.format(folder=self.folder))
        upstream = _changed(SHIPPED / "upstream.conf", {"127.0.0.1:8000": f"127.0.0.1:{self.upstream_port}"})
        (conf / "upstream.conf").write_text(upstream)
        (conf / "image-processor.conf").write_text(self._site())
        _make_certificate(self.folder / "tls")

    def _site(self) -> str:
        changes = {
            "images.example.com": "localhost",
            "/etc/nginx/tls/": f"{self.folder}/tls/",
            "/var/log/nginx/access.log": f"{self.folder}/access.log",
            "    listen [::]:80;\n": "",
            "    listen [::]:443 ssl http2;\n": "",
            "listen 80;": f"listen 127.0.0.1:{self.http_port};",
            "listen 443 ssl http2;": f"listen 127.0.0.1:{self.https_port} ssl http2;",
        }
        if self.data is not None:
            storage = _changed(SHIPPED / "storage.conf", {"root /data;": f"root {self.data};"})
            changes["    location /storage/ {\n        proxy_pass http://image_processor;\n    }\n"] = storage
        return _changed(SHIPPED / "image-processor.conf", changes | self.changes)

    def check(self) -> str:
        """What `nginx -t` says; AssertionError where it is not content."""
        done = subprocess.run([*self._command(), "-t"], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stderr

    def _command(self) -> list[str]:
        assert NGINX is not None
        # Debian's nginx opens its own error log before it has read where ours is.
        return [NGINX, "-p", str(self.folder), "-e", str(self.folder / "error.log"), "-c", "nginx.conf"]

    def start(self) -> None:
        """Configure and start it, and wait until it answers."""
        self.configure()
        self.process = subprocess.Popen(self._command(), stdin=subprocess.DEVNULL)
        ends_at = time.monotonic() + START_SECONDS
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > ends_at:
                self.stop()
                raise AssertionError((self.folder / "error.log").read_text())
            time.sleep(PAUSE_SECONDS)

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.https_port), 1).close()
        except OSError:
            return False
        return True

    def stop(self) -> None:
        """End it at once, with its workers."""
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(STOP_SECONDS)

    def log(self, name: str) -> str:
        """`access` or `error`."""
        return (self.folder / f"{name}.log").read_text()


def _changed(file: Path, changes: dict[str, str]) -> str:
    """A shipped file with words of this machine; every word that is to be replaced has to be there."""
    text = file.read_text(encoding="utf-8")
    for word, replacement in changes.items():
        assert word in text, f"{file.name} has no {word!r} any more"
        text = text.replace(word, replacement)
    return text


def _make_certificate(folder: Path) -> None:
    folder.mkdir()
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 "
        "-subj /CN=localhost -addext subjectAltName=DNS:localhost -keyout privkey.pem -out fullchain.pem"
    )
    subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
