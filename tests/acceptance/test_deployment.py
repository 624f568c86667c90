"""nginx, the API, a Celery worker, Flower, Valkey, PostgreSQL and S3: each a process, on one machine."""

import io
import shlex
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx
import jwt
import pytest
from PIL import Image

import compose
from image_processor.client import ImageProcessorClient, Result
from image_processor.testing import sample_images
from nginx_server import NginxServer, needs_nginx
from running_service import IS_SOAK, Service, upload, wait_for_result
from s3_server import OWNER, REGION
from valkey_server import free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), needs_nginx]

SECRET = "a secret of this deployment, as long as it has to be"
FLOWER_LOGIN = ("ops", "a password")
NOT_AN_IMAGE = b"x" * 9_000_000
PATIENCE_SECONDS = 60.0
CLIENTS = 20
UPLOADS = 200 if IS_SOAK else 40
ALL_DONE_SECONDS = 300.0
HEIGHT = 120


@dataclass
class Deployed(Service):
    """The service as it is started for strangers: no development mode, a secret of its own."""

    def _read_announcement(self) -> None:
        line = self.process.stdout.readline()
        assert line.startswith("Image Processor on http://"), line + "".join(self.log)
        self.url = line.split()[3]
        self.token = token_of("somebody")


def token_of(user: str) -> str:
    return jwt.encode({"sub": user, "exp": int(time.time()) + 3600}, SECRET, "HS256")


@dataclass
class Site:
    """The whole of it."""

    folder: Path
    service: Service
    nginx: NginxServer
    flower_port: int = field(default_factory=free_port)
    processes: dict[str, subprocess.Popen] = field(default_factory=dict)

    def start(self) -> None:
        for name in ("worker", "flower"):
            self.run(name)
        self.service.start()
        self.nginx.upstream_port = int(self.service.url.rpartition(":")[2])
        self.nginx.start()

    def run(self, name: str, *arguments: str, called: str = "") -> None:
        """Start what the compose file starts under this name, with further arguments."""
        command = compose.development()["services"][name]["command"]
        command = command.replace(
            "--address=0.0.0.0 --port=5555", f"--address=127.0.0.1 --port={self.flower_port}"
        )
        with (self.folder / f"{called or name}.log").open("wb") as log:
            self.processes[called or name] = subprocess.Popen(
                [sys.executable, "-m", *shlex.split(command), *arguments],
                cwd=self.folder,
                env=self.environment(name),
                stdout=log,
                stderr=log,
            )

    def environment(self, name: str) -> dict[str, str]:
        own = {"FLOWER_BASIC_AUTH": ":".join(FLOWER_LOGIN)} if name == "flower" else {}
        return self.service.whole_environment | own

    def stop(self) -> None:
        self.nginx.stop()
        self.service.stop()
        for process in self.processes.values():
            process.kill()
            process.wait()

    def client(self, **headers: str) -> httpx.Client:
        """A client that sees nothing but nginx."""
        return httpx.Client(base_url=self.nginx.url, verify=self.nginx.tls(), headers=headers, timeout=60)

    @contextmanager
    def second_worker(self) -> Iterator[str]:
        """Another worker beside the one that always runs; its name."""
        self.run("worker", "--hostname", "second@%h", called="second")
        try:
            yield f"second@{socket.gethostname()}"
        finally:
            self.processes["second"].terminate()
            assert self.processes["second"].wait(PATIENCE_SECONDS) == 0, self.log("second")

    def flower(self, path: str) -> Any:
        """What its interface for programs answers to whoever knows the password; nothing while it starts."""
        url = f"http://127.0.0.1:{self.flower_port}/api/{path}"
        try:
            answer = httpx.get(url, auth=FLOWER_LOGIN, timeout=30)
        except httpx.TransportError:
            return {}
        assert answer.status_code == 200, self.log("flower")
        return answer.json()

    @property
    def authorization(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.service.token}"}

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()


@pytest.fixture(scope="module")
def site(tmp_path_factory, postgres, valkey, s3) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    valkey.start()
    s3.start()
    database = postgres.new_database()
    environment = {
        "JWT_SECRET_KEY": SECRET,
        "DATABASE_URL": database,
        "QUEUE_BACKEND": "celery",
        "QUEUE_NAMESPACE": folder.name,
        "REDIS_URL": valkey.url,
        "STORAGE_BACKEND": "s3",
        "S3_BUCKET": s3.new_bucket(),
        "S3_ENDPOINT_URL": s3.url,
        "S3_ADDRESSING_STYLE": "path",
        "AWS_REGION": REGION,
        "AWS_ACCESS_KEY_ID": OWNER["aws_access_key_id"],
        "AWS_SECRET_ACCESS_KEY": OWNER["aws_secret_access_key"],
        "WORKERS": "2",
    }
    service = Deployed(folder, environment, ("--port", "0"))
    nginx = NginxServer(folder / "nginx", 0, changes={"rate=10r/s": "rate=1000r/s"})
    site = Site(folder, service, nginx)
    try:
        site.start()
        yield site
    finally:
        site.stop()
        postgres.drop_database(database)


@pytest.fixture
def client(site) -> Iterator[httpx.Client]:
    with site.client(**site.authorization) as client:
        yield client


def test_an_upload_through_nginx_becomes_variants_in_s3(site, client):
    accepted = upload(client, sample_images.photo(1600, 1200))
    assert accepted.status_code == 202, accepted.text
    assert accepted.json()["status_url"].startswith("/api/v1/images/jobs/")
    result = wait_for_result(client, accepted.json()["job_id"])
    assert result.status_code == 200, result.text + site.log("worker")
    for variant, path in result.json()["urls"].items():
        with site.client() as stranger:
            file = stranger.get(path)
        assert file.status_code == 200, variant
        assert file.headers["content-type"] == "image/webp"
        assert file.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert file.headers.get_list("x-content-type-options") == ["nosniff"]
        assert "sandbox" in file.headers["content-security-policy"]


def test_events_come_through_nginx_while_the_job_waits(site, client):
    worker = site.processes["worker"]
    worker.send_signal(signal.SIGSTOP)
    try:
        job_id = upload(client, sample_images.photo(801, 600)).json()["job_id"]
        with client.stream("GET", f"/api/v1/images/jobs/{job_id}/events") as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            lines = stream.iter_lines()
            assert next(line for line in lines if line.startswith("event:")) == "event: progress"
            worker.send_signal(signal.SIGCONT)
            events = [line for line in lines if line.startswith("event:")]
    finally:
        worker.send_signal(signal.SIGCONT)
    assert events[-1] == "event: completed"


def test_a_refusal_in_the_middle_of_an_upload_reaches_the_client(site, client):
    """Ten of each, as a reset connection would lose some of them only."""
    with site.client() as stranger:
        for _ in range(10):
            assert upload(stranger, NOT_AN_IMAGE).status_code == 401
            assert upload(client, NOT_AN_IMAGE).status_code == 415
            assert upload(client, NOT_AN_IMAGE + bytes(1_700_000)).status_code == 413


def test_what_is_too_long_for_nginx_is_refused_in_the_words_of_the_service(client):
    answer = upload(client, bytes(12_000_000))
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "file_too_large"


def test_many_at_once_may_be_longer(client):
    files = [("files", (f"{number}.png", sample_images.photo(80 + number, 60))) for number in range(2)]
    padding = ("files", ("x.jpg", NOT_AN_IMAGE))
    answer = client.post("/api/v1/images/batch", files=[*files, padding, padding], data={"bucket": "tests"})
    assert answer.status_code == 207, answer.text
    assert (answer.json()["accepted"], answer.json()["refused"]) == (2, 2)


def test_the_health_check_of_the_image_tells_who_answers(site, client):
    assert client.get("/api/v1/health").json()["status"] == "healthy"
    port = site.service.url.rpartition(":")[2]
    assert _check(port).returncode == 0
    assert _check(port, "/api/v1/images/nothing").returncode == 1
    assert _check(str(free_port())).returncode == 1


def _check(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-I", str(compose.ROOT / "deploy" / "healthcheck.py"), *arguments]
    return subprocess.run(command, capture_output=True, check=False, timeout=30)


def test_the_health_check_of_the_worker_finds_it(site):
    words = compose.development()["services"]["worker"]["healthcheck"]["test"].replace("$$", "$")
    environment = site.environment("worker") | {"HOSTNAME": socket.gethostname()}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    done = subprocess.run(
        ["sh", "-c", words], cwd=site.folder, env=environment, capture_output=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert b"pong" in done.stdout


def test_flower_shows_the_worker_to_those_who_know_its_password(site):
    url = f"http://127.0.0.1:{site.flower_port}"
    ends_at = time.monotonic() + PATIENCE_SECONDS
    while _check(str(site.flower_port), "/healthcheck").returncode and time.monotonic() < ends_at:
        time.sleep(0.1)
    assert httpx.get(f"{url}/api/workers").status_code == 401
    workers = httpx.get(f"{url}/api/workers?refresh=true", auth=FLOWER_LOGIN, timeout=30)
    assert workers.status_code == 200, site.log("flower")
    assert f"celery@{socket.gethostname()}" in workers.json()


@dataclass
class Fleet:
    """Clients at work at the same time, each in the name of another user."""

    site: Site
    start: threading.Barrier = field(default_factory=lambda: threading.Barrier(CLIENTS))
    upload_seconds: list[float] = field(default_factory=list)
    job_ids: list[str] = field(default_factory=list)

    def run_all(self) -> None:
        with ThreadPoolExecutor(CLIENTS) as threads:
            for done in [threads.submit(self.run, number) for number in range(CLIENTS)]:
                done.result()

    def run(self, number: int) -> None:
        """Upload, wait for all results, and look at the files of the last one."""
        widths = range(160 + number, 160 + UPLOADS, CLIENTS)
        pictures = {width: sample_images.photo(width, HEIGHT) for width in widths}
        with (
            self.site.client() as http,
            ImageProcessorClient(
                self.site.nginx.url, token_of(f"client {number}"), http_client=http
            ) as client,
        ):
            self.start.wait(PATIENCE_SECONDS)
            job_ids = {width: self.upload(client, picture) for width, picture in pictures.items()}
            for width, job_id in job_ids.items():
                result = client.wait(job_id, timeout=ALL_DONE_SECONDS)
                original = result.metadata.original_dimensions
                assert (original.width, original.height) == (width, HEIGHT), "it is somebody else's"
            check_files(http, result, width)

    def upload(self, client: ImageProcessorClient, picture: bytes) -> str:
        started = time.perf_counter()
        job_id = client.upload(picture, bucket="fleet").job_id
        self.upload_seconds.append(time.perf_counter() - started)
        self.job_ids.append(job_id)
        return job_id


def check_files(http: httpx.Client, result: Result, width: int) -> None:
    """Each variant is there for everybody, is a whole picture, and has the size that its name promises."""
    assert set(result.urls) == {"thumbnail", "medium", "large", "original"}
    for name, url in result.urls.items():
        file = http.get(urljoin(str(http.base_url), url))
        assert file.status_code == 200, name
        picture = Image.open(io.BytesIO(file.content))
        picture.load()
        assert picture.format == "WEBP"
        expected = (150, round(150 * HEIGHT / width)) if name == "thumbnail" else (width, HEIGHT)
        assert picture.size == expected, name


def test_many_clients_at_once_get_all_they_asked_for_and_flower_shows_it(site):
    fleet = Fleet(site)
    with site.second_worker() as second:
        workers = {f"celery@{socket.gethostname()}", second}
        wait_for(lambda: site.flower("workers?status=true") == dict.fromkeys(workers, True), "both workers")
        started = time.perf_counter()
        fleet.run_all()
        seconds = time.perf_counter() - started
        wait_for(lambda: len(succeeded(site, fleet)) == UPLOADS, "Flower to show all")
        shown = Counter(task["worker"] for task in succeeded(site, fleet))
        assert set(shown) == workers
    assert len(set(fleet.job_ids)) == UPLOADS
    times = sorted(fleet.upload_seconds)
    print(
        f"\n{UPLOADS} pictures of {CLIENTS} clients in {seconds:.1f} s, {UPLOADS / seconds:.1f}/s; an upload "
        f"{statistics.median(times) * 1000:.0f} ms, p99 {times[int(len(times) * 0.99)] * 1000:.0f} ms; "
        f"Flower: {dict(shown)}"
    )


def succeeded(site: Site, fleet: Fleet) -> list[dict[str, Any]]:
    """The tasks of the fleet that Flower knows to have succeeded; a task has the id of its job."""
    tasks = site.flower("tasks?state=SUCCESS")
    return [tasks[job_id] for job_id in fleet.job_ids if job_id in tasks]


def wait_for(is_so, what: str) -> None:
    ends_at = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert time.monotonic() < ends_at, f"waited for {what}"
        time.sleep(0.1)


def test_no_secret_is_in_any_log(site):
    logs = "".join(
        [*site.service.log, *map(site.log, site.processes), *map(site.nginx.log, ("access", "error"))]
    )
    assert SECRET not in logs
    assert OWNER["aws_secret_access_key"] not in logs
    assert site.service.token not in logs


def test_a_stopped_worker_ends_in_order(site):
    worker = site.processes["worker"]
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(PATIENCE_SECONDS) == 0, site.log("worker")
