"""The health pages, with the bodies that are promised."""

import pytest

from image_processor import __version__
from image_processor.jobs.workers import WorkerRepository
from integration.api.front import accepted, assert_refused, broken_picture, picture

SMALL = picture((20, 20), "PNG")


@pytest.fixture
def client(front):
    """Who looks after the service."""
    return front.client(scope="upload read delete admin")


def test_health_asks_for_no_token(front):
    answer = front.client(user=None).get("/api/v1/health")
    assert answer.status_code == 200
    assert answer.json() == {
        "status": "healthy",
        "service": "image-processor",
        "version": __version__,
        "database": "ok",
        "storage": "ok",
    }


def test_health_says_the_name_and_version_that_are_set(make_front):
    front = make_front(service_name="bücher", version="9.9")
    body = front.client().get("/api/v1/health").json()
    assert (body["service"], body["version"]) == ("bücher", "9.9")
    assert front.client().get("/openapi.json").json()["info"]["version"] == "9.9"


def test_a_disk_that_is_nearly_full_is_not_healthy(make_front):
    answer = make_front(min_free_disk_mb=10**9).client().get("/api/v1/health")
    assert answer.status_code == 503
    assert (answer.json()["status"], answer.json()["storage"]) == ("unhealthy", "nearly_full")


def test_a_load_balancer_may_ask_with_head(client):
    answer = client.head("/api/v1/health")
    assert answer.status_code == 200


def test_the_numbers_of_an_empty_service(client):
    assert client.get("/api/v1/health/stats").json() == {
        "status_breakdown": {"pending": 0, "processing": 0, "retrying": 0, "completed": 0, "failed": 0},
        "performance_24h": {"completed_24h": 0, "avg_processing_time_seconds": None},
        "storage": {"total_images": 0, "total_jobs": 0},
        "celery": {"active_workers": 0, "active_tasks": 0},
    }


def test_the_numbers_count_what_happened(front, client):
    accepted(client, SMALL)
    accepted(client, broken_picture())
    front.work()
    accepted(client, SMALL)
    body = client.get("/api/v1/health/stats").json()
    assert body["status_breakdown"] == {
        "pending": 1,
        "processing": 0,
        "retrying": 0,
        "completed": 1,
        "failed": 1,
    }
    assert body["performance_24h"]["completed_24h"] == 1
    assert 0 < body["performance_24h"]["avg_processing_time_seconds"] < 60
    assert body["storage"] == {"total_images": 1, "total_jobs": 3}


def test_a_job_in_work_counts_as_a_task_with_its_worker(front, client):
    accepted(client, SMALL)
    assert front.worker.jobs.claim("worker-1", lease_seconds=30) is not None
    WorkerRepository(front.worker.database).report("worker-1", slots=2)
    body = client.get("/api/v1/health/stats").json()
    assert body["status_breakdown"]["processing"] == 1
    assert body["celery"] == {"active_workers": 1, "active_tasks": 1}


def test_failed_jobs_of_all_come_newest_first_and_ones_own_are_under_jobs(front, client):
    jobs = []
    for user in ("me", "somebody else", "me"):
        jobs.append(accepted(front.client(user), broken_picture()))
        front.work()
    accepted(client, SMALL)
    front.work()
    body = client.get("/api/v1/health/failed").json()
    assert body["count"] == 3
    assert [job["job_id"] for job in body["failed_jobs"]] == [job["job_id"] for job in reversed(jobs)]
    newest = body["failed_jobs"][0]
    assert [job["user_id"] for job in body["failed_jobs"]] == ["me", "somebody else", "me"]
    assert len(client.get("/jobs/failed").json()) == 2
    assert (newest["status"], newest["reason"], newest["error_code"]) == (
        "failed",
        "rejected",
        "corrupt_image",
    )
    assert newest["error"] == client.get(jobs[-1]["status_url"]).json()["error"]
    assert client.get("/api/v1/health/failed?limit=2").json()["count"] == 2


@pytest.mark.parametrize("limit", ["0", "-1", "501", "many", "", "9" * 40, "1.5"])
def test_a_limit_out_of_its_range_is_refused(client, limit):
    assert_refused(client.get("/api/v1/health/failed", params={"limit": limit}), 422, "invalid_request")


@pytest.mark.parametrize("path", ["stats", "failed"])
def test_the_rest_asks_for_a_token(front, path):
    assert_refused(front.client(user=None).get(f"/api/v1/health/{path}"), 401, "not_authenticated")
    error = assert_refused(front.client().get(f"/api/v1/health/{path}"), 403, "forbidden")
    assert error["details"] == {"scope": "admin"}
