"""`POST /api/v1/images/batch`: several pictures in one form, and an answer for each."""

import asyncio
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from image_processor.api.audit import note_of
from image_processor.api.auth import Uploader
from image_processor.api.errors import ErrorDetail, error_detail
from image_processor.api.lanes import writing
from image_processor.api.multipart import Bounds, FilePart, check_declared_length, read_uploads
from image_processor.api.openapi import RECEIPT_HEADERS, error_responses, header_references
from image_processor.api.rate_limit import limit_headers, receipt_headers
from image_processor.api.routes.dependencies import Wired
from image_processor.api.routes.images import IdempotencyKey
from image_processor.api.schemas import EXAMPLE_ID
from image_processor.api.upload_form import FILE, JOB_FIELDS, TARGET_FIELDS, form_body, read_submission
from image_processor.errors import (
    ImageProcessorError,
    InvalidRequestError,
    RateLimitError,
    UnavailableError,
)
from image_processor.jobs.values import Receipt
from image_processor.service import ImageService, Submission, check_idempotency_key
from image_processor.telemetry import emit

MAX_FILES = 20
FILES: dict[str, Any] = {
    "type": "array",
    "items": FILE,
    "minItems": 1,
    "maxItems": MAX_FILES,
    "description": "The pictures, each a part of this name.",
}

router = APIRouter(prefix="/api/v1/images", tags=["images"])


class BatchEntry(BaseModel):
    """What became of one file."""

    index: int = Field(description="Its place in the form, from 0.", examples=[0])
    filename: str | None = Field(
        description="As the form calls it; nothing is named after it.", examples=["holiday.jpg"]
    )
    status: Literal["accepted", "refused"]
    job_id: str | None = Field(default=None, description="Of an accepted one.", examples=[EXAMPLE_ID])
    image_id: str | None = Field(default=None, description="Of an accepted one.", examples=[EXAMPLE_ID])
    status_url: str | None = Field(
        default=None,
        description="Where its job is to be looked at.",
        examples=[f"/api/v1/images/jobs/{EXAMPLE_ID}"],
    )
    error: ErrorDetail | None = Field(default=None, description="Why it was refused.", examples=[None])


class BatchAccepted(BaseModel):
    """What became of each file, in the order of the form."""

    accepted: int = Field(examples=[1])
    refused: int = Field(examples=[0])
    files: list[BatchEntry]


ANSWERS: dict[int | str, dict[str, Any]] = {
    202: header_references(*RECEIPT_HEADERS),
    207: {
        "model": BatchAccepted,
        "description": "At least one file was refused.",
        **header_references(*RECEIPT_HEADERS),
    },
}


@dataclass
class _Outcome:
    """What became of one file; exactly one of the last two is there."""

    part: FilePart
    receipt: Receipt | None = None
    error: ImageProcessorError | None = None


@router.post(
    "/batch",
    status_code=202,
    responses=ANSWERS | error_responses(408, 413, 422, 429, 507),
    openapi_extra=form_body({"files": FILES, **TARGET_FIELDS, **JOB_FIELDS}, "files", "bucket"),
)
async def upload_batch(
    request: Request, response: Response, user: Uploader, app: Wired, idempotency_key: IdempotencyKey = ""
) -> BatchAccepted:
    """
    Take up to 20 pictures in, each as an upload of its own, with the same fields.

    202 where all were accepted; 207 where at least one was refused: a bad file spoils no other. Each accepted
    file takes one upload of the limit. Where the form itself is refused, nothing of it is kept.
    """
    service = app.service
    max_bytes = MAX_FILES * service.limits.max_bytes
    check_declared_length(request, max_bytes, what="body")
    keys = list(_keys(idempotency_key))
    await asyncio.to_thread(service.check_quota, user, keys[0])
    bounds = Bounds(
        file_field="files",
        max_files=MAX_FILES,
        max_bytes=max_bytes,
        timeout_seconds=app.settings.upload_timeout_seconds,
    )
    form = await read_uploads(request, service.open_file, bounds)
    outcomes = [_Outcome(part, error=part.refusal) for part in form.files]
    try:
        submission = read_submission(user, form.fields)
        service.check_fields(submission)
        for outcome, key in zip(outcomes, keys, strict=False):
            await writing(_submit, service, outcome, replace(submission, idempotency_key=key))
    finally:
        for outcome in outcomes:
            _discard(service, outcome)
    _check_that_something_answered(outcomes)
    note_of(request).refusals.extend(outcome.error for outcome in outcomes if outcome.error)
    response.status_code = 207 if any(outcome.error for outcome in outcomes) else 202
    response.headers.update(_headers(outcomes))
    return _body(outcomes)


def _keys(idempotency_key: str) -> Iterator[str]:
    """A key for each file, which is the same when the request is repeated; empty ones for no key."""
    if idempotency_key:
        check_idempotency_key(idempotency_key)
    for index in range(MAX_FILES):
        named = f"{index}\n{idempotency_key}".encode()
        yield hashlib.sha256(named).hexdigest() if idempotency_key else ""


def _submit(service: ImageService, outcome: _Outcome, submission: Submission) -> None:
    original = outcome.part.original
    if original is None:
        return
    outcome.part.original = None  # the service's now, whatever becomes of it
    try:
        outcome.receipt = service.submit(original, submission)
    except ImageProcessorError as error:
        if error.status == 500 or error.is_private:
            emit("request.failed", path="/api/v1/images/batch", code=error.code, error=str(error))
        outcome.error = error


def _discard(service: ImageService, outcome: _Outcome) -> None:
    """Remove what was never handed to the service."""
    if outcome.part.original is not None:
        service.discard(outcome.part.original)


def _check_that_something_answered(outcomes: list[_Outcome]) -> None:
    """Raise the error that is not the pictures' where none was accepted: the whole can be sent again."""
    errors = [outcome.error for outcome in outcomes]
    if all(errors):
        for error in errors:
            if isinstance(error, UnavailableError):
                raise error


def _headers(outcomes: list[_Outcome]) -> dict[str, str]:
    receipts = [outcome.receipt for outcome in outcomes if outcome.receipt]
    if receipts:
        is_replayed = all(receipt.replayed for receipt in receipts)
        return receipt_headers(replace(receipts[-1], replayed=is_replayed))
    for outcome in outcomes:
        if isinstance(outcome.error, RateLimitError):
            limit = outcome.error.details
            return limit_headers(limit["limit"], limit["remaining"], limit["reset_at"])
    return {}


def _body(outcomes: list[_Outcome]) -> BatchAccepted:
    entries = [_entry(index, outcome) for index, outcome in enumerate(outcomes)]
    accepted = sum(entry.status == "accepted" for entry in entries)
    return BatchAccepted(accepted=accepted, refused=len(entries) - accepted, files=entries)


def _entry(index: int, outcome: _Outcome) -> BatchEntry:
    receipt = outcome.receipt
    if receipt is None:
        error = outcome.error or InvalidRequestError("The file was not taken in.")
        return BatchEntry(
            index=index, filename=outcome.part.name, status="refused", error=error_detail(error)
        )
    return BatchEntry(
        index=index,
        filename=outcome.part.name,
        status="accepted",
        job_id=receipt.job_id,
        image_id=receipt.image_id,
        status_url=f"/api/v1/images/jobs/{receipt.job_id}",
    )
