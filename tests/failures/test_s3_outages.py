"""A real service whose S3 goes away: the API says when to come back, and jobs wait without being charged."""

import json
from collections import Counter

import pytest

from image_processor.testing import sample_images
from running_service import Service, upload, wait_for_result
from s3_server import OWNER, REGION
from s3_weather import S3Weather, Weather

pytestmark = pytest.mark.slow

JOBS = 3
MORE_THAN_ALL_ATTEMPTS = 6
"""Snoozes of one job; were it charged, it would have failed for good after four."""
RESET_SECONDS = 2
REFUSAL = "left alone for now"


@pytest.fixture(scope="module")
def sky(s3):
    s3.start()
    with S3Weather(s3.port) as sky:
        yield sky


@pytest.fixture(scope="module")
def service(s3, sky, tmp_path_factory):
    service = Service(
        tmp_path_factory.mktemp("service"),
        environment={
            "STORAGE_BACKEND": "s3",
            "S3_BUCKET": s3.new_bucket(),
            "S3_ENDPOINT_URL": sky.url,
            "AWS_REGION": REGION,
            "AWS_ACCESS_KEY_ID": OWNER["aws_access_key_id"],
            "AWS_SECRET_ACCESS_KEY": OWNER["aws_secret_access_key"],
            "S3_MAX_ATTEMPTS": "1",
            "BREAKER_FAIL_MAX": "5",
            "BREAKER_RESET_SECONDS": str(RESET_SECONDS),
            "LOG_FORMAT": "json",
        },
    )
    service.start()
    yield service
    service.stop()


@pytest.fixture
def client(service, sky):
    with service.client() as client:
        yield client
    sky.clear()


@pytest.fixture(scope="module")
def picture():
    return sample_images.photo(640, 480)


def finished(client, picture):
    """The addresses of the variants of a job."""
    job_id = upload(client, picture).raise_for_status().json()["job_id"]
    return list(wait_for_result(client, job_id).raise_for_status().json()["urls"].values())


def events(service, name):
    """What the log tells of one event, in order."""
    entries = (json.loads(line) for line in list(service.log) if line.startswith("{"))
    return [entry for entry in entries if entry["event"] == name]


def test_while_the_breaker_is_open_the_api_says_when_to_come_back(service, sky, client, picture):
    address = finished(client, picture)[0]
    sky.stage(Weather.ANSWER, status=503, code="ServiceUnavailable")
    answers = [client.get(address) for _ in range(5)]
    assert {answer.status_code for answer in answers} == {503}
    assert all(int(answer.headers["Retry-After"]) >= 1 for answer in answers)
    asked = sky.requests.total()
    refused = client.get(address)
    assert sky.requests.total() == asked, "the server is left alone"
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "storage_down")
    assert REFUSAL in refused.json()["error"]["message"]
    assert 1 <= int(refused.headers["Retry-After"]) <= RESET_SECONDS

    uploaded = upload(client, picture)
    assert uploaded.status_code == 503
    assert int(uploaded.headers["Retry-After"]) >= 1
    assert client.get("/api/v1/health").status_code == 503
    sky.clear()
    service.wait_for(lambda: client.get(address).status_code == 200, "the breaker to close")
    for change in ("breaker.opened", "breaker.half_opened", "breaker.closed"):
        assert events(service, change), "and the log tells of it"


def test_an_outage_that_outlasts_all_retries_charges_no_job_and_loses_none(service, sky, client, picture):
    finished(client, picture)
    (worker,) = service.processes("worker")
    worker.suspend()
    jobs = [upload(client, picture).raise_for_status().json()["job_id"] for _ in range(JOBS)]
    sky.stage(Weather.RESET)
    worker.resume()

    def are_snoozed_enough():
        make_due(service)
        snoozes = Counter(entry["job_id"] for entry in events(service, "job.retried"))
        return all(snoozes[job_id] >= MORE_THAN_ALL_ATTEMPTS for job_id in jobs)

    service.wait_for(are_snoozed_enough, "each job to be put off again and again")
    for status, attempts, crashes in states(service, jobs):
        assert status in {"retrying", "processing"}
        assert attempts == (status == "processing"), "none is charged but the one that runs"
        assert crashes == 0
    sky.clear()

    def are_completed():
        make_due(service)
        return states(service, jobs) == [("completed", 1, 0)] * JOBS

    service.wait_for(are_completed, "all jobs to complete in what counts as their first attempt")
    for job_id in jobs:
        for address in wait_for_result(client, job_id).json()["urls"].values():
            assert client.get(address).status_code == 200


def make_due(service):
    """Time passes for the jobs that wait."""
    service.execute("update processing_jobs set run_at = 0 where status = 'retrying'")


def states(service, jobs):
    query = "select status, attempt_count, crash_count from processing_jobs where job_id = ?"
    return [service.rows(query, job_id)[0] for job_id in jobs]
