"""The contract of direct uploads, the same on the disk and on a real S3."""

import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from image_processor.jobs.uploads import COMPLETION_SECONDS, PURGE_AGAIN_SECONDS, PURGE_SECONDS
from integration.api.direct import (
    DirectFront,
    at_once,
    s3_settings,
    sha256,
    tampered,
    wrongly_typed,
)
from integration.api.front import Front, assert_refused, picture

JPEG = picture((80, 60))
PNG = picture((80, 60), "PNG")
S3 = pytest.mark.slow


@pytest.fixture(
    scope="module", params=["local", pytest.param("post", marks=S3), pytest.param("put", marks=S3)]
)
def place(request, tmp_path_factory) -> Iterator[DirectFront]:
    """One for all tests of a kind: making it takes longer than they do."""
    overrides = {"rate_limit_max_uploads": 0, "join_duplicates": False}
    if request.param != "local":
        overrides |= s3_settings(request.getfixturevalue("s3"), request.param)
    with closing(Front(tmp_path_factory.mktemp(request.param), overrides)) as front:
        yield DirectFront(front)


@pytest.fixture
def direct(place: DirectFront) -> Iterator[DirectFront]:
    yield place
    place.empty()


def test_from_an_address_to_a_completed_job(direct):
    ticket = direct.opened(JPEG, sha256=sha256(JPEG).upper(), metadata={"album": "Söder"}, priority="high")
    assert ticket["max_bytes"] == len(JPEG)
    assert direct.state(ticket)["status"] == "open"
    assert direct.send(ticket, JPEG).is_success
    assert direct.quarantined() == [ticket["upload_id"]]

    answer = direct.complete(ticket)
    assert answer.status_code == 202
    assert set(answer.json()) == {"job_id", "image_id", "status_url", "message"}
    assert direct.quarantined() == []
    assert direct.front.work() == 1
    result = direct.client().get(f"{answer.json()['status_url']}/result").json()
    assert result["metadata"]["original_dimensions"] == {"width": 80, "height": 60}

    state = direct.state(ticket)
    assert (state["status"], state["error"]) == ("completed", None)
    assert (state["job_id"], state["status_url"]) == (answer.json()["job_id"], answer.json()["status_url"])


def test_completed_twice_it_is_one_job(direct):
    ticket = direct.uploaded(JPEG)
    first, second = direct.complete(ticket), direct.complete(ticket)
    assert (first.status_code, second.status_code) == (202, 202)
    assert first.json() == second.json()
    assert second.headers["Idempotent-Replayed"] == "true"
    assert direct.jobs() == 1


def test_completed_by_many_at_once_it_is_one_job(direct):
    ticket = direct.uploaded(JPEG)
    answers = at_once(6, lambda: direct.complete(ticket))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["job_id"] for answer in answers}) == 1
    assert direct.jobs() == 1
    assert len(direct.staged()) == 1
    assert direct.quarantined() == []


def test_before_anything_is_uploaded_it_waits(direct):
    ticket = direct.opened(JPEG)
    error = assert_refused(direct.complete(ticket), 409, "conflict")
    assert "Nothing has been uploaded" in error["message"]
    assert direct.send(ticket, JPEG).is_success
    assert direct.complete(ticket).status_code == 202


def test_to_others_it_does_not_exist(direct):
    ticket = direct.uploaded(JPEG)
    assert_refused(direct.complete(ticket, "eve"), 404, "not_found")
    assert_refused(direct.client("eve").get(ticket["complete_url"][: -len("/complete")]), 404, "not_found")
    assert direct.complete(ticket).status_code == 202


@pytest.mark.parametrize("change", [tampered, wrongly_typed])
def test_an_address_is_good_for_what_it_says_alone(direct, change):
    ticket = direct.opened(JPEG)
    answer = direct.send(change(ticket), JPEG)
    assert 400 <= answer.status_code < 500, answer.text
    assert direct.quarantined() == []


@pytest.mark.slow
def test_an_address_ends(direct):
    direct.rewire(upload_url_seconds=1)
    ticket = direct.opened(JPEG)
    gone_by = threading.Event()
    for _ in range(100):
        answer = direct.send(ticket, JPEG)
        if not answer.is_success:
            break
        gone_by.wait(0.1)
    assert answer.status_code == 403


def test_more_bytes_than_announced_are_no_job(direct):
    ticket = direct.opened(JPEG)
    answer = direct.send(ticket, JPEG + b"\0" * 4096)
    assert 400 <= answer.status_code < 500
    assert_refused(direct.complete(ticket), 409, "conflict")
    assert (direct.quarantined(), direct.staged(), direct.jobs()) == ([], [], 0)


REFUSED = {
    "another type": (PNG, {"size_bytes": len(PNG)}, 415, "unsupported_format"),
    "no image": (b"<html>" * 20, {"size_bytes": 120}, 415, "unsupported_format"),
    "another hash": (JPEG, {"sha256": sha256(PNG)}, 422, "corrupt_image"),
    "fewer bytes": (JPEG[:-1], {"size_bytes": len(JPEG)}, 422, "corrupt_image"),
    "a broken header": (JPEG[:100], {"size_bytes": 100}, 422, "corrupt_image"),
}


@pytest.mark.parametrize(("content", "fields", "status", "code"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused_is_removed_and_stays_refused(direct, content, fields, status, code):
    ticket = direct.opened(content, **fields)
    if direct.send(ticket, content).is_error:  # a signed length is exact
        assert len(content) != fields["size_bytes"]
        assert_refused(direct.complete(ticket), 409, "conflict")
        return
    first = direct.complete(ticket)
    error = assert_refused(first, status, code)
    assert (direct.quarantined(), direct.staged(), direct.jobs()) == ([], [], 0)
    state = direct.state(ticket)
    assert (state["status"], state["error"], state["job_id"]) == ("refused", error, None)
    assert direct.complete(ticket).json() == first.json()


def test_what_expires_is_swept_twice_and_then_forgotten(direct):
    ticket, other = direct.uploaded(JPEG), direct.uploaded(JPEG)
    direct.age(ticket, direct.uploads.upload_url_seconds + COMPLETION_SECONDS)
    assert direct.state(ticket)["status"] == "expired"
    assert_refused(direct.complete(ticket), 409, "conflict")
    assert direct.sweep() == 0

    direct.age(ticket, PURGE_SECONDS)
    assert direct.sweep() == 1
    assert direct.quarantined() == [other["upload_id"]]
    assert direct.sweep() == 0

    direct.age(ticket, PURGE_AGAIN_SECONDS)
    assert direct.sweep() == 1
    assert direct.complete(ticket).status_code == 404
    assert direct.complete(other).status_code == 202
