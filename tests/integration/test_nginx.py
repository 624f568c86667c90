"""nginx with the configuration that we ship, alone: what it refuses, and what it reads from the disk."""

import os
import socket
import time
from collections.abc import Iterator

import httpx
import pytest

from image_processor.api.app import create_app
from image_processor.api.routes.batch import MAX_FILES
from image_processor.bootstrap import build_app
from image_processor.settings import Settings, load_settings
from image_processor.storage.local import CONTENT_TYPES
from image_processor.testing import sample_images
from integration.api.front import SECRET, InProcess
from nginx_server import SHIPPED, NginxServer, needs_nginx
from valkey_server import free_port

pytestmark = needs_nginx

KEY = "tests/processed/medium/a_medium.webp"
OF_EACH_ANSWER = {"date", "etag", "last-modified", "connection", "vary", "content-length", "x-request-id"}
OF_NGINX = {"server", "strict-transport-security"}


@pytest.fixture(scope="module")
def storage(tmp_path_factory):
    """A service of this process over a folder with one variant in it, and with what nobody may see."""
    folder = tmp_path_factory.mktemp("data")
    app = build_app(load_settings(data_path=folder, jwt_secret_key=SECRET))
    picture = folder / "picture"
    picture.write_bytes(sample_images.photo(64, 48))
    app.storage.put(KEY, picture, content_type="image/webp")
    for name in (".incoming/half", "INCOMING/staged", "tests/.hidden.webp", "tests/page.svg"):
        hidden = folder / "storage" / name
        hidden.parent.mkdir(exist_ok=True)
        hidden.write_text("<script>alert(1)</script>")
    (folder / "storage" / "link.webp").symlink_to("/etc/passwd")
    yield app
    app.close()


@pytest.fixture(scope="module")
def nginx(tmp_path_factory, storage) -> Iterator[NginxServer]:
    """Nobody listens behind it: what it passes on comes back as 503."""
    server = NginxServer(
        tmp_path_factory.mktemp("nginx"),
        free_port(),
        data=storage.settings.data_path,
        changes={"rate=50r/s": "rate=1r/s"},
    )
    server.start()
    for folder in (server.folder, storage.settings.data_path):  # its workers are another user than root
        _open_to_others(folder)
    yield server
    server.stop()


def _open_to_others(folder) -> None:
    if os.geteuid() == 0:
        for above in (folder, *folder.parents):
            if not above.stat().st_mode & 0o001:
                above.chmod(above.stat().st_mode | 0o011)


@pytest.fixture
def client(nginx) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=nginx.url, verify=nginx.tls(), timeout=20) as client:
        yield client


def test_the_configuration_is_one(nginx):
    assert "test is successful" in nginx.check()
    assert "warn" not in nginx.check()


def test_a_variant_from_the_disk_has_the_headers_of_the_service(client, storage):
    ours = InProcess(create_app(storage)).handle_request(
        httpx.Request("GET", f"http://localhost/storage/{KEY}")
    )
    theirs = client.get(f"/storage/{KEY}")
    assert theirs.status_code == ours.status_code == 200
    assert theirs.content == ours.content
    assert _told(theirs) == _told(ours)


def _told(answer: httpx.Response) -> dict[str, str]:
    kept = ((name, value) for name, value in answer.headers.items() if name not in OF_EACH_ANSWER | OF_NGINX)
    return dict(kept)


def test_a_variant_from_the_disk_comes_in_part_or_not_at_all_if_it_is_known(client):
    part = client.get(f"/storage/{KEY}", headers={"Range": "bytes=0-9"})
    assert (part.status_code, len(part.content)) == (206, 10)
    known = client.get(f"/storage/{KEY}", headers={"If-None-Match": part.headers["etag"]})
    assert known.status_code == 304
    assert "immutable" in known.headers["cache-control"]


@pytest.mark.parametrize(
    "path",
    [
        ".incoming/half",
        "INCOMING/staged",
        "tests/.hidden.webp",
        "link.webp",
        "tests/processed/",
        "missing.webp",
    ],
)
def test_what_is_no_variant_is_left_to_the_service(client, path):
    answer = client.get(f"/storage/{path}")
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "unavailable"


@pytest.mark.parametrize(
    "path", ["/storage/../processor.db", "/storage/..%2fprocessor.db", "/storage/%2e%2e/processor.db"]
)
def test_no_path_leads_out_of_the_storage(nginx, path):
    answer = _raw(nginx, f"GET {path} HTTP/1.1")
    assert b"SQLite" not in answer
    assert b" 200 " not in answer.splitlines()[0]


def _raw(nginx: NginxServer, line: str) -> bytes:
    """The beginning of the answer to a request that no client would send so."""
    with (
        socket.create_connection(("127.0.0.1", nginx.https_port), 10) as plain,
        nginx.tls().wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        connection.sendall(f"{line}\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        return connection.recv(4096)


def test_a_drawing_is_for_downloading(client):
    answer = client.get("/storage/tests/page.svg")
    assert answer.headers["content-type"] == "application/octet-stream"
    assert "sandbox" in answer.headers["content-security-policy"]


def test_every_type_that_is_stored_has_its_word_in_the_configuration():
    words = dict.fromkeys(CONTENT_TYPES.values(), "")
    for line in (SHIPPED / "storage.conf").read_text().splitlines():
        media_type, *extensions = line.strip(" ;").split()[:3] or [""]
        if media_type in words:
            words[media_type] = extensions
    assert {f".{extension}" for extensions in words.values() for extension in extensions} == set(
        CONTENT_TYPES
    )


def test_a_stranger_who_asks_too_often_is_told_so_in_our_words(client):
    answers = [client.get("/api/v1/health") for _ in range(110)]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert {answer.status_code for answer in answers} == {503, 429}
    assert refused[0].json()["error"]["code"] == "rate_limited"
    assert refused[0].headers["retry-after"] == "1"


@pytest.mark.parametrize("path", ["/api/v1/images/upload", "/images/upload", "/api/v1/images/batch", "/jobs"])
def test_a_body_that_is_too_long_is_refused_before_the_service_hears_of_it(nginx, path):
    answer = _raw(nginx, f"POST {path} HTTP/1.1\r\nContent-Length: {300 * 1024 * 1024}")
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'{"error":{"code":"file_too_large"' in answer


def test_the_limits_of_bodies_fit_those_of_the_service():
    text = (SHIPPED / "image-processor.conf").read_text()
    most = int(Settings.model_fields["max_upload_size_mb"].default)
    assert f"client_max_body_size {most + 1}m;" in text
    assert f"client_max_body_size {MAX_FILES * most + 1}m;" in text


def test_plain_http_leads_to_https(nginx):
    answer = httpx.get(f"http://127.0.0.1:{nginx.http_port}/docs?a=b", follow_redirects=False)
    assert answer.status_code == 308
    assert answer.headers["location"] == "https://localhost/docs?a=b"


def test_nginx_keeps_its_version_and_signed_queries_to_itself(nginx, client):
    answer = client.put("/api/v1/images/uploads/x/content?signature=secret", content=b"x")
    assert answer.headers["server"] == "nginx"
    ends_at = time.monotonic() + 20
    while '/api/v1/images/uploads/x/content HTTP/1.1" 503' not in nginx.log("access"):
        assert time.monotonic() < ends_at
        time.sleep(0.02)  # it is written after the answer was sent
    assert "secret" not in nginx.log("access")
