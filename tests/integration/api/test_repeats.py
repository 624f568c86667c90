"""The same upload again: joined, used again, or answered again under its idempotency key."""

import pytest

from integration.api.front import accepted, assert_refused, picture, upload

SMALL = picture((20, 20), "PNG")


def test_the_same_picture_twice_is_one_job_while_that_runs(front, client):
    first, second = accepted(client, SMALL), accepted(client, SMALL)
    assert (first["job_id"], first["image_id"]) == (second["job_id"], second["image_id"])
    assert len(front.staged()) == 1
    assert front.work() == 1
    third = accepted(client, SMALL)
    assert third["image_id"] != first["image_id"]


def test_only_the_same_request_of_the_same_user_joins(front, client):
    accepted(client, SMALL)
    others = [
        accepted(client, SMALL, bucket="another"),
        accepted(client, SMALL, metadata='{"album": 2}'),
        accepted(client, SMALL, preset="avatar"),
        accepted(client, picture((21, 20), "PNG")),
        accepted(front.client("somebody else"), SMALL),
    ]
    assert len({answer["job_id"] for answer in others}) == len(others)
    assert front.work() == 1 + len(others)


def test_without_joining_the_same_picture_twice_is_two_jobs(make_front):
    client = make_front(join_duplicates=False).client()
    assert accepted(client, SMALL)["job_id"] != accepted(client, SMALL)["job_id"]


def test_a_result_that_is_there_is_used_again_where_that_is_asked_for(front, client):
    first = accepted(client, SMALL)
    front.work()
    again = accepted(client, SMALL, reuse="true")
    assert again["job_id"] == first["job_id"]
    assert client.get(f"{again['status_url']}/result").status_code == 200
    assert front.staged() == []
    client.delete(f"/api/v1/images/{first['image_id']}")
    assert accepted(client, SMALL, reuse="true")["job_id"] != first["job_id"]


@pytest.mark.parametrize(("field", "text"), [("priority", "urgent"), ("reuse", "maybe")])
def test_a_field_that_means_nothing_is_refused(front, client, field, text):
    assert_refused(upload(client, SMALL, **{field: text}), 422, "invalid_request")
    assert front.staged() == []


def test_a_repeated_request_gets_the_same_job_also_when_the_quota_is_used_up(make_front):
    front = make_front(rate_limit_max_uploads=1)
    client = front.client()
    key = {"Idempotency-Key": "order-66"}
    first = upload(client, SMALL, headers=key)
    front.work()
    again = upload(client, SMALL, headers=key)
    assert again.status_code == 202
    assert again.json() == first.json()
    assert again.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.headers
    assert front.staged() == []
    assert_refused(upload(client, SMALL), 429, "rate_limited")


def test_an_idempotency_key_is_for_one_request(front, client):
    key = {"Idempotency-Key": "order-66"}
    assert upload(client, SMALL, headers=key).status_code == 202
    other = upload(client, picture((21, 20), "PNG"), headers=key)
    assert_refused(other, 422, "idempotency_key_reused")
    assert len(front.staged()) == 1
    assert upload(front.client("somebody else"), SMALL, headers=key).status_code == 202


@pytest.mark.parametrize("key", ["k" * 256, "tab\tinside"])
def test_an_idempotency_key_has_a_form(front, client, key):
    assert upload(client, SMALL, headers={"Idempotency-Key": key}).status_code == 422
    assert front.staged() == []


def test_a_callback_is_refused_where_none_can_be_signed(front, client):
    answer = upload(client, SMALL, callback_url="https://example.com/hook")
    error = assert_refused(answer, 422, "invalid_request")
    assert "WEBHOOK_SECRET" in error["message"]
    assert front.staged() == []
