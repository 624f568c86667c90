"""Uploads per user and window: counted when they are accepted, and told in headers."""

import re
from datetime import UTC, datetime

import pytest

from integration.api.front import accepted, assert_refused, picture, upload

SMALL = picture((20, 20), "PNG")


@pytest.fixture
def front(make_front):
    return make_front(rate_limit_max_uploads=2)


def test_what_is_left_is_told_and_then_refused(front, client):
    first, second = upload(client, SMALL), upload(client, SMALL)
    assert [answer.headers["x-ratelimit-remaining"] for answer in (first, second)] == ["1", "0"]
    refused = upload(client, SMALL)
    error = assert_refused(refused, 429, "rate_limited")
    reset = second.headers["x-ratelimit-reset"]
    assert refused.headers["x-ratelimit-limit"] == "2"
    assert refused.headers["x-ratelimit-remaining"] == "0"
    assert refused.headers["x-ratelimit-reset"] == reset
    assert error["details"]["limit"] == 2
    until = (datetime.fromisoformat(reset) - datetime.now(UTC)).total_seconds()
    assert abs(int(refused.headers["retry-after"]) - until) <= 5
    assert len(front.staged()) == 1
    assert first.json() == second.json(), "the same picture again is the same job, and an upload all the same"


def test_each_user_has_a_window(front, client):
    for _ in range(2):
        accepted(client, SMALL)
    assert upload(client, SMALL).status_code == 429
    assert upload(front.client("somebody else"), SMALL).status_code == 202


def test_a_refused_upload_takes_nothing(client):
    assert upload(client, b"no picture").status_code == 415
    assert upload(client, SMALL, bucket="/").status_code == 422
    assert upload(client, SMALL).headers["x-ratelimit-remaining"] == "1"


def test_deleting_gives_nothing_back(client):
    for _ in range(2):
        client.delete(f"/api/v1/images/{accepted(client, SMALL)['image_id']}")
    assert upload(client, SMALL).status_code == 429


def test_reading_is_not_limited(client):
    job = accepted(client, SMALL)
    accepted(client, SMALL)
    for _ in range(10):
        assert client.get(job["status_url"]).status_code == 200


def test_a_refusal_comes_before_the_body_is_read(client):
    for _ in range(2):
        accepted(client, SMALL)

    def unread():
        raise AssertionError("the body was read")
        yield b""

    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    assert client.post("/api/v1/images/upload", content=unread(), headers=headers).status_code == 429


def test_no_limit_has_no_headers(make_front):
    answer = upload(make_front(rate_limit_max_uploads=0).client(), SMALL)
    assert answer.status_code == 202
    assert not [name for name in answer.headers if "ratelimit" in name]


def test_windows_begin_at_whole_seconds(make_front):
    answer = upload(make_front(rate_limit_window_minutes=7).client(), SMALL)
    reset = answer.headers["x-ratelimit-reset"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", reset)
    assert datetime.fromisoformat(reset).timestamp() % (7 * 60) == 0
