"""The bodies of `/api/v1/images/uploads`: where to upload to, and what became of it."""

from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, Field

from image_processor.api.errors import ErrorDetail
from image_processor.api.schemas import EXAMPLE_ID
from image_processor.direct_uploads import Refusal, Ticket
from image_processor.jobs.uploads import DirectUpload, UploadStatus

PATH = "/api/v1/images/uploads"


class UploadTicket(BaseModel):
    """How to upload one file."""

    upload_id: str = Field(examples=[EXAMPLE_ID])
    method: str = Field(
        description="`PUT`: the file is the body. `POST`: a form of `fields`, the file last, as `file`.",
        examples=["PUT"],
    )
    url: str = Field(
        description="Where to; a path of this service where it begins with `/`. It needs no token.",
        examples=[f"{PATH}/{EXAMPLE_ID}/content?signature=…"],
    )
    fields: dict[str, str] = Field(description="Of the form, as they are.", examples=[{}])
    headers: dict[str, str] = Field(
        description="To be sent as they are.", examples=[{"Content-Type": "image/jpeg"}]
    )
    max_bytes: int = Field(
        description="What the address takes at most: the announced size.", examples=[2_345_678]
    )
    expires_at: str = Field(
        description="Until when the address can be used; `complete` may follow up to 5 minutes later.",
        examples=["2026-11-08T14:15:00.000Z"],
    )
    complete_url: str = Field(
        description="To be asked with POST and your token once the file is there.",
        examples=[f"{PATH}/{EXAMPLE_ID}/complete"],
    )


class UploadState(BaseModel):
    """What became of an upload."""

    upload_id: str = Field(examples=[EXAMPLE_ID])
    status: UploadStatus = Field(examples=["completed"])
    created_at: str = Field(examples=["2026-11-08T14:00:00.000Z"])
    expires_at: str = Field(
        description="Until when the address can be used.", examples=["2026-11-08T14:15:00.000Z"]
    )
    job_id: str | None = Field(description="Of a completed one.", examples=[EXAMPLE_ID])
    image_id: str | None = Field(description="Of a completed one.", examples=[EXAMPLE_ID])
    status_url: str | None = Field(
        description="Where its job is to be looked at.", examples=[f"/api/v1/images/jobs/{EXAMPLE_ID}"]
    )
    error: ErrorDetail | None = Field(description="Why it was refused.", examples=[None])


def ticket_body(ticket: Ticket) -> UploadTicket:
    """The right to upload, as its user sees it."""
    address = ticket.address
    return UploadTicket(
        upload_id=ticket.upload_id,
        method=address.method,
        url=address.url,
        fields=dict(address.fields),
        headers=dict(address.headers),
        max_bytes=ticket.max_bytes,
        expires_at=ticket.expires_at,
        complete_url=f"{PATH}/{ticket.upload_id}/complete",
    )


def state_body(upload: DirectUpload) -> UploadState:
    """An upload as its user sees it."""
    job_id = upload.job_id
    return UploadState(
        upload_id=upload.upload_id,
        status=upload.status,
        created_at=upload.created_at,
        expires_at=_iso(upload.expires_at),
        job_id=job_id,
        image_id=upload.image_id,
        status_url=None if job_id is None else f"/api/v1/images/jobs/{job_id}",
        error=_error(upload),
    )


def _error(upload: DirectUpload) -> ErrorDetail | None:
    if upload.refusal is None or upload.status is not UploadStatus.REFUSED:
        return None
    refusal = Refusal.read(upload.refusal)
    details: dict[str, Any] = dict(refusal.details)
    return ErrorDetail(code=refusal.code, message=refusal.message, details=details)


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
