"""Every line of curl that the seeds print, as it is printed, and thumbnails, on one real service."""

import io
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from PIL import Image

from image_processor.testing import sample_images
from running_service import Service, upload, wait_for_result

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("curl") is None, reason="the lines are curl's"),
]

HEALTH = "curl http://localhost:8000/api/v1/health"
STATS = "curl http://localhost:8000/api/v1/health/stats"
UPLOAD = r"""
curl -X POST http://localhost:8000/api/v1/images/upload \
  -H "Authorization: Bearer $TEST_TOKEN" \
  -F "file=@test-photo.jpg" \
  -F "bucket=test-uploads" \
  -F "metadata={\"context\":\"test_upload\"}"
"""
STATUS = "curl http://localhost:8000/api/v1/images/jobs/abc-123..."
RESULT = "curl http://localhost:8000/api/v1/images/jobs/abc-123.../result"
SUBMIT = """
curl -X POST http://localhost:8000/jobs \\
  -H "Content-Type: application/json" \\
  -d '{
    "input": "s3://bucket/input.jpg",
    "operations": [{"op": "resize", "width": 800}],
    "output": "s3://bucket/output.jpg"
  }'
"""
JOB = "curl http://localhost:8000/jobs/abc-123"
FAILED = "curl http://localhost:8000/jobs/failed"
RETRY = "curl -X POST http://localhost:8000/jobs/def-456/retry"

SHELL = r"""
curl() {
  command curl --silent --show-error --write-out '\n%{http_code}' "${@//http:\/\/localhost:8000/$URL}"
}
"""
"""The lines say where the service would be; this one is on a free port."""
SIZES = {"small": 150, "medium": 400, "large": 800}
PATIENCE_SECONDS = 15
"""For what is promised in five, on a machine that may be busy with other tests."""


@pytest.fixture(scope="module")
def service(tmp_path_factory, s3) -> Iterator[Service]:
    s3.client().create_bucket(Bucket="bucket")
    s3.client().put_object(Bucket="bucket", Key="input.jpg", Body=sample_images.photo(1600, 1200))
    folder = tmp_path_factory.mktemp("service")
    (folder / "test-photo.jpg").write_bytes(sample_images.photo(3024, 4032))
    environment = {
        "AUTH_REQUIRED": "false",
        "S3_JOB_BUCKETS": "bucket",
        "S3_ENDPOINT_URL": s3.url,
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "owner-key",
        "AWS_SECRET_ACCESS_KEY": "owner-secret",
        "RATE_LIMIT_MAX_UPLOADS": "1000",
    }
    service = Service(folder, environment)
    service.start()
    yield service
    service.stop()


@pytest.fixture
def client(service) -> Iterator[httpx.Client]:
    with service.client() as client:
        yield client


@pytest.fixture
def run(service):
    """What a line of the documents answers: status and body."""

    def run(line: str, **ids: str) -> tuple[int, object]:
        for printed, real in ids.items():
            line = re.sub(rf"{printed.replace('_', '-')}(\.\.\.)?", real, line)
        done = subprocess.run(
            ["bash", "-c", SHELL + line],
            cwd=service.folder,
            env={"PATH": os.environ["PATH"], "URL": service.url, "TEST_TOKEN": service.token},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        body, _, status = done.stdout.rpartition("\n")
        return int(status), json.loads(body)

    return run


def test_the_lines_of_the_service(service, run, client):
    status, health = run(HEALTH)
    assert (status, health["status"]) == (200, "healthy")
    assert client.get("/docs").status_code == 200

    status, accepted = run(UPLOAD)
    assert status == 202
    assert set(accepted) == {"job_id", "image_id", "status_url", "message"}
    job_id, image_id = accepted["job_id"], accepted["image_id"]
    assert accepted["status_url"] == f"/api/v1/images/jobs/{job_id}"

    service.wait_for(lambda: run(STATUS, abc_123=job_id)[1]["status"] == "completed", "the job")
    status, job = run(STATUS, abc_123=job_id)
    assert status == 200
    assert {"job_id", "image_id", "status", "created_at", "completed_at", "error", "attempts"} <= set(job)
    assert (job["error"], job["attempts"]) == (None, 1)

    status, result = run(RESULT, abc_123=job_id)
    assert (status, result["image_id"], result["status"]) == (200, image_id, "completed")
    assert result["urls"]["medium"] == f"/storage/test-uploads/processed/medium/{image_id}_medium.webp"
    assert set(result["metadata"]) == {"dominant_color", "original_dimensions", "variants"}
    assert result["metadata"]["original_dimensions"] == {"width": 3024, "height": 4032}
    thumbnail = result["metadata"]["variants"]["thumbnail"]
    assert thumbnail.pop("size_bytes") > 0
    assert thumbnail == {"width": 150, "height": 200, "aspect_ratio": 0.75, "format": "webp"}
    assert result["completed_at"] == job["completed_at"]

    status, statistics = run(STATS)
    assert status == 200
    assert set(statistics) == {"status_breakdown", "performance_24h", "storage", "celery"}
    assert {"completed", "pending", "processing", "failed"} <= set(statistics["status_breakdown"])
    assert set(statistics["performance_24h"]) == {"completed_24h", "avg_processing_time_seconds"}
    assert set(statistics["storage"]) == {"total_images", "total_jobs"}
    assert set(statistics["celery"]) == {"active_workers", "active_tasks"}


def test_an_upload_tells_the_limit(client):
    answer = upload(client, sample_images.photo())
    assert answer.headers["x-ratelimit-limit"] == "1000"
    assert 0 <= int(answer.headers["x-ratelimit-remaining"]) < 1000
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", answer.headers["x-ratelimit-reset"])


def test_what_is_printed_of_images(client, service):
    accepted = [upload(client, sample_images.photo(700 + number)).json() for number in range(3)]
    for job in accepted:
        wait_for_result(client, job["job_id"])
    ids = [job["image_id"] for job in accepted]
    image = f"/api/v1/images/{ids[0]}"

    medium = client.get(f"{image}?size=medium").json()
    assert (medium["image_id"], medium["size"], medium["width"]) == (ids[0], "medium", 600)
    everything = client.get(f"{image}/all").json()
    assert list(everything["urls"]) == ["thumbnail", "medium", "large", "original"]
    direct = client.get(f"{image}/direct?size=large")
    assert direct.headers["content-type"] == "image/webp"
    assert direct.content == client.get(everything["urls"]["large"]).content
    batch = client.get(f"/api/v1/images/batch?image_ids={','.join(ids)}&size=medium").json()
    assert [entry["image_id"] for entry in batch["images"]] == ids
    assert client.get("/api/v1/health/failed?limit=50").json()["count"] >= 0

    deleted = client.delete(image)
    assert deleted.status_code == 204
    for path in (image, f"{image}/all", f"{image}/direct", everything["urls"]["large"]):
        assert client.get(path).status_code == 404
    assert client.delete(image).status_code == 404
    assert not stored(service, ids[0])


def stored(service: Service, image_id: str) -> list[Path]:
    """What the storage holds of an image."""
    files = (service.folder / "data" / "storage").rglob("*")
    return [path for path in files if path.is_file() and image_id in str(path)]


def test_what_comes_off_the_wire_is_bounded(client):
    assert client.get("/" + "a" * 40_000).json()["error"]["code"] == "address_too_long"
    fields = [("X-Many", str(number)) for number in range(101)]
    assert client.get("/api/v1/health", headers=fields).json()["error"]["code"] == "headers_too_large"


def test_of_deletions_at_once_one_has_deleted(client):
    jobs = [upload(client, sample_images.photo(200 + number)).json() for number in range(4)]
    wait_for_result(client, jobs[0]["job_id"])  # the others may run
    with ThreadPoolExecutor(4) as threads:
        for job in jobs:
            paths = [f"/api/v1/images/{job['image_id']}"] * 4
            answers = threads.map(lambda path: client.delete(path).status_code, paths)
            assert sorted(answers) == [204, 404, 404, 404]


def test_the_lines_of_jobs(service, run, s3):
    status, answer = run(SUBMIT)
    assert (status, answer["status"]) == (202, "queued")
    job_id = answer["job_id"]
    service.wait_for(lambda: run(JOB, abc_123=job_id)[1]["status"] not in ("queued", "processing"), "the job")
    status, done = run(JOB, abc_123=job_id)
    assert (status, done["status"], done["output"]) == (200, "completed", "s3://bucket/output.jpg")
    content = s3.client().get_object(Bucket="bucket", Key="output.jpg")["Body"].read()
    with Image.open(io.BytesIO(content)) as made:
        assert (made.format, made.size) == ("JPEG", (800, 600))

    s3.client().put_object(Bucket="bucket", Key="broken.jpg", Body=sample_images.truncated_jpeg())
    _, doomed = run(SUBMIT.replace("input.jpg", "broken.jpg").replace("output.jpg", "whole.jpg"))
    service.wait_for(lambda: run(JOB, abc_123=doomed["job_id"])[1]["status"] == "failed", "the failure")
    status, failed = run(FAILED)
    entry = next(job for job in failed if job["job_id"] == doomed["job_id"])
    assert (status, entry["retries"], bool(entry["error"])) == (200, 0, True)

    s3.client().put_object(Bucket="bucket", Key="broken.jpg", Body=sample_images.photo())
    assert run(RETRY, def_456=doomed["job_id"])[0] == 202
    service.wait_for(lambda: run(JOB, abc_123=doomed["job_id"])[1]["status"] == "completed", "the retry")


# Thumbnails


def thumbnails_of(client: httpx.Client, content: bytes) -> tuple[dict, dict]:
    """The answer to an upload, and what has become of it once it is at rest."""
    answer = client.post("/images/upload", files={"image": content})
    assert answer.status_code == 202, answer.text
    accepted = answer.json()
    ends_at = time.monotonic() + 60
    while (state := client.get(accepted["statusUrl"]).json())["status"] in ("pending", "processing"):
        assert state["urls"] == {}
        assert time.monotonic() < ends_at, state
        time.sleep(0.02)
    return accepted, state


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("camera/Canon_EOS_5D.jpg", "jpeg"),
        ("orientation/Landscape_6.jpg", "jpeg"),
        ("png_photo/clic_0369d229ba4c.png", "png"),
        ("webp/webpvp8.webp", "webp"),
    ],
)
def test_thumbnails_of_photos(client, photos, name, kind):
    content = (photos / name).read_bytes()
    accepted, state = thumbnails_of(client, content)
    with Image.open(io.BytesIO(content)) as photo:
        stored_size = {"width": photo.width, "height": photo.height}
    upload_id = accepted["uploadId"]
    assert accepted == {
        "uploadId": upload_id,
        "originalSize": len(content),
        "dimensions": stored_size,
        "format": kind,
        "statusUrl": f"/images/{upload_id}",
    }
    assert (state["uploadId"], state["status"], state["progress"]) == (upload_id, "complete", 100)
    assert {size: sorted(urls) for size, urls in state["urls"].items()} == {
        "original": [kind],
        **{size: sorted({kind, "webp"}) for size in SIZES},
    }
    assert sorted(stored_size.values()) == sorted(state["metadata"]["dimensions"].values())
    for size, by_format in state["urls"].items():
        for written, url in by_format.items():
            assert url == f"/storage/images/{upload_id}/{size}.{written}"
            answer = client.get(url)
            file = state["metadata"]["files"][size][written]
            assert answer.headers["content-type"] == f"image/{written}"
            assert answer.headers["cache-control"].startswith("public, max-age=31536000")
            assert len(answer.content) == file["sizeBytes"]
            with Image.open(io.BytesIO(answer.content)) as made:
                assert made.format == written.upper()
                assert made.size == (file["width"], file["height"])
                assert not made.getexif() or written == "png"
                if size in SIZES:
                    assert made.size == (SIZES[size], SIZES[size])
    assert state["metadata"]["files"]["original"][kind]["sizeBytes"] <= len(content)


def test_thumbnails_of_twelve_megapixels_are_soon_there(client):
    content = sample_images.photo(4000, 3000)
    started = time.monotonic()
    _, state = thumbnails_of(client, content)
    assert state["status"] == "complete"
    assert time.monotonic() - started < PATIENCE_SECONDS


def test_of_a_picture_that_fails_nothing_stays(client, service):
    accepted, state = thumbnails_of(client, sample_images.truncated_jpeg())
    assert (state["status"], state["errorCode"], state["urls"]) == ("failed", "corrupt_image", {})
    assert state["error"].endswith(".")
    assert stored(service, accepted["uploadId"]) == []
    sql = "select staging_path from processing_jobs where image_id = ?"
    [(staged,)] = service.rows(sql, accepted["uploadId"])
    service.wait_for(lambda: staged not in service.staged(), "the original to be removed")
