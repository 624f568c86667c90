"""`/images`: upload a picture, and get square thumbnails of it and itself optimised."""

import asyncio

from fastapi import APIRouter, Request, Response

from image_processor.api.auth import Reader, Uploader
from image_processor.api.errors import PlainRefusals
from image_processor.api.lanes import writing
from image_processor.api.multipart import check_declared_length, read_upload
from image_processor.api.openapi import (
    PLAIN_REFUSALS,
    RECEIPT_HEADERS,
    error_responses,
    header_references,
)
from image_processor.api.rate_limit import receipt_headers
from image_processor.api.routes.dependencies import Id, Service, Wired
from image_processor.api.routes.images import IdempotencyKey
from image_processor.api.thumbnail_schemas import (
    PATH,
    ThumbnailImage,
    ThumbnailUpload,
    image_body,
    upload_body,
)
from image_processor.api.upload_form import FILE, JOB_FIELDS, form_body, read_submission
from image_processor.errors import InvalidRequestError, NotFoundError

PRESET = "thumbnails"
BUCKET = "images"
"""Stands in the rows; the keys of the preset begin with it."""

router = APIRouter(
    prefix=PATH,
    tags=["thumbnails"],
    route_class=PlainRefusals,
    responses=PLAIN_REFUSALS,
)


@router.post(
    "/upload",
    status_code=202,
    responses=error_responses(408, 429, 507) | {202: header_references(*RECEIPT_HEADERS, "Location")},
    openapi_extra=form_body({"image": FILE, **JOB_FIELDS}, "image"),
)
async def upload_image(
    request: Request, response: Response, user: Uploader, app: Wired, idempotency_key: IdempotencyKey = ""
) -> ThumbnailUpload:
    """
    Take a JPEG, PNG or WebP in: at most 10 MB, and 100 x 100 to 10000 x 10000 pixels.

    Checked and durable when this answers; its thumbnails are made soon after. Whatever is wrong with the
    picture is 400 with the reason.
    """
    service = app.service
    limits = service.limits_for(PRESET)
    check_declared_length(request, limits.max_bytes)
    file = await asyncio.to_thread(service.open_upload, user, idempotency_key, limits)
    form = await read_upload(
        request,
        file,
        file_field="image",
        max_bytes=limits.max_bytes,
        timeout_seconds=app.settings.upload_timeout_seconds,
    )
    try:
        submission = read_submission(
            user, {**form.fields, "bucket": BUCKET, "preset": PRESET}, idempotency_key
        )
    except InvalidRequestError:
        service.discard(form.original)
        raise
    receipt = await writing(service.submit, form.original, submission)
    body = upload_body(receipt.image_id, form.original)
    response.headers.update(receipt_headers(receipt) | {"Location": body.status_url})
    return body


@router.get("/{upload_id}", responses=error_responses(404))
def uploaded_image(upload_id: Id, user: Reader, service: Service) -> ThumbnailImage:
    """How an upload stands, and once it is complete the address of each size in each format."""
    tracked = service.tracked_image(user, upload_id)
    if tracked.job.preset != PRESET:
        raise NotFoundError("There is no such image.")
    return image_body(tracked, service.intake.presets[PRESET].pipeline, service)
