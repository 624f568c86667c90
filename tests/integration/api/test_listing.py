"""Lists by cursor over HTTP: one's own images, and what failed. A walk sees everything once."""

import base64
import itertools
import json
import re
from urllib.parse import parse_qs, urlsplit

import pytest

from image_processor.jobs.clock import statement
from integration.api.front import Front, accepted, assert_refused, broken_picture, picture, upload

NUMBERS = itertools.count(1)
IMAGES = "/api/v1/images"


@pytest.fixture(scope="module")
def front(tmp_path_factory):
    """One for all tests; each has a user of its own."""
    front = Front(tmp_path_factory.mktemp("listing"), {"rate_limit_max_uploads": 0})
    yield front
    front.close()


@pytest.fixture
def client(front):
    return front.client(f"user {next(NUMBERS)}")


def some_images(client, count, **fields):
    """Their ids, the newest first."""
    made = [accepted(client, picture((40 + number, 30), "PNG"), **fields) for number in range(count)]
    return [image["image_id"] for image in reversed(made)]


def listed(client, **query):
    answer = client.get(IMAGES, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def ids(page):
    return [image["image_id"] for image in page["images"]]


def walk(client, between=lambda: None, **query):
    """Every page's ids, with something done between the pages."""
    page = listed(client, **query)
    yield ids(page)
    while page["next_cursor"] is not None:
        between()
        page = listed(client, cursor=page["next_cursor"], **query)
        yield ids(page)


def same_moment(front, image_ids):
    """Give these images one time of creation."""
    with front.app.database.write() as connection:
        for image_id in image_ids:
            connection.execute(
                statement("update processing_jobs set created_at = :at where image_id = :image_id"),
                {"at": "2026-01-01T00:00:00.000Z", "image_id": image_id},
            )


def test_an_image_is_listed_from_its_upload_on(front, client):
    job = accepted(client, picture((300, 200)))
    (waiting,) = listed(client)["images"]
    assert (waiting["status"], waiting["urls"], waiting["width"]) == ("pending", {}, None)
    assert (waiting["format"], waiting["bucket"]) == ("jpeg", "tests")
    front.work()
    (done,) = listed(client)["images"]
    result = client.get(f"{job['status_url']}/result").json()
    assert done["urls"] == result["urls"]
    assert (done["width"], done["height"], done["status"]) == (300, 200, "completed")
    assert done["dominant_color"] == result["metadata"]["dominant_color"]
    assert (done["image_id"], done["job_id"]) == (job["image_id"], job["job_id"])
    assert done["size_bytes"] == len(picture((300, 200)))
    assert done["created_at"] == client.get(job["status_url"]).json()["created_at"]


def test_pages_follow_each_other_by_cursor_and_by_link(client):
    expected = some_images(client, 5)
    assert list(walk(client, limit=2)) == [expected[:2], expected[2:4], expected[4:]]
    seen, address = [], f"{IMAGES}?limit=2&bucket=tests"
    while address:
        answer = client.get(address)
        seen += ids(answer.json())
        link = re.fullmatch(r'<(.+)>; rel="next"', answer.headers.get("link", ""))
        address = link and link[1]
        if address:
            query = parse_qs(urlsplit(address).query)
            assert query == {"limit": ["2"], "bucket": ["tests"], "cursor": [answer.json()["next_cursor"]]}
    assert seen == expected


def test_what_comes_and_goes_between_two_pages_moves_nothing(front, client):
    there = some_images(client, 7)
    same_moment(front, there)
    gone = []

    def disturb():
        some_images(client, 1)
        left = [image for image in there if image not in seen and image not in gone]
        if len(left) > 1:
            assert client.delete(f"{IMAGES}/{left[0]}").status_code == 204
            gone.append(left[0])

    seen = []
    for page in walk(client, disturb, limit=2):
        seen += page
    assert len(seen) == len(set(seen))
    assert gone
    assert set(seen) == set(there) - set(gone)


def test_filters_hold_over_a_walk(front, client):
    some_images(client, 2, bucket="elsewhere")
    front.work()
    expected = some_images(client, 3)
    assert list(itertools.chain(*walk(client, limit=2, status="pending"))) == expected
    assert list(itertools.chain(*walk(client, limit=2, bucket="tests"))) == expected
    assert len(list(itertools.chain(*walk(client, limit=1, status="completed")))) == 2
    assert ids(listed(client, status="pending", bucket="elsewhere")) == []


def test_a_cursor_of_somebody_elses_gives_ones_own(client, front):
    theirs = front.client("somebody else")
    some_images(theirs, 2)
    mine = some_images(client, 1)
    cursor = listed(theirs, limit=1)["next_cursor"]
    assert set(ids(listed(client, cursor=cursor))) <= set(mine)
    assert ids(listed(front.client("nobody yet"), cursor=cursor)) == []


def coded(value):
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


FORGED = [
    *("", "x", "null", "../..", "%00", "1 or 1=1", "A" * 201),
    coded(["2026-11-08T14:00:00.000Z", "' or 1=1 --"]),
    coded(["9999", "5f0c3c3e-8f4e-4d8e-9d0a-2f9f8f3b7c11"]),
    coded({"0": 1}),
]


@pytest.mark.parametrize("cursor", FORGED)
@pytest.mark.parametrize("path", [IMAGES, "/jobs", "/jobs/failed", "/api/v1/health/failed"])
def test_a_forged_cursor_is_refused(front, path, cursor):
    admin = front.client("an admin", scope="admin read")
    error = assert_refused(admin.get(path, params={"cursor": cursor}), 422, "invalid_request")
    assert "cursor" in json.dumps(error)


@pytest.mark.parametrize(
    "query", [{"limit": 0}, {"limit": 101}, {"status": "done"}, {"offset": 5}, {"bucket": "b" * 64}]
)
def test_what_cannot_be_asked_for_is_refused(client, query):
    assert_refused(client.get(IMAGES, params=query), 422, "invalid_request")


# What failed


@pytest.fixture
def failed(front, client):
    """The ids of five jobs that failed in one moment, as they do when they expire."""
    jobs = [accepted(client, broken_picture() + bytes([number]))["job_id"] for number in range(5)]
    front.work()
    with front.app.database.write() as connection:
        for job_id in jobs:
            connection.execute(
                statement("update processing_jobs set completed_at = :at where job_id = :job_id"),
                {"at": "2026-01-01T00:00:00.000Z", "job_id": job_id},
            )
    return set(jobs)


def pages_of(client, address):
    while address:
        answer = client.get(address)
        assert answer.status_code == 200, answer.text
        yield answer.json()
        link = re.fullmatch(r'<(.+)>; rel="next"', answer.headers.get("link", ""))
        address = link and link[1]


def test_failed_jobs_are_walked_by_link_while_others_fail(front, client, failed):
    seen = []
    for page in pages_of(client, "/jobs/failed?limit=2"):
        seen += [job["job_id"] for job in page]
        assert upload(client, broken_picture() + bytes([50 + len(seen)])).status_code == 202
        front.work()
    assert len(seen) == 5
    assert set(seen) == failed


def test_administrators_walk_what_failed_for_anybody(front, failed):
    admin = front.client("an admin", scope="admin")
    pages = list(pages_of(admin, "/api/v1/health/failed?limit=2"))
    assert [page["count"] for page in pages[:-1]] == [2] * (len(pages) - 1)
    assert pages[-1]["next_cursor"] is None
    seen = [job["job_id"] for page in pages for job in page["failed_jobs"]]
    assert len(seen) == len(set(seen))
    assert failed <= set(seen)


def test_jobs_link_to_their_next_page_with_their_filters(client):
    some_images(client, 3)
    pages = list(pages_of(client, "/jobs?limit=1&status=queued&created_after=2020-01-01T00:00:00%2B01:00"))
    assert [len(page["jobs"]) for page in pages] == [1, 1, 1]
