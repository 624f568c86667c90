"""A disk that runs full below a real service: uploads are refused, jobs wait, nothing is left half-done."""

import os
import shutil
import socket
import subprocess
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from image_processor.engine.base import RenderRequest
from image_processor.engine.isolate import IsolatedEngine
from image_processor.errors import StorageFullError
from image_processor.pipeline import ImageFormat, JpegOutput, Limits, Optimize, PngOutput, WebpOutput
from image_processor.testing import sample_images
from pictures import pipeline_of
from running_service import Service, upload, wait_for_result

pytestmark = pytest.mark.slow

MIB = 1024 * 1024
HEADERS_ALONE = (
    "POST /api/v1/images/upload HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n"
    "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 5000000\r\n\r\n"
)


@dataclass
class SmallDisk:
    """A file system of its own, and what fills it."""

    folder: Path

    @contextmanager
    def full_but_for(self, size):
        ballast = self.folder / "ballast"
        ballast.write_bytes(bytes(max(0, shutil.disk_usage(self.folder).free - size)))
        try:
            yield
        finally:
            ballast.unlink()


@contextmanager
def mounted(folder, size):
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if os.geteuid() or shutil.which("mount") is None or subprocess.run(mount, check=False).returncode:
        pytest.skip("only root can mount the small disk that this fills")
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def disk(tmp_path):
    with mounted(tmp_path / "data", "24m") as disk:
        yield disk


def test_a_service_on_a_full_disk_refuses_waits_and_goes_on(disk, tmp_path):
    own = {"MIN_FREE_DISK_MB": "4", "LOG_FORMAT": "json", "DATABASE_PATH": str(tmp_path / "jobs.db")}
    service = Service(tmp_path, own)
    service.start()
    try:
        with service.client() as client:
            large = sample_images.photo(2400, 1800)
            with disk.full_but_for(2 * MIB):
                refuses_before_the_body(service)
                assert client.get("/api/v1/health").status_code == 503
            (worker,) = service.processes("worker")
            worker.suspend()
            accepted = upload(client, large)
            assert accepted.status_code == 202
            job_id = accepted.json()["job_id"]
            with disk.full_but_for(20_000):
                worker.resume()
                waiting = f"/api/v1/images/jobs/{job_id}"
                service.wait_for(lambda: "job.retried" in "".join(service.log), "the job to be put off")
                status = client.get(waiting).json()
                assert (status["status"], status.get("attempt_count", 0)) == ("retrying", 0), status
                assert leftovers(disk.folder) == []
            connection = service_database(tmp_path)
            with closing(connection):
                connection.execute("update processing_jobs set run_at = 0 where status = 'retrying'")
            assert wait_for_result(client, job_id).status_code == 200
            service.wait_for(lambda: service.staged() == [], "the original to go")
    finally:
        service.stop()


def refuses_before_the_body(service):
    host, port = service.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), 20) as connection:
        connection.sendall(HEADERS_ALONE.format(token=service.token).encode())
        answer = b"".join(iter(lambda: connection.recv(65_536), b""))  # until the server hangs up
    assert answer.startswith(b"HTTP/1.1 507"), answer
    assert b"storage_full" in answer


def service_database(folder):
    from pysqlite3 import dbapi2 as sqlite3  # noqa: PLC0415

    return sqlite3.connect(folder / "jobs.db", isolation_level=None, timeout=10)


def leftovers(data):
    """What lies in the storage or on its way there."""
    return [
        path for folder in ("storage", "scratch") for path in (data / folder).rglob("*") if path.is_file()
    ]


def test_an_upload_that_the_disk_has_no_room_for_leaves_nothing(disk, tmp_path):
    own = {"MIN_FREE_DISK_MB": "0", "DATABASE_PATH": str(tmp_path / "jobs.db")}
    service = Service(tmp_path, own)
    service.start()
    try:
        noise = sample_images.photo(2400, 1800) + bytes(6 * MIB)
        with service.client() as client:
            with disk.full_but_for(1 * MIB):
                answer = upload(client, noise)
                assert (answer.status_code, answer.json()["error"]["code"]) == (507, "storage_full")
                assert answer.headers["Retry-After"]
                assert service.staged() == []
            assert upload(client, noise).status_code == 202
    finally:
        service.stop()


@pytest.mark.parametrize("optimize", list(Optimize))
def test_whatever_writes_a_variant_says_that_the_disk_is_full(tmp_path, optimize):
    """What an encoder writes itself, and what we write of what it made in memory."""
    source = tmp_path / "original"
    source.write_bytes(sample_images.photo(900, 700))
    outputs = (JpegOutput(), JpegOutput(max_bytes=100_000), PngOutput(), WebpOutput())
    with (
        mounted(tmp_path / "disk", "200k") as disk,
        closing(IsolatedEngine(readable=(tmp_path,), writable=(disk.folder,))) as engine,
    ):
        for number, output in enumerate(outputs):
            folder = disk.folder / str(number)
            folder.mkdir()
            (only,) = pipeline_of(output=output).variants
            pipeline = pipeline_of().model_copy(
                update={"variants": (only.model_copy(update={"optimize": optimize}),)}
            )
            request = RenderRequest(
                source=source,
                source_format=ImageFormat.JPEG,
                pipeline=pipeline,
                output_directory=folder,
                limits=Limits(),
            )
            with disk.full_but_for(8_000), pytest.raises(StorageFullError):
                engine.render(request, deadline_seconds=60)
            shutil.rmtree(folder)
