"""Many files and long lists: several requests for one call, and what is told when one of them fails."""

import re
import time

import pytest

from client_stub import BUSY, HASTY, RECEIPT, answer, header, in_turn, refused
from image_processor.client import ImageProcessorClient, UnexpectedAnswerError
from image_processor.client.calls import Whole
from image_processor.client.listing import failed_page
from image_processor.errors import CorruptImageError, InvalidRequestError, NotFoundError, RateLimitError

BATCH = "/api/v1/images/batch"
IMAGES = "/api/v1/images?limit=100"
REFUSED = {"code": "corrupt_image", "message": "Damaged.", "details": {"a": 1}}
LISTED = {"bucket": "tests", "status": "pending", "created_at": "2026-11-08T14:00:00Z", "size_bytes": 7}
FAILED_JOB = {
    "state": "failed",
    "status": "failed",
    "progress": 0,
    "priority": "low",
    "attempts": 1,
    "retries": 0,
    "max_retries": 1,
    "cancel_requested": False,
    "created_at": "2026-11-08T14:00:00Z",
}


def accepted(count, *, refused_at=()):
    files = [
        {"index": index, "error": REFUSED} if index in refused_at else {"index": index, **RECEIPT}
        for index in range(count)
    ]
    return answer({"accepted": count, "refused": 0, "files": files}, 207 if refused_at else 202)


def test_many_files_are_sent_twenty_at_a_time_and_each_has_its_outcome(serve, client_of, tmp_path):
    server = serve(**{BATCH: in_turn(BUSY, accepted(20, refused_at=[3]), accepted(20), accepted(4))})
    sources = [b"picture"] * 45
    sources[7] = tmp_path / "missing.jpg"
    outcomes = client_of(server).upload_many(sources, bucket="tests", idempotency_key="mine")
    assert [outcome.index for outcome in outcomes] == list(range(45))
    wrong = {outcome.index: type(outcome.error) for outcome in outcomes if outcome.receipt is None}
    assert wrong == {3: CorruptImageError, 7: NotFoundError}
    assert outcomes[3].error.details == {"a": 1}
    assert all((outcome.error is None) != (outcome.receipt is None) for outcome in outcomes)
    keys = [header(request, "Idempotency-Key") for request in server.requests]
    assert keys == ["mine", "mine", "mine/20", "mine/40"]


def test_what_fails_later_takes_nothing_from_what_was_accepted(serve, client_of):
    used_up = refused(429, "rate_limited", Retry_After="7")
    server = serve(**{BATCH: in_turn(accepted(20), used_up)})
    outcomes = client_of(server).upload_many([b"picture"] * 45, bucket="tests")
    assert [outcome.receipt is not None for outcome in outcomes] == [True] * 20 + [False] * 25
    assert {(type(outcome.error), outcome.error.retry_after_seconds) for outcome in outcomes[20:]} == {
        (RateLimitError, 7)
    }
    assert len(server.requests) == 2
    nothing = serve(**{BATCH: refused(422, "invalid_request")})
    with pytest.raises(InvalidRequestError):
        client_of(nothing).upload_many([b"picture"] * 45, bucket="No")
    assert client_of(nothing).upload_many([], bucket="tests") == ()
    assert len(nothing.requests) == 1


def test_an_answer_that_leaves_files_out_is_not_believed(serve, client_of):
    server = serve(**{BATCH: accepted(2)})
    with pytest.raises(UnexpectedAnswerError, match="each file"):
        client_of(server).upload_many([b"picture"] * 3, bucket="tests")


def images_page(*ids, cursor):
    images = [{**LISTED, "image_id": image_id, "job_id": image_id} for image_id in ids]
    return answer({"images": images, "next_cursor": cursor})


def test_images_are_listed_page_by_page(serve, client_of):
    server = serve(
        **{
            "/api/v1/images?status=pending&limit=100": in_turn(BUSY, images_page("one", "two", cursor="a/b")),
            "/api/v1/images?status=pending&limit=100&cursor=a%2Fb": images_page("three", cursor=None),
        }
    )
    found = list(client_of(server).images(status="pending"))
    assert [image.image_id for image in found] == ["one", "two", "three"]
    assert (found[0].width, found[0].urls, len(server.requests)) == (None, {}, 3)


def test_a_list_that_is_not_read_to_its_end_asks_for_no_more(serve):
    server = serve(**{IMAGES: images_page("one", "two", cursor="next")})
    with ImageProcessorClient(f"http://127.0.0.1:{server.port}", "token", retries=HASTY) as client:
        assert next(client.images()).image_id == "one"
    assert len(server.requests) == 1


def test_pages_that_lead_in_a_circle_end(serve, client_of):
    pages = {f"{IMAGES}&cursor={cursor}": images_page(cursor=to) for cursor, to in (("a", "b"), ("b", "a"))}
    server = serve(**{IMAGES: images_page(cursor="a"), **pages})
    with pytest.raises(UnexpectedAnswerError, match="do not end"):
        list(client_of(server).images())
    assert len(server.requests) == 3


def test_the_next_page_of_failed_jobs_is_named_in_a_header(serve, client_of):
    def page(job_id, **headers):
        return answer([{**FAILED_JOB, "job_id": job_id, "image_id": job_id}], **headers)

    elsewhere = '<https://example.com/jobs/failed?limit=9&cursor=second>; rel="next"'
    server = serve(
        **{
            "/jobs/failed?limit=100": page("one", Link=elsewhere),
            "/jobs/failed?limit=100&cursor=second": page("two", Link='</jobs/failed>; rel="prev"'),
        }
    )
    assert [job.job_id for job in client_of(server).failed()] == ["one", "two"]
    assert not any(re.search("example", request) for request in server.requests)


@pytest.mark.parametrize("link", ["<" * 100_000, "<>" * 50_000, "<>" + ";" * 100_000, "<>;" * 30_000])
def test_a_header_without_sense_takes_no_time(link):
    began_at = time.process_time()
    assert failed_page(Whole(status=200, headers={"link": link}, body=b"[]")).next_cursor is None
    assert time.process_time() - began_at < 1
