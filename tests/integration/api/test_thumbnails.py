"""`/images`: its limits, its names and states, and whose uploads are whose."""

import io

import pytest
from PIL import Image

from integration.api.front import UNKNOWN, Front, assert_refused, broken_picture, picture, upload

UPLOAD = "/images/upload"


@pytest.fixture(scope="module")
def front(tmp_path_factory):
    """One for all: its start takes longer than the tests."""
    front = Front(tmp_path_factory.mktemp("front"), {"rate_limit_max_uploads": 1000})
    yield front
    front.close()


@pytest.fixture(autouse=True)
def _nothing_is_left_in_the_stage(front):
    yield
    waiting = front.app.statistics.statistics().status_breakdown["pending"]
    assert len(front.staged()) == waiting
    front.work()


def send(client, content=None, headers=None, **fields):
    content = picture((240, 180)) if content is None else content
    return client.post(UPLOAD, files={"image": content}, data=fields, headers=headers)


def test_an_upload_is_answered_as_promised(front, client):
    content = picture((240, 180), "PNG")
    answer = send(client, content)
    body = answer.json()
    assert answer.status_code == 202
    assert body == {
        "uploadId": body["uploadId"],
        "originalSize": len(content),
        "dimensions": {"width": 240, "height": 180},
        "format": "png",
        "statusUrl": f"/images/{body['uploadId']}",
    }
    assert answer.headers["location"] == body["statusUrl"]
    assert answer.headers["x-ratelimit-limit"] == "1000"

    state = client.get(body["statusUrl"]).json()
    assert (state["status"], state["progress"], state["urls"]) == ("pending", 0, {})
    assert state["metadata"]["originalSize"] == len(content)
    assert (state["metadata"]["dimensions"], state["metadata"]["files"]) == (None, {})
    claim = front.worker.jobs.claim("worker-1", lease_seconds=30)
    assert client.get(body["statusUrl"]).json()["status"] == "processing"
    front.worker.jobs.release(claim)


@pytest.mark.parametrize(
    ("size", "kind"), [((100, 100), "WEBP"), ((100, 100), "PNG"), ((10_000, 100), "JPEG")]
)
def test_the_bounds_themselves_are_taken(client, size, kind):
    assert send(client, picture(size, kind)).json()["format"] == kind.lower()


REFUSED = {
    "too narrow": (picture((99, 100)), "image_too_small"),
    "too flat": (picture((100, 99), "PNG"), "image_too_small"),
    "too wide": (picture((10_001, 100)), "image_too_large"),
    "too high": (picture((100, 10_001), "PNG"), "image_too_large"),
    "of another type": (picture((200, 200), "GIF"), "unsupported_format"),
    "no picture": (b"words " * 100, "unsupported_format"),
    "cut off": (picture((200, 200), "PNG")[:-30], "corrupt_image"),
    "nothing": (b"", "invalid_request"),
    "too long": (picture((200, 200)) + bytes(10 * 1024 * 1024), "file_too_large"),
}


@pytest.mark.parametrize(("content", "code"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_wrong_with_a_picture_is_400_with_the_reason(client, content, code):
    assert_refused(send(client, content), 400, code)


def test_what_is_wrong_with_the_request_is_400_too(client):
    assert_refused(client.post(UPLOAD, files={"file": picture()}), 400, "invalid_request")
    assert_refused(client.post(UPLOAD, content=b"{}"), 400, "invalid_request")
    assert_refused(send(client, metadata="[]"), 400, "invalid_request")
    assert_refused(send(client, priority="urgent"), 400, "invalid_request")
    assert_refused(send(client, headers={"Idempotency-Key": "x" * 300}), 400, "invalid_request")
    declared = {"Content-Length": str(11 * 1024 * 1024), "Content-Type": "multipart/form-data; boundary=b"}
    assert_refused(client.post(UPLOAD, headers=declared, content=b""), 400, "file_too_large")


def test_a_smaller_limit_of_ours_holds_and_a_larger_one_does_not(make_front):
    small = make_front(max_upload_size_mb=0.001).client()
    assert_refused(send(small, picture((400, 400), "PNG") + bytes(2000)), 400, "file_too_large")
    large = make_front(max_upload_size_mb=20).client()
    assert_refused(send(large, picture() + bytes(10 * 1024 * 1024)), 400, "file_too_large")


def test_no_token_and_a_used_up_limit_are_what_they_are_elsewhere(make_front):
    front = make_front(rate_limit_max_uploads=1)
    assert_refused(send(front.client(None)), 401, "not_authenticated")
    assert send(front.client()).status_code == 202
    refused = send(front.client())
    assert_refused(refused, 429, "rate_limited")
    assert refused.headers["retry-after"]


def test_the_same_request_gives_the_same_upload(client):
    key = {"Idempotency-Key": "first"}
    once, again = send(client, headers=key), send(client, headers=key)
    assert once.json() == again.json()
    assert again.headers["idempotent-replayed"] == "true"
    assert_refused(send(client, picture((300, 300)), headers=key), 400, "idempotency_key_reused")


def test_a_finished_upload_has_each_size_in_each_format(make_front):
    front = make_front(cdn_url="https://cdn.example/pictures")
    client = front.client()
    path = send(client, picture((900, 700)), metadata='{"album": "summer"}').json()["statusUrl"]
    front.work()
    state = client.get(path).json()
    upload_id = state["uploadId"]
    assert (state["status"], state["progress"], state["error"]) == ("complete", 100, None)
    assert state["urls"] == {
        "original": {"jpeg": f"https://cdn.example/pictures/images/{upload_id}/original.jpeg"},
        **{
            size: {
                written: f"https://cdn.example/pictures/images/{upload_id}/{size}.{written}"
                for written in ("jpeg", "webp")
            }
            for size in ("small", "medium", "large")
        },
    }
    metadata = state["metadata"]
    assert metadata["dimensions"] == {"width": 900, "height": 700}
    assert metadata["dominantColor"] == "#3A5F8C"
    assert metadata["clientMetadata"] == {"album": "summer"}
    assert metadata["files"]["large"]["webp"]["width"] == 800
    content = client.get(f"/storage/images/{upload_id}/small.webp").content
    assert Image.open(io.BytesIO(content)).size == (150, 150)


def test_a_failed_upload_says_why_and_leaves_nothing(front, client):
    path = send(client, broken_picture()).json()["statusUrl"]
    front.work()
    state = client.get(path).json()
    assert (state["status"], state["errorCode"], state["urls"]) == ("failed", "corrupt_image", {})
    assert state["error"].endswith(".")
    assert state["completedAt"]
    assert [key for key in front.stored() if state["uploadId"] in key] == []


def test_uploads_are_their_owners_and_of_this_preset(front, client):
    path = send(client).json()["statusUrl"]
    assert_refused(front.client("somebody else").get(path), 404, "not_found")
    assert_refused(client.get(f"/images/{UNKNOWN}"), 404, "not_found")
    other = upload(client).json()["image_id"]
    assert_refused(client.get(f"/images/{other}"), 404, "not_found")
    upload_id = path.rpartition("/")[2]
    front.work()
    assert client.delete(f"/api/v1/images/{upload_id}").status_code == 204
    assert_refused(client.get(path), 404, "not_found")
