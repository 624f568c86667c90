"""What a stranger might send over HTTP: a clear answer, never a 500, and nothing left on disk."""

import json
import socket
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import jwt
import pytest

from image_processor.testing import sample_images
from running_service import Service, upload, wait_for_result

pytestmark = pytest.mark.slow

SECRET = "a secret of the hostile tests, long enough"
MAX_MB = 1
UNKNOWN = "00000000-0000-4000-8000-000000000000"


@pytest.fixture(scope="module")
def service(tmp_path_factory) -> Iterator[Service]:
    environment = {"JWT_SECRET_KEY": SECRET, "MAX_UPLOAD_SIZE_MB": str(MAX_MB), "MAX_MEGAPIXELS": "4"}
    service = Service(tmp_path_factory.mktemp("hostile"), environment=environment)
    service.start()
    yield service
    service.stop()


@pytest.fixture(autouse=True)
def _leaves_nothing_behind(service) -> Iterator[None]:
    logged = len(service.log)
    yield
    service.wait_for(lambda: not service.staged(), "an empty stage")
    failures = [line for line in service.log[logged:] if "Traceback" in line or "internal_error" in line]
    assert failures == []


@pytest.fixture
def client(service) -> Iterator[httpx.Client]:
    with service.client() as client:
        yield client


def _assert_refused(answer: httpx.Response, status: int, code: str) -> dict:
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"code", "message", "details"}
    assert body["error"]["code"] == code
    assert body["error"]["message"].endswith(".")
    return body["error"]


def _token(claims: dict, key: str = SECRET, algorithm: str = "HS256") -> str:
    return jwt.encode(claims, key, algorithm=algorithm)


ENDPOINTS = [
    ("POST", "/api/v1/images/upload"),
    ("GET", f"/api/v1/images/jobs/{UNKNOWN}"),
    ("GET", f"/api/v1/images/jobs/{UNKNOWN}/result"),
    ("GET", f"/api/v1/images/{UNKNOWN}"),
    ("GET", f"/api/v1/images/{UNKNOWN}/all"),
    ("GET", f"/api/v1/images/{UNKNOWN}/direct"),
    ("GET", f"/api/v1/images/batch?image_ids={UNKNOWN}"),
    ("DELETE", f"/api/v1/images/{UNKNOWN}"),
    ("GET", "/api/v1/health/stats"),
    ("GET", "/api/v1/health/failed"),
    ("GET", "/api/v1/images"),
    ("POST", "/api/v1/images/batch"),
    ("POST", "/api/v1/images/uploads"),
    ("GET", f"/api/v1/images/uploads/{UNKNOWN}"),
    ("POST", f"/api/v1/images/uploads/{UNKNOWN}/complete"),
    ("POST", "/images/upload"),
    ("GET", f"/images/{UNKNOWN}"),
]

BAD_TOKENS = {
    "none": None,
    "not bearer": "Basic dXNlcjpwYXNz",
    "empty": "Bearer",
    "rubbish": "Bearer rubbish",
    "wrong key": f"Bearer {_token({'sub': 'me'}, 'another secret, and as long as it has to be')}",
    "other algorithm": f"Bearer {_token({'sub': 'me'}, SECRET * 2, 'HS512')}",
    "alg none": "Bearer " + jwt.encode({"sub": "me"}, None, algorithm="none"),
    "expired": f"Bearer {_token({'sub': 'me', 'exp': 1})}",
    "no sub": f"Bearer {_token({'name': 'me'})}",
    "number as sub": f"Bearer {jwt.api_jws.encode(json.dumps({'sub': 7}).encode(), SECRET)}",
    "empty sub": f"Bearer {_token({'sub': ''})}",
    "endless sub": f"Bearer {_token({'sub': 'x' * 5000})}",
}


@pytest.mark.parametrize(("method", "path"), ENDPOINTS)
def test_no_token_or_a_bad_one_is_401(service, method, path):
    with httpx.Client(base_url=service.url) as stranger:
        for token in BAD_TOKENS.values():
            headers = {} if token is None else {"Authorization": token}
            answer = stranger.request(method, path, headers=headers)
            _assert_refused(answer, 401, "not_authenticated")
            assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    ("method", "path"), [e for e in ENDPOINTS if UNKNOWN in e[1] and "batch" not in e[1]]
)
def test_an_unknown_id_is_404(client, method, path):
    _assert_refused(client.request(method, path), 404, "not_found")


def test_somebody_elses_ids_are_404_and_stay_untouched(client, service):
    accepted = upload(client, sample_images.photo()).json()
    wait_for_result(client, accepted["job_id"]).raise_for_status()
    stranger = {"Authorization": f"Bearer {_token({'sub': 'stranger'})}"}
    with httpx.Client(base_url=service.url, headers=stranger) as other:
        for method, path in ENDPOINTS:
            if UNKNOWN in path and "batch" not in path:
                owned = accepted["job_id"] if "/jobs/" in path else accepted["image_id"]
                _assert_refused(other.request(method, path.replace(UNKNOWN, owned)), 404, "not_found")
        batch = other.get("/api/v1/images/batch", params={"image_ids": accepted["image_id"]}).json()
        assert batch == {"images": [], "not_found": [accepted["image_id"]]}
    assert client.get(f"/api/v1/images/{accepted['image_id']}").status_code == 200


NOT_ACCEPTED = {
    "text": b"just some words, and a few more so that it is long enough to look at",
    "a program": b"\x7fELF\x02\x01\x01" + bytes(200),
    "html": b"<!doctype html><script>alert(1)</script>" * 10,
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>' * 4,
    "pdf": b"%PDF-1.7\n" + b"1 0 obj\n" * 40,
    "zip": b"PK\x03\x04" + bytes(200),
    "gif, an image of another type": b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff;"
    + bytes(100),
    "one byte": b"\xff",
    "zeros": bytes(5000),
}


@pytest.mark.parametrize("content", NOT_ACCEPTED.values(), ids=NOT_ACCEPTED.keys())
def test_what_is_no_accepted_image_is_415_and_names_those_that_are(client, content):
    disguise = {"file": ("photo.jpg", content, "image/jpeg")}
    answer = client.post("/api/v1/images/upload", files=disguise, data={"bucket": "tests"})
    error = _assert_refused(answer, 415, "unsupported_format")
    assert "JPEG, PNG, WebP" in error["message"]
    assert error["details"]["accepted"] == ["image/jpeg", "image/png", "image/webp"]


def test_the_bytes_decide_and_not_the_name(client):
    disguise = {"file": ("notes.txt", sample_images.photo(), "text/plain")}
    answer = client.post("/api/v1/images/upload", files=disguise, data={"bucket": "tests"})
    assert answer.status_code == 202
    wait_for_result(client, answer.json()["job_id"]).raise_for_status()


BAD_BUCKETS = [
    "",
    "a",
    "A-Bucket",
    "../etc",
    "a/b",
    "a..b",
    ".hidden",
    "-dash",
    "x" * 64,
    "bücket",
    "a b",
    "a\x00b",
]


@pytest.mark.parametrize("bucket", BAD_BUCKETS)
def test_a_bad_bucket_is_422(client, bucket):
    _assert_refused(upload(client, sample_images.photo(), bucket=bucket), 422, "invalid_request")


def test_no_bucket_is_422(client):
    answer = client.post("/api/v1/images/upload", files={"file": sample_images.photo()})
    _assert_refused(answer, 422, "invalid_request")


BAD_METADATA = {
    "no json": "{",
    "a list": "[1, 2]",
    "a number": "7",
    "a text": '"words"',
    "null": "null",
    "not a number": '{"a": NaN}',
    "endless nesting": '{"a": ' + "[" * 8000 + "]" * 8000 + "}",
    "half a surrogate": r'{"a": "\ud800"}',
    "too long": json.dumps({"a": "x" * 20_000}),
    "an endless number": '{"a": ' + "9" * 10_000 + "}",
}


@pytest.mark.parametrize("metadata", BAD_METADATA.values(), ids=BAD_METADATA.keys())
def test_metadata_that_is_no_json_object_is_422(client, metadata):
    _assert_refused(upload(client, sample_images.photo(), metadata=metadata), 422, "invalid_request")


def test_an_unknown_preset_is_422_and_names_those_there_are(client):
    error = _assert_refused(upload(client, sample_images.photo(), preset="nope"), 422, "invalid_request")
    assert "web" in error["message"]


def test_a_declared_length_over_the_limit_is_413_before_the_body_is_sent(service):
    answer = _raw(
        service,
        b"POST /api/v1/images/upload HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "
        + service.token.encode()
        + b"\r\n"
        b"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 99999999999\r\n\r\n",
    )
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'"file_too_large"' in answer


def test_a_body_without_a_length_is_cut_off_while_it_streams(client):
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n\r\n'
        yield sample_images.photo()
        for _ in range(200):
            sent += 1
            yield bytes(1024 * 1024)

    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    answer = client.post("/api/v1/images/upload", content=endless(), headers=headers)
    _assert_refused(answer, 413, "file_too_large")
    assert sent < 100


def test_a_body_shorter_than_it_says_leaves_nothing_behind(service):
    body = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + sample_images.photo()
    head = (
        b"POST /api/v1/images/upload HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "
        + service.token.encode()
        + b"\r\n"
        b"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: "
        + str(len(body) + 1000).encode()
        + b"\r\n\r\n"
    )
    with socket.create_connection(_address(service)) as connection:
        connection.sendall(head + body)
        service.wait_for(lambda: len(service.staged()) == 1, "the upload to be staged")


FORMS = {
    "no multipart": ("application/json", b"{}"),
    "no boundary": ("multipart/form-data", b"--b\r\n"),
    "no closing boundary": (
        "multipart/form-data; boundary=b",
        b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\nx',
    ),
    "rubbish": ("multipart/form-data; boundary=b", b"rubbish" * 100),
    "nothing": ("multipart/form-data; boundary=b", b""),
    "no file": (
        "multipart/form-data; boundary=b",
        b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\ny\r\n--b--\r\n',
    ),
    "an empty file": (
        "multipart/form-data; boundary=b",
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n\r\n--b--\r\n',
    ),
    "two files": (
        "multipart/form-data; boundary=b",
        b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\n'
        + sample_images.photo()
        + b'\r\n--b\r\nContent-Disposition: form-data; name="file"\r\n\r\n'
        + sample_images.photo()
        + b"\r\n--b--\r\n",
    ),
    "many parts": (
        "multipart/form-data; boundary=b",
        b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\ny\r\n' * 1000 + b"--b--\r\n",
    ),
    "endless headers": ("multipart/form-data; boundary=b", b"--b\r\n" + b"X-Header: y\r\n" * 20_000),
    "a field that is no text": (
        "multipart/form-data; boundary=b",
        b'--b\r\nContent-Disposition: form-data; name="bucket"\r\n\r\n\xff\xfe\r\n--b--\r\n',
    ),
    "a long field": (
        "multipart/form-data; boundary=b",
        b'--b\r\nContent-Disposition: form-data; name="bucket"\r\n\r\n' + b"x" * 100_000 + b"\r\n--b--\r\n",
    ),
    "a long boundary": ("multipart/form-data; boundary=" + "b" * 5000, b"--b\r\n"),
}


@pytest.mark.parametrize(("content_type", "body"), FORMS.values(), ids=FORMS.keys())
def test_a_malformed_form_is_422(client, content_type, body):
    answer = client.post("/api/v1/images/upload", content=body, headers={"Content-Type": content_type})
    _assert_refused(answer, 422, "invalid_request")


def test_too_many_pixels_are_422_from_the_header_alone(client):
    bomb = sample_images.png_header_only(width=30_000, height=30_000)
    error = _assert_refused(upload(client, bomb), 422, "image_too_large")
    assert "megapixels" in error["message"]


def test_a_header_that_shows_the_damage_is_422_at_upload(client):
    _assert_refused(upload(client, sample_images.png_with_alpha()[:-40]), 422, "corrupt_image")


def test_a_damaged_picture_fails_with_a_sentence_and_leaves_nothing(client, service):
    accepted = upload(client, sample_images.truncated_jpeg())
    assert accepted.status_code == 202
    job_id = accepted.json()["job_id"]
    error = _assert_refused(wait_for_result(client, job_id), 422, "job_failed")
    status = client.get(f"/api/v1/images/jobs/{job_id}").json()
    assert (status["status"], status["error_code"], status["attempts"]) == ("failed", "corrupt_image", 1)
    assert status["error"] == error["message"]
    assert "vips" not in error["message"].lower()
    listed = client.get("/api/v1/health/failed").json()
    assert job_id in [job["job_id"] for job in listed["failed_jobs"]]
    image_id = accepted.json()["image_id"]
    _assert_refused(client.get(f"/api/v1/images/{image_id}"), 422, "job_failed")
    stored = [path for path in (service.folder / "data" / "storage").rglob("*") if image_id in path.name]
    assert stored == []


def test_a_result_that_is_not_ready_is_409(start_service):
    service = start_service(arguments=("--dev", "--port", "0", "--workers", "1"))
    with service.client() as client:
        first = [upload(client, sample_images.photo(width=3000, height=2000)).json() for _ in range(3)][-1]
        answer = client.get(f"/api/v1/images/jobs/{first['job_id']}/result")
        _assert_refused(answer, 409, "result_not_ready")
        _assert_refused(client.get(f"/api/v1/images/{first['image_id']}"), 409, "result_not_ready")
        wait_for_result(client, first["job_id"]).raise_for_status()


def test_the_rate_limit_is_429_with_its_headers(start_service):
    service = start_service(environment={"RATE_LIMIT_MAX_UPLOADS": "2"})
    with service.client() as client:
        accepted = [upload(client, sample_images.photo()) for _ in range(2)]
        assert [answer.headers["x-ratelimit-remaining"] for answer in accepted] == ["1", "0"]
        refused = upload(client, sample_images.photo())
        _assert_refused(refused, 429, "rate_limited")
        assert refused.headers["x-ratelimit-limit"] == "2"
        assert refused.headers["x-ratelimit-remaining"] == "0"
        assert refused.headers["x-ratelimit-reset"] == accepted[0].headers["x-ratelimit-reset"]
        assert 0 < int(refused.headers["retry-after"]) <= 3600


def test_a_disk_that_is_nearly_full_is_507(start_service):
    service = start_service(environment={"MIN_FREE_DISK_MB": str(10**9)}, is_healthy=False)
    with service.client() as client:
        answer = upload(client, sample_images.photo())
        _assert_refused(answer, 507, "storage_full")
        assert answer.headers["retry-after"]
        assert client.get("/api/v1/health").status_code == 503


TRAVERSALS = [
    "/storage/../processor.db",
    "/storage/%2e%2e/processor.db",
    "/storage/..%2fprocessor.db",
    "/storage/%2e%2e%2fdevelopment-secret",
    "/storage//etc/passwd",
    "/storage/%2fetc/passwd",
    "/storage/a/%00",
    "/storage/a%5c..%5cb",
    "/storage/.incoming",
    "/storage/",
    "/storage/tests",
    "/storage/" + "a/" * 3000,
    "/storage/%ff%fe",
]


@pytest.mark.parametrize("path", TRAVERSALS)
def test_no_address_leads_out_of_the_storage(service, path):
    answer = _raw(service, f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    assert answer.startswith((b"HTTP/1.1 404 ", b"HTTP/1.1 307 ")), answer[:200]


def test_unknown_paths_and_methods_have_the_same_body(client):
    _assert_refused(client.get("/nowhere"), 404, "not_found")
    _assert_refused(client.put("/api/v1/images/upload"), 405, "method_not_allowed")


BAD_QUERIES = [
    f"/api/v1/images/{UNKNOWN}?size={'x' * 100}",
    "/api/v1/images/batch",
    "/api/v1/images/batch?image_ids=",
    "/api/v1/images/batch?image_ids=" + ",".join(f"id{number}" for number in range(51)),
    "/api/v1/images/batch?image_ids=" + "x" * 20_000,
    "/api/v1/health/failed?limit=0",
    "/api/v1/health/failed?limit=many",
    "/api/v1/health/failed?limit=999999999999999999999",
]


@pytest.mark.parametrize("path", BAD_QUERIES)
def test_a_bad_query_is_422(client, path):
    _assert_refused(client.get(path), 422, "invalid_request")


def test_an_upload_that_never_ends_is_refused_in_time(start_service):
    service = start_service(environment={"UPLOAD_TIMEOUT_SECONDS": "1"})
    head = (
        b"POST /api/v1/images/upload HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "
        + service.token.encode()
        + b"\r\n"
        b"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 5000\r\n\r\n--b\r\n"
    )
    started = time.monotonic()
    with socket.create_connection(_address(service)) as connection:
        connection.sendall(head)
        answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert time.monotonic() - started < 10
    assert service.staged() == []


def _address(service: Service) -> tuple[str, int]:
    parts = urlsplit(service.url)
    return parts.hostname, parts.port


def _raw(service: Service, request: bytes) -> bytes:
    """All that the service says until it ends the connection."""
    with socket.create_connection(_address(service), timeout=10) as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(65536), b""))
