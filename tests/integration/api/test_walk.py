"""The whole walk of a user, with bodies and headers exactly as they are promised."""

import hashlib
import io
import re
from itertools import pairwise

import pytest
from PIL import Image

from integration.api.front import UNKNOWN, Front, accepted, assert_refused, broken_picture, picture, upload

UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
INSTANT = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{3})?Z"
WIDTHS = {"thumbnail": 150, "medium": 600, "large": 1200, "original": 1600}


def completed(front, client, *arguments, **fields):
    """A job that has completed."""
    job = accepted(client, *arguments, **fields)
    assert front.work() == 1
    return job


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A front with a job that has completed; for those who only look."""
    front = Front(tmp_path_factory.mktemp("finished"))
    yield front
    front.close()


@pytest.fixture(scope="module")
def reader(finished):
    return finished.client()


@pytest.fixture(scope="module")
def job(finished, reader):
    return completed(finished, reader, picture((1600, 1200)), metadata='{"context":"test_upload"}')


def test_an_upload_is_answered_as_promised(client, front):
    answer = upload(client, metadata='{"context":"test_upload"}')
    assert answer.status_code == 202
    body = answer.json()
    assert list(body) == ["job_id", "image_id", "status_url", "message"]
    assert re.fullmatch(UUID, body["job_id"])
    assert re.fullmatch(UUID, body["image_id"])
    assert body["job_id"] != body["image_id"]
    assert body["status_url"] == f"/api/v1/images/jobs/{body['job_id']}"
    assert body["message"] == "Upload accepted. Processing initiated."
    assert answer.headers["x-ratelimit-limit"] == "50"
    assert answer.headers["x-ratelimit-remaining"] == "49"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:00:00Z", answer.headers["x-ratelimit-reset"])
    assert len(front.staged()) == 1


def test_a_waiting_job_is_pending_and_has_no_result(client):
    job = accepted(client)
    status = client.get(job["status_url"]).json()
    assert {name: status[name] for name in ("job_id", "image_id")} == {
        name: job[name] for name in ("job_id", "image_id")
    }
    assert (status["status"], status["attempts"]) == ("pending", 0)
    assert (status["error"], status["completed_at"]) == (None, None)
    assert re.fullmatch(INSTANT, status["created_at"])
    for path in (
        f"{job['status_url']}/result",
        f"/api/v1/images/{job['image_id']}",
        f"/api/v1/images/{job['image_id']}/all",
        f"/api/v1/images/{job['image_id']}/direct",
    ):
        error = assert_refused(client.get(path), 409, "result_not_ready")
        assert error["details"] == {"job_id": job["job_id"], "status": "pending"}


def test_a_finished_job_says_so(reader, job, finished):
    status = reader.get(job["status_url"]).json()
    assert (status["status"], status["attempts"], status["error"]) == ("completed", 1, None)
    assert re.fullmatch(INSTANT, status["completed_at"])
    assert status["created_at"] <= status["completed_at"]
    assert finished.staged() == []


def test_the_result_is_as_promised(reader, job):
    image_id = job["image_id"]
    answer = reader.get(f"{job['status_url']}/result")
    assert answer.status_code == 200
    body = answer.json()
    assert set(body) == {"image_id", "status", "urls", "metadata", "completed_at", "client_metadata"}
    assert (body["image_id"], body["status"]) == (image_id, "completed")
    assert body["client_metadata"] == {"context": "test_upload"}
    assert body["urls"] == {
        name: f"/storage/tests/processed/{name}/{image_id}_{name}.webp" for name in WIDTHS
    }
    assert set(body["metadata"]) == {"dominant_color", "original_dimensions", "variants"}
    assert body["metadata"]["dominant_color"] == "#3A5F8C"
    assert body["metadata"]["original_dimensions"] == {"width": 1600, "height": 1200}
    for name, width in WIDTHS.items():
        variant = body["metadata"]["variants"][name]
        assert set(variant) == {"width", "height", "aspect_ratio", "format", "size_bytes"}
        assert (variant["width"], variant["format"]) == (width, "webp")
        assert abs(variant["height"] - width * 0.75) <= 0.5
        assert variant["aspect_ratio"] == round(width / variant["height"], 4)


def test_the_addresses_serve_what_the_result_says(reader, finished, job):
    body = reader.get(f"{job['status_url']}/result").json()
    nobody = finished.client(user=None)
    for name, url in body["urls"].items():
        answer = nobody.get(url)
        variant = body["metadata"]["variants"][name]
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "image/webp"
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert answer.headers["etag"] == f'"{hashlib.sha256(answer.content).hexdigest()}"'
        assert len(answer.content) == variant["size_bytes"] == int(answer.headers["content-length"])
        image = Image.open(io.BytesIO(answer.content))
        assert (image.format, image.size) == ("WEBP", (variant["width"], variant["height"]))


def test_one_size_of_an_image(reader, job):
    result = reader.get(f"{job['status_url']}/result").json()
    for size in (None, "", *WIDTHS):
        answer = reader.get(
            f"/api/v1/images/{job['image_id']}", params={} if size is None else {"size": size}
        )
        name = size or "medium"
        assert answer.json() == {
            "image_id": job["image_id"],
            "size": name,
            "url": result["urls"][name],
            "dominant_color": "#3A5F8C",
            **result["metadata"]["variants"][name],
        }


def test_all_sizes_of_an_image_are_its_result(reader, job):
    result = reader.get(f"{job['status_url']}/result")
    assert reader.get(f"/api/v1/images/{job['image_id']}/all").json() == result.json()


def test_the_bytes_of_an_image(reader, job):
    result = reader.get(f"{job['status_url']}/result").json()
    path = f"/api/v1/images/{job['image_id']}/direct"
    for name, url in result["urls"].items():
        answer = reader.get(path, params={"size": name})
        assert (answer.status_code, answer.headers["content-type"]) == (200, "image/webp")
        assert answer.headers["cache-control"] == "private, max-age=31536000, immutable"
        assert answer.content == reader.get(url).content
    assert reader.get(path).content == reader.get(result["urls"]["medium"]).content


@pytest.mark.parametrize("place", ["storage", "direct"])
def test_bytes_in_part_unchanged_and_headed(reader, job, place):
    url = {
        "storage": reader.get(f"/api/v1/images/{job['image_id']}?size=large").json()["url"],
        "direct": f"/api/v1/images/{job['image_id']}/direct?size=large",
    }[place]
    whole = reader.get(url)
    part = reader.get(url, headers={"Range": "bytes=5-9"})
    assert (part.status_code, part.content) == (206, whole.content[5:10])
    assert part.headers["content-range"] == f"bytes 5-9/{len(whole.content)}"
    unchanged = reader.get(url, headers={"If-None-Match": whole.headers["etag"]})
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    assert_refused(reader.get(url, headers={"Range": "bytes=999999-"}), 416, "range_not_satisfiable")
    head = reader.head(url)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(whole.content))


@pytest.mark.parametrize("path", ["", "/direct"])
def test_a_size_that_there_is_not_names_those_there_are(reader, job, path):
    answer = reader.get(f"/api/v1/images/{job['image_id']}{path}", params={"size": "gigantic"})
    error = assert_refused(answer, 404, "not_found")
    assert error["details"] == {"known": list(WIDTHS)}
    assert "thumbnail, medium, large, original" in error["message"]


def test_a_deleted_image_is_gone_everywhere(client, front):
    job = completed(front, client)
    url = client.get(f"/api/v1/images/{job['image_id']}").json()["url"]
    assert len(front.stored()) == 4
    answer = client.delete(f"/api/v1/images/{job['image_id']}")
    assert (answer.status_code, answer.content) == (204, b"")
    for path in (
        job["status_url"],
        f"{job['status_url']}/result",
        f"/api/v1/images/{job['image_id']}",
        f"/api/v1/images/{job['image_id']}/all",
        f"/api/v1/images/{job['image_id']}/direct",
        url,
    ):
        assert_refused(client.get(path), 404, "not_found")
    assert_refused(client.delete(f"/api/v1/images/{job['image_id']}"), 404, "not_found")
    batch = client.get("/api/v1/images/batch", params={"image_ids": job["image_id"]}).json()
    assert batch == {"images": [], "not_found": [job["image_id"]]}
    assert front.stored() == []


def test_an_image_deleted_while_it_waits_is_never_processed(client, front):
    job = accepted(client)
    assert client.delete(f"/api/v1/images/{job['image_id']}").status_code == 204
    assert front.work() == 0
    assert front.stored() == []
    assert_refused(client.get(job["status_url"]), 404, "not_found")


def test_a_small_picture_is_not_enlarged(client, front):
    job = accepted(client, picture((200, 301), "PNG"))
    front.work()
    variants = client.get(f"{job['status_url']}/result").json()["metadata"]["variants"]
    assert {name: variant["width"] for name, variant in variants.items()} == {
        "thumbnail": 150,
        "medium": 200,
        "large": 200,
        "original": 200,
    }
    assert variants["medium"]["height"] == 301


def test_a_picture_of_one_pixel_goes_all_the_way(client, front):
    job = accepted(client, picture((1, 1), "PNG"))
    front.work()
    body = client.get(f"{job['status_url']}/result").json()
    assert {(v["width"], v["height"]) for v in body["metadata"]["variants"].values()} == {(1, 1)}
    assert {v["aspect_ratio"] for v in body["metadata"]["variants"].values()} == {1.0}


def test_a_picture_that_cannot_be_decoded_fails_with_a_sentence(client, front):
    job = accepted(client, broken_picture())
    assert front.work() == 1
    status = client.get(job["status_url"]).json()
    assert (status["status"], status["error_code"], status["attempts"]) == ("failed", "corrupt_image", 1)
    assert re.fullmatch(INSTANT, status["completed_at"])
    for path in (f"{job['status_url']}/result", f"/api/v1/images/{job['image_id']}/all"):
        error = assert_refused(client.get(path), 422, "job_failed")
        assert error["message"] == status["error"]
        assert error["details"] == {"job_id": job["job_id"], "reason": "rejected", "code": "corrupt_image"}
    assert (front.staged(), front.stored()) == ([], [])


def test_the_preset_thumbnails_makes_what_it_promises(client, front):
    job = accepted(client, picture((900, 700), "JPEG"), preset="thumbnails")
    front.work()
    body = client.get(f"{job['status_url']}/result").json()
    image_id = job["image_id"]
    assert body["urls"] == {
        "original": f"/storage/images/{image_id}/original.jpeg",
        **{
            f"{size}{suffix}": f"/storage/images/{image_id}/{size}.{extension}"
            for size in ("small", "medium", "large")
            for suffix, extension in (("", "jpeg"), ("-webp", "webp"))
        },
    }
    for name, side in (("small", 150), ("medium", 400), ("large", 800)):
        for variant in (body["metadata"]["variants"][name], body["metadata"]["variants"][f"{name}-webp"]):
            assert (variant["width"], variant["height"]) == (side, side)
    answer = client.get(body["urls"]["small"])
    assert answer.headers["content-type"] == "image/jpeg"
    assert (
        client.get(f"/api/v1/images/{image_id}/direct?size=original").headers["content-type"] == "image/jpeg"
    )


def test_an_image_without_a_medium_size_answers_with_its_first(make_front):
    front = make_front(image_sizes={"tiny": 16, "big": 64})
    client = front.client()
    job = accepted(client)
    front.work()
    assert client.get(f"/api/v1/images/{job['image_id']}").json()["size"] == "tiny"


def test_the_audit_trail_tells_the_walk(client, front):
    job = completed(front, client, picture((20, 20), "PNG"))
    client.delete(f"/api/v1/images/{job['image_id']}")
    events = front.app.jobs.events(job["job_id"])
    assert [event.event_type for event in events] == [
        "upload_initiated",
        "processing_started",
        "completed",
        "deleted",
    ]
    assert all(before.created_at <= after.created_at for before, after in pairwise(events))


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", f"/api/v1/images/jobs/{UNKNOWN}"),
        ("GET", f"/api/v1/images/jobs/{UNKNOWN}/result"),
        ("GET", f"/api/v1/images/{UNKNOWN}"),
        ("GET", f"/api/v1/images/{UNKNOWN}/all"),
        ("GET", f"/api/v1/images/{UNKNOWN}/direct"),
        ("DELETE", f"/api/v1/images/{UNKNOWN}"),
        ("GET", "/api/v1/images/%00"),
        ("GET", "/api/v1/images/%ff%fe"),
        ("GET", "/api/v1/images/%ed%a0%80"),
        ("GET", "/api/v1/images/..%2f..%2fetc%2fpasswd"),
        ("GET", "/api/v1/images/jobs/" + "9" * 5000),
        ("DELETE", "/api/v1/images/' or 1=1 --"),
        ("GET", "/storage/tests/processed/medium/none.webp"),
        ("GET", "/storage/%2e%2e/processor.db"),
        ("GET", "/storage/"),
        ("HEAD", "/storage/none.webp"),
    ],
)
def test_what_there_is_not_is_404(reader, method, path):
    answer = reader.request(method, path)
    assert answer.status_code == 404
    if method != "HEAD":
        assert_refused(answer, 404, "not_found")
