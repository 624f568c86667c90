"""Several files in one form: an answer for each, and nothing left of what was not taken."""

import httpx
import pytest

from image_processor.api.routes.batch import MAX_FILES
from image_processor.errors import UnavailableError
from image_processor.jobs.repository import JobRepository
from integration.api.front import Front, assert_refused, picture

BATCH = "/api/v1/images/batch"
SMALL = [picture((20 + number, 20), "PNG") for number in range(4)]


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


def send(client, *contents, headers=None, **fields):
    files = [("files", (f"{number}.png", content)) for number, content in enumerate(contents)]
    return client.post(BATCH, files=files, data={"bucket": "tests", **fields}, headers=headers)


def statuses(answer):
    return [entry["status"] for entry in answer.json()["files"]]


def codes(answer):
    return [entry["error"] and entry["error"]["code"] for entry in answer.json()["files"]]


def test_each_file_is_an_upload_of_its_own(front, client):
    answer = send(client, *SMALL, metadata='{"album": 1}')
    body = answer.json()
    assert (answer.status_code, body["accepted"], body["refused"]) == (202, 4, 0)
    assert [(entry["index"], entry["filename"]) for entry in body["files"]] == [
        (number, f"{number}.png") for number in range(4)
    ]
    assert int(answer.headers["x-ratelimit-remaining"]) <= 996
    assert len({entry["image_id"] for entry in body["files"]}) == 4
    assert front.work() == 4
    for number, entry in enumerate(body["files"]):
        result = client.get(f"{entry['status_url']}/result").json()
        assert result["metadata"]["original_dimensions"]["width"] == 20 + number
        assert result["client_metadata"] == {"album": 1}


def test_a_bad_file_spoils_no_other(front, client):
    too_large = SMALL[0] + bytes(11 * 1024 * 1024)
    answer = send(client, SMALL[0], b"words " * 100, SMALL[1], too_large, b"", SMALL[2][:-30], SMALL[3])
    assert answer.status_code == 207
    assert codes(answer) == [
        None,
        "unsupported_format",
        None,
        "file_too_large",
        "invalid_request",
        "corrupt_image",
        None,
    ]
    assert (answer.json()["accepted"], answer.json()["refused"]) == (3, 4)
    assert len(front.staged()) == 3
    assert front.work() == 3


def test_where_all_are_bad_each_has_its_reason(client):
    answer = send(client, b"words " * 100, b"more words" * 100)
    assert answer.status_code == 207
    assert statuses(answer) == ["refused", "refused"]


def test_the_limit_counts_files(make_front):
    front = make_front(rate_limit_max_uploads=2)
    client = front.client()
    answer = send(client, *SMALL[:3])
    assert codes(answer) == [None, None, "rate_limited"]
    assert answer.headers["x-ratelimit-remaining"] == "0"
    assert len(front.staged()) == 2
    refused = send(client, SMALL[3])
    assert_refused(refused, 429, "rate_limited")


def test_the_same_form_again_gives_the_same_jobs(make_front):
    front = make_front(rate_limit_max_uploads=2)
    key = {"Idempotency-Key": "once"}
    first = send(front.client(), SMALL[0], b"words " * 100, SMALL[1], headers=key)
    assert "idempotent-replayed" not in first.headers
    again = send(front.client(), SMALL[0], b"words " * 100, SMALL[1], headers=key)
    assert again.headers["idempotent-replayed"] == "true"
    assert again.json() == first.json()
    other = send(front.client(), SMALL[1], headers=key)
    assert codes(other) == ["idempotency_key_reused"]


@pytest.mark.parametrize(
    "fields",
    [
        {"bucket": "No Bucket"},
        {"metadata": "["},
        {"preset": "nope"},
        {"priority": "urgent"},
        {"reuse": "perhaps"},
        {"callback_url": "https://example.com"},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_a_bad_field_refuses_the_form(client, fields):
    assert_refused(send(client, *SMALL, **fields), 422, "invalid_request")


def test_no_file_and_too_many_refuse_the_form(front, client):
    assert_refused(client.post(BATCH, files={"file": SMALL[0]}), 422, "invalid_request")
    assert statuses(send(client, *[SMALL[0]] * MAX_FILES)) == ["accepted"] * MAX_FILES
    front.work()
    error = assert_refused(send(client, *[SMALL[0]] * (MAX_FILES + 1)), 422, "invalid_request")
    assert str(MAX_FILES) in error["message"]


def test_a_form_that_breaks_off_leaves_nothing(client):
    content = httpx.Request("POST", "http://x", files=[("files", one) for one in SMALL])
    body, kind = content.read()[:-40], content.headers["content-type"]
    assert_refused(client.post(BATCH, content=body, headers={"Content-Type": kind}), 422, "invalid_request")


def test_a_declared_length_over_all_files_is_refused_unread(client):
    headers = {"Content-Length": str(300 * 1024 * 1024), "Content-Type": "multipart/form-data; boundary=b"}
    error = assert_refused(client.post(BATCH, headers=headers, content=b""), 413, "file_too_large")
    assert "200 MB" in error["message"]


def test_while_the_database_is_away_the_whole_can_be_sent_again(make_front, monkeypatch):
    client = make_front().client()

    def fail(*_arguments):
        raise UnavailableError("The database does not answer.")

    with monkeypatch.context() as away:
        away.setattr(JobRepository, "submit", fail)
        assert_refused(send(client, *SMALL[:2]), 503, "unavailable")

    turns = iter([JobRepository.submit, fail])

    def submit(*arguments):
        return next(turns)(*arguments)

    monkeypatch.setattr(JobRepository, "submit", submit)
    answer = send(client, SMALL[2], SMALL[3])
    assert (answer.status_code, codes(answer)) == (207, [None, "unavailable"])


def test_whoever_may_not_upload_is_told_before_the_body_is_read(front):
    def unread():
        raise AssertionError("the body was read")
        yield b""

    assert_refused(front.client(None).post(BATCH, content=unread()), 401, "not_authenticated")
