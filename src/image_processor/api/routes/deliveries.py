"""`/jobs/{job_id}/deliveries`: what was sent to a job's callback URL, and sending it again."""

from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import BaseModel, Field

from image_processor.api.auth import Reader, Uploader
from image_processor.api.openapi import error_responses
from image_processor.api.routes.dependencies import Id, Wired
from image_processor.api.schemas import EXAMPLE_ID
from image_processor.errors import NotFoundError
from image_processor.jobs.deliveries import Delivery, DeliveryStatus
from image_processor.webhooks import public_url

EXAMPLE_EVENT_ID = "9c1185a5c5e9fc54612808977ee8f548"

router = APIRouter(prefix="/jobs", tags=["webhooks"], responses=error_responses(404))


AT_REST = (DeliveryStatus.DELIVERED, DeliveryStatus.FAILED)


class DeliveryBody(BaseModel):
    """One event for the receiver of a job's callbacks."""

    delivery_id: str = Field(
        examples=[EXAMPLE_EVENT_ID], description="The `webhook-id` of every attempt and replay."
    )
    job_id: str = Field(examples=[EXAMPLE_ID])
    event_type: str = Field(examples=["job.completed"])
    url: str = Field(
        examples=["https://example.com/hooks/images"],
        description="Without its query, which is where secrets are put.",
    )
    status: DeliveryStatus = Field(examples=["delivered"])
    attempts: int = Field(description="Attempts so far.", examples=[1])
    response_status: int | None = Field(
        default=None, examples=[200], description="What the receiver answered to the last attempt."
    )
    error: str | None = Field(
        default=None, description="Why the last attempt failed, as a sentence.", examples=[None]
    )
    created_at: str = Field(examples=["2026-11-08T14:00:00.000Z"])
    next_attempt_at: str | None = Field(default=None, examples=[None])
    completed_at: str | None = Field(
        default=None, description="When it was accepted, or given up.", examples=["2026-11-08T14:00:00.250Z"]
    )


class Deliveries(BaseModel):
    """The deliveries of a job, the newest first, at most 100."""

    deliveries: list[DeliveryBody]


def delivery_body(delivery: Delivery) -> DeliveryBody:
    """A delivery as its owner sees it."""
    return DeliveryBody(
        delivery_id=delivery.delivery_id,
        job_id=delivery.job_id,
        event_type=delivery.event_type,
        url=public_url(delivery.url),
        status=delivery.status,
        attempts=delivery.attempt_count,
        response_status=delivery.response_status,
        error=delivery.last_error,
        created_at=delivery.created_at,
        next_attempt_at=delivery.next_attempt_at,
        completed_at=delivery.completed_at,
    )


@router.get("/{job_id}/deliveries")
def deliveries(job_id: Id, user: Reader, app: Wired) -> Deliveries:
    """What was, or is to be, sent to the callback URL of a job."""
    app.service.job(user, job_id)
    found = app.deliveries.deliveries(job_id, user)
    return Deliveries(deliveries=[delivery_body(delivery) for delivery in found])


@router.post("/{job_id}/deliveries/{delivery_id}/replay", status_code=202, responses=error_responses(429))
def replay(
    job_id: Id, delivery_id: Annotated[str, Path(examples=[EXAMPLE_EVENT_ID])], user: Uploader, app: Wired
) -> DeliveryBody:
    """
    Send a delivery that was accepted or given up again; one that is still to be sent stays as it is.

    What is sent again takes one upload of the limit: the receiver may be anybody's.
    """
    app.service.job(user, job_id)
    found = app.deliveries.delivery(delivery_id, user)
    if found is None or found.job_id != job_id:
        raise NotFoundError("There is no such delivery.")
    if found.status in AT_REST:
        app.service.charge(user)
    return delivery_body(app.deliveries.replay(delivery_id, user) or found)
