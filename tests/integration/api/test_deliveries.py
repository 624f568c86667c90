import pytest

from image_processor.errors import SourceUnavailableError
from integration.api.front import UNKNOWN, assert_refused
from integration.jobs.job_samples import UNLIMITED, an_upload, some_facts

URL = "https://example.com/hooks/images?token=hidden"


@pytest.fixture
def job(front):
    receipt = front.app.jobs.submit(an_upload(user_id="me", callback_url=URL), UNLIMITED)
    claim = front.app.jobs.claim("worker-1", 60.0, receipt.job_id)
    assert front.app.jobs.complete(claim, some_facts())
    return receipt


def listed(client, job_id):
    answer = client.get(f"/jobs/{job_id}/deliveries")
    assert answer.status_code == 200, answer.text
    return answer.json()["deliveries"]


def fail(front):
    claim = front.app.deliveries.claim(60.0)
    error = SourceUnavailableError("The receiver answered 500.")
    front.app.deliveries.failed(claim, error=error, response_status=500)


def test_deliveries_are_listed_without_what_may_be_secret(front, client, job):
    (delivery,) = listed(client, job.job_id)
    assert (delivery["job_id"], delivery["event_type"]) == (job.job_id, "job.completed")
    assert (delivery["status"], delivery["attempts"], delivery["completed_at"]) == ("pending", 0, None)
    assert delivery["url"] == "https://example.com/hooks/images"
    fail(front)
    answer = client.get(f"/jobs/{job.job_id}/deliveries")
    assert "hidden" not in answer.text
    (delivery,) = answer.json()["deliveries"]
    assert (delivery["status"], delivery["attempts"], delivery["response_status"]) == ("retrying", 1, 500)
    assert delivery["error"] == "The receiver answered 500."
    assert delivery["next_attempt_at"] > delivery["created_at"]


def test_a_job_without_a_callback_has_no_deliveries(front, client):
    receipt = front.app.jobs.submit(an_upload(user_id="me"), UNLIMITED)
    assert listed(client, receipt.job_id) == []


def test_a_replay_is_accepted_however_often_it_is_asked_for(front, client, job):
    claim = front.app.deliveries.claim(60.0)
    front.app.deliveries.delivered(claim, 200)
    for _ in range(2):
        answer = client.post(f"/jobs/{job.job_id}/deliveries/{claim.delivery_id}/replay")
        assert answer.status_code == 202, answer.text
        assert answer.json()["delivery_id"] == claim.delivery_id
        assert (answer.json()["status"], answer.json()["attempts"]) == ("pending", 0)
    assert front.app.deliveries.claim(60.0).delivery_id == claim.delivery_id


def test_what_is_somebody_elses_or_nobodys_is_not_found(front, client, job):
    (delivery,) = listed(client, job.job_id)
    other = front.app.jobs.submit(an_upload(user_id="me"), UNLIMITED)
    stranger = front.client("somebody else")
    paths = {
        (stranger, job.job_id, delivery["delivery_id"]),
        (client, other.job_id, delivery["delivery_id"]),
        (client, job.job_id, UNKNOWN),
        (client, UNKNOWN, delivery["delivery_id"]),
    }
    for who, job_id, delivery_id in paths:
        assert_refused(who.post(f"/jobs/{job_id}/deliveries/{delivery_id}/replay"), 404, "not_found")
    assert_refused(stranger.get(f"/jobs/{job.job_id}/deliveries"), 404, "not_found")
    assert_refused(front.client(None).get(f"/jobs/{job.job_id}/deliveries"), 401, "not_authenticated")
