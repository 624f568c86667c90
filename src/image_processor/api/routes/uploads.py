"""`/api/v1/images/uploads`: uploads that pass by this service, or go to an address that it signed."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response

from image_processor.api.auth import Reader, Uploader
from image_processor.api.json_body import MAX_DIGITS, read_body
from image_processor.api.lanes import writing
from image_processor.api.openapi import RECEIPT_HEADERS, error_responses, header_references
from image_processor.api.rate_limit import receipt_headers
from image_processor.api.routes.dependencies import Id, Wired
from image_processor.api.schemas import UploadAccepted
from image_processor.api.upload_schemas import PATH, UploadState, UploadTicket, state_body, ticket_body
from image_processor.direct_uploads import Body, DirectUploads, Ticket, UploadRequest, read_request
from image_processor.errors import (
    FileTooLargeError,
    NotFoundError,
    UnsupportedFormatError,
    UploadTimeoutError,
)
from image_processor.intake.json_text import MAX_METADATA_DEPTH, parse_json
from image_processor.storage.signed_addresses import SignedAddresses, SignedUpload

router = APIRouter(prefix=PATH, tags=["direct uploads"], responses=error_responses(404))

MAX_BODY_BYTES = 128 * 1024
"""Metadata may have 16 KiB, and each of its characters be written as six."""
MAX_DEPTH = 1 + MAX_METADATA_DEPTH
REQUEST_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": UploadRequest.model_json_schema(),
                "example": {"content_type": "image/jpeg", "size_bytes": 2_345_678, "bucket": "my-photos"},
            }
        },
    }
}


async def direct_uploads(app: Wired) -> DirectUploads:
    """What gives addresses out. Raises NotFoundError where MAX_OPEN_UPLOADS is 0."""
    if app.direct_uploads is None:
        raise NotFoundError("There are no direct uploads here; upload to /api/v1/images/upload.")
    return app.direct_uploads


async def signed_addresses(app: Wired) -> SignedAddresses:
    """What signed the addresses of this service. Raises NotFoundError where others take the uploads."""
    if app.signed_addresses is None:
        raise NotFoundError("Direct uploads do not come to this service.")
    return app.signed_addresses


Uploads = Annotated[DirectUploads, Depends(direct_uploads)]
"""Stands behind the user in a route: who has no token is told that first."""


@router.post(
    "",
    status_code=201,
    responses=error_responses(408, 413, 415, 422, 429) | {201: header_references("Location")},
    openapi_extra=REQUEST_BODY,
)
async def open_upload(
    request: Request, response: Response, user: Uploader, uploads: Uploads, app: Wired
) -> UploadTicket:
    """
    Get an address for one picture, which then does not pass through this service's own upload.

    What can be told without the bytes is checked here, and nothing of the quota is taken. Send the file as
    the answer says, then ask `complete_url`. 429 where the quota is used up, and where too many of your
    uploads are not completed.
    """
    body = await read_body(
        request, max_bytes=MAX_BODY_BYTES, timeout_seconds=app.settings.upload_timeout_seconds
    )
    ticket = await asyncio.to_thread(_open, uploads, user, body)
    response.headers["Location"] = f"{PATH}/{ticket.upload_id}"
    return ticket_body(ticket)


def _open(uploads: DirectUploads, user: str, body: bytes) -> Ticket:
    return uploads.open(user, read_request(parse_json(body, max_depth=MAX_DEPTH)))


@router.get("/{upload_id}")
def upload_state(upload_id: Id, user: Reader, uploads: Uploads) -> UploadState:
    """What became of an upload; it is known for a day after its address has expired."""
    return state_body(uploads.state(user, upload_id))


@router.post(
    "/{upload_id}/complete",
    status_code=202,
    responses=error_responses(409, 413, 415, 422, 429, 507) | {202: header_references(*RECEIPT_HEADERS)},
)
async def complete(upload_id: Id, response: Response, user: Uploader, uploads: Uploads) -> UploadAccepted:
    """
    Have what was uploaded checked and processed; it answers as an upload does.

    Asked again it gives the same job, or the same refusal: what is refused is removed, and a new upload has
    to be opened. 409 where nothing was uploaded yet, and where the upload has expired. After a 429, 500, 503
    or 507 it can be asked again.
    """
    receipt = await writing(uploads.complete, user, upload_id)
    response.headers.update(receipt_headers(receipt))
    return UploadAccepted(
        job_id=receipt.job_id, image_id=receipt.image_id, status_url=f"/api/v1/images/jobs/{receipt.job_id}"
    )


SIGNED = {
    "content_type": "image/jpeg",
    "max_bytes": "2345678",
    "expires_at": "1794146400",
    "signature": "q2hvZ8Jx",
}
"""What stands in the address that was given out, to be used as it is."""
SIGNED_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"image/*": {"schema": {"type": "string", "format": "binary"}}},
    },
    "parameters": [
        {"name": name, "in": "query", "required": True, "schema": {"type": "string", "examples": [example]}}
        for name, example in SIGNED.items()
    ],
}


@router.put(
    "/{upload_id}/content",
    status_code=204,
    responses=error_responses(403, 408, 409, 413, 415, 422, 507),
    openapi_extra=SIGNED_BODY,
)
async def content(
    upload_id: Id,
    request: Request,
    uploads: Uploads,
    addresses: Annotated[SignedAddresses, Depends(signed_addresses)],
    app: Wired,
) -> None:
    """
    Take the bytes of one upload: whole, or nothing of them. The address is given out, and needs no token.

    403 where it has expired or was changed; 409 once the upload is completed or refused. Until then, what was
    sent before is replaced.
    """
    signed = addresses.verify(upload_id, request.query_params)
    _check_headers(request, signed)
    body = await asyncio.to_thread(uploads.begin_body, upload_id, signed.max_bytes)
    try:
        await _receive(request, body, app.settings.upload_timeout_seconds)
        await writing(uploads.keep_body, upload_id, body)
    finally:
        body.close()


def _check_headers(request: Request, signed: SignedUpload) -> None:
    content_type = request.headers.get("content-type", "")
    if content_type.strip().lower() != signed.content_type:
        raise UnsupportedFormatError(
            f"The address is for {signed.content_type}: send it as the Content-Type.",
            accepted=[signed.content_type],
        )
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:MAX_DIGITS]) > signed.max_bytes:
        raise FileTooLargeError(
            f"The file is larger than the {signed.max_bytes} bytes that were announced.",
            max_bytes=signed.max_bytes,
        )


async def _receive(request: Request, body: Body, timeout_seconds: float) -> None:
    try:
        await asyncio.wait_for(_feed(request, body), timeout_seconds)
    except TimeoutError as error:
        raise UploadTimeoutError(f"The upload was not complete after {timeout_seconds:g} seconds.") from error


async def _feed(request: Request, body: Body) -> None:
    async for chunk in request.stream():
        body.write(chunk)
