"""The lines of the seed's ticket 2 with curl's own requests, against a real service."""

import io
import json
import shutil
import subprocess
import uuid

import httpx
import pytest
from PIL import Image

from image_processor.testing import sample_images
from running_service import Service

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("curl") is None, reason="the seed's lines are curl's"),
]


class Curl:
    """Runs the seed's lines as they are printed, where `http://localhost:8000` is another address."""

    def __init__(self, service):
        self._service = service

    def __call__(self, path: str, *arguments: str) -> tuple[int, object]:
        """Status and body."""
        done = subprocess.run(
            ["curl", "--silent", "--write-out", "\n%{http_code}", *arguments, f"{self._service.url}{path}"],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        body, _, status = done.stdout.rpartition("\n")
        return int(status), json.loads(body)

    def submit(self, asked: dict) -> tuple[int, dict]:
        json_type = ("-H", "Content-Type: application/json")
        return self("/jobs", "-X", "POST", *json_type, "-d", json.dumps(asked))

    def wait(self, job_id: str) -> dict:
        """The job once it has come to rest; on its way it is queued or processing, and never goes back."""
        seen: list[str] = []

        def is_at_rest() -> bool:
            _, job = self(f"/jobs/{job_id}")
            seen.append(job["status"])
            return job["status"] in ("completed", "failed")

        self._service.wait_for(is_at_rest, f"job {job_id}")
        assert set(seen[:-1]) <= {"queued", "processing"}
        return self(f"/jobs/{job_id}")[1]


@pytest.fixture(scope="module")
def bucket(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bucket")
    (folder / "input.jpg").write_bytes(sample_images.photo(width=1600, height=1200))
    (folder / "broken.jpg").write_bytes(sample_images.truncated_jpeg())
    return folder


@pytest.fixture(scope="module")
def service(tmp_path_factory, bucket):
    """One for all: its start takes longer than the tests."""
    environment = {"AUTH_REQUIRED": "false", "FILE_ROOTS": str(bucket), "JOIN_DUPLICATES": "true"}
    service = Service(tmp_path_factory.mktemp("service"), environment)
    service.start()
    yield service
    service.stop()


@pytest.fixture
def curl(service):
    return Curl(service)


def test_the_lines_of_the_seed(service, curl, bucket):
    output = (bucket / "output.jpg").as_uri()
    asked = {
        "input": (bucket / "input.jpg").as_uri(),
        "operations": [{"op": "resize", "width": 800}],
        "output": output,
    }
    # Submit job
    status, answer = curl.submit(asked)
    assert (status, answer["status"]) == (202, "queued")
    assert str(uuid.UUID(answer["job_id"])) == answer["job_id"]

    # Check status, wait for completion
    done = curl.wait(answer["job_id"])
    assert (done["status"], done["progress"], done["output"]) == ("completed", 100, output)
    with Image.open(bucket / "output.jpg") as made:
        assert (made.format, made.size) == ("JPEG", (800, 600))

    # List failed jobs
    assert curl("/jobs/failed") == (200, [])
    _, doomed = curl.submit(asked | {"input": (bucket / "broken.jpg").as_uri()})
    failed = curl.wait(doomed["job_id"])
    assert (failed["status"], failed["reason"]) == ("failed", "rejected")
    status, (entry,) = curl("/jobs/failed")
    assert (status, entry["job_id"], entry["retries"]) == (200, doomed["job_id"], 0)
    assert entry["error"] == failed["error"] != ""

    # Retry failed job: its input is fetched anew
    (bucket / "broken.jpg").write_bytes((bucket / "input.jpg").read_bytes())
    status, again = curl(f"/jobs/{doomed['job_id']}/retry", "-X", "POST")
    assert (status, again["job_id"]) == (202, doomed["job_id"])
    assert curl.wait(doomed["job_id"])["status"] == "completed"
    status, refused = curl(f"/jobs/{doomed['job_id']}/retry", "-X", "POST")
    assert (status, refused["error"]["code"]) == (409, "conflict")


def test_the_buckets_of_the_seed_are_refused_in_words_while_there_is_no_s3(curl):
    status, answer = curl.submit(
        {
            "input": "s3://bucket/input.jpg",
            "operations": [{"op": "resize", "width": 800}],
            "output": "s3://bucket/output.jpg",
        }
    )
    assert (status, answer["error"]["code"]) == (422, "invalid_request")
    assert "S3 is not set up" in answer["error"]["message"]


def test_files_outside_the_roots_are_refused(curl, bucket):
    outside = (bucket.parent / "outside.jpg").as_uri()
    status, answer = curl.submit({"input": outside})
    assert (status, answer["error"]["code"]) == (422, "invalid_request")
    status, answer = curl.submit({"input": f"{bucket.as_uri()}/input.jpg", "output": outside})
    assert (status, answer["error"]["code"]) == (422, "invalid_request")


def test_without_an_output_the_answer_leads_to_the_bytes(service, curl, bucket):
    operations = [{"op": "resize", "width": 300}, {"op": "convert", "format": "webp"}]
    _, asked = curl.submit({"input": (bucket / "input.jpg").as_uri(), "operations": operations})
    done = curl.wait(asked["job_id"])
    content = httpx.get(service.url + done["output"]).raise_for_status().content
    with Image.open(io.BytesIO(content)) as made:
        assert (made.format, made.size) == ("WEBP", (300, 225))
