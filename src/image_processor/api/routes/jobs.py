"""`/jobs`: pictures from anywhere to anywhere, as jobs: submit, look, list, retry, cancel."""

import asyncio
import re
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response

from image_processor.api.auth import Reader, Uploader
from image_processor.api.job_schemas import (
    EXAMPLE_ID,
    JobAccepted,
    JobBody,
    JobPage,
    JobQuery,
    accepted_body,
    job_bodies,
    job_body,
)
from image_processor.api.json_body import read_body
from image_processor.api.lanes import looking
from image_processor.api.openapi import RECEIPT_HEADERS, error_responses, header_references
from image_processor.api.pages import Cursor, next_link
from image_processor.api.rate_limit import receipt_headers
from image_processor.api.routes.dependencies import Service, Wired
from image_processor.api.routes.images import IdempotencyKey
from image_processor.bootstrap import App
from image_processor.errors import NotFoundError
from image_processor.intake.json_text import parse_json
from image_processor.job_submission import MAX_DEPTH, JobRequest, fingerprint, read_request
from image_processor.jobs.values import Receipt
from image_processor.service import ImageService

router = APIRouter(prefix="/jobs", tags=["jobs"])

MAX_BODY_BYTES = 512 * 1024
"""A request is short; a watermark in it may have 256 KiB, which are a third more as base64."""
MAX_FAILED = 500

_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
REQUEST_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": JobRequest.model_json_schema()}},
    }
}


async def known_form(job_id: Annotated[str, Path(examples=[EXAMPLE_ID])]) -> str:
    """An id that a job could have. Raises NotFoundError: whatever else is asked for, it does not exist."""
    if not _ID.fullmatch(job_id):
        raise NotFoundError("There is no such job.")
    return job_id


JobId = Annotated[str, Depends(known_form)]
"""Stands behind the user in a route: who has no token is told that first."""


@router.post(
    "",
    status_code=202,
    responses=error_responses(408, 413, 415, 422, 429, 501, 507)
    | {202: header_references(*RECEIPT_HEADERS, "Location")},
    openapi_extra=REQUEST_BODY,
)
async def submit(
    request: Request, response: Response, user: Uploader, app: Wired, idempotency_key: IdempotencyKey = ""
) -> JobAccepted:
    """
    Ask for a job: checked as far as can be without the picture, and durable, when this answers.

    The same input, operations and output as those of a job that has not come to rest answer with that job.
    """
    body = await read_body(
        request, max_bytes=MAX_BODY_BYTES, timeout_seconds=app.settings.upload_timeout_seconds
    )
    receipt, accepted = await asyncio.to_thread(_submit, app, user, body, idempotency_key)
    response.headers.update(receipt_headers(receipt) | {"Location": accepted.status_url})
    return accepted


def _submit(app: App, user: str, body: bytes, idempotency_key: str) -> tuple[Receipt, JobAccepted]:
    asked = read_request(parse_json(body, max_depth=MAX_DEPTH))
    idempotency = app.service.idempotency(idempotency_key, fingerprint(asked))
    receipt = app.service.submit_job(app.submission.new_job(asked, user_id=user, idempotency=idempotency))
    is_old = receipt.joined or receipt.replayed
    return receipt, accepted_body(receipt, app.jobs.job(receipt.job_id, user) if is_old else None)


@router.get("", responses=error_responses(422) | {200: header_references("Link")})
def jobs(response: Response, user: Reader, app: Wired, query: Annotated[JobQuery, Query()]) -> JobPage:
    """Your jobs, the newest first; those that are submitted while you turn the pages move nothing."""
    page = app.listing.page(user, query.filter, limit=query.limit, cursor=query.cursor)
    asked = query.model_dump(mode="json", exclude={"cursor"})
    response.headers.update(next_link(router.prefix, asked, page.next_cursor))
    return JobPage(jobs=job_bodies(page.jobs, app.service), next_cursor=page.next_cursor)


# Before `/{job_id}`, which would take it for an id.
@router.get("/failed", responses=error_responses(422) | {200: header_references("Link")})
def failed(
    response: Response,
    user: Reader,
    app: Wired,
    limit: Annotated[int, Query(ge=1, le=MAX_FAILED)] = 50,
    cursor: Cursor = None,
) -> list[JobBody]:
    """Your jobs that failed, the latest first; not those that you cancelled or deleted. `Link` leads on."""
    page = app.listing.failed(user, limit=limit, cursor=cursor)
    response.headers.update(next_link(f"{router.prefix}/failed", {"limit": limit}, page.next_cursor))
    return job_bodies(page.jobs, app.service)


@router.get("/{job_id}", responses=error_responses(404))
async def job(user: Reader, job_id: JobId, service: Service) -> JobBody:
    """How a job goes."""
    return await looking(_job, service, user, job_id)


def _job(service: ImageService, user: str, job_id: str) -> JobBody:
    return job_body(service.job(user, job_id), service)


@router.post("/{job_id}/retry", status_code=202, responses=error_responses(404, 409, 429))
def retry(user: Uploader, job_id: JobId, service: Service) -> JobBody:
    """
    Begin a failed job anew, with all its attempts and a new time to live.

    It takes one upload of the rate limit. 409 where the job did not fail or was cancelled, and where the same
    job runs again already: of two calls at once, one gets it.
    """
    return job_body(service.retry(user, job_id), service)


@router.post(
    "/{job_id}/cancel",
    responses=error_responses(404, 409) | {202: {"model": JobBody, "description": "It runs, and will end."}},
)
def cancel(user: Uploader, job_id: JobId, response: Response, service: Service) -> JobBody:
    """
    End a job: 200 where it waited and is over, 202 where it runs and its worker is told with its next beat.

    Asking again is fine. 409 where it completed or failed before.
    """
    cancelled = service.cancel(user, job_id)
    response.status_code = 202 if cancelled.is_live else 200
    return job_body(cancelled, service)
