import pytest

from image_processor.testing import sample_images
from image_processor.webhooks import verify
from running_service import upload, wait_for_result
from webhook_receiver import SECRET, Receiver


@pytest.fixture
def receiver():
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.mark.slow
def test_who_uploads_with_a_callback_is_told_and_sees_what_was_sent(start_service, receiver):
    service = start_service(environment={"WEBHOOK_SECRET": SECRET, "PRIVATE_NETWORKS": "127.0.0.0/8"})
    with service.client() as client:
        accepted = upload(client, sample_images.photo(320, 240), callback_url=receiver.url).json()
        result = wait_for_result(client, accepted["job_id"]).json()
        (request,) = receiver.wait_for(1)
        path = f"/jobs/{accepted['job_id']}/deliveries"
        service.wait_for(
            lambda: client.get(path).json()["deliveries"][0]["status"] == "delivered", "the delivery"
        )
        (delivery,) = client.get(path).json()["deliveries"]
    assert request.event_id == delivery["delivery_id"]
    assert (delivery["attempts"], delivery["response_status"]) == (1, 204)
    event = verify(SECRET, request.headers, request.body)
    assert event["type"] == "job.completed"
    assert event["data"]["job_id"] == accepted["job_id"]
    assert event["data"]["urls"] == result["urls"]
