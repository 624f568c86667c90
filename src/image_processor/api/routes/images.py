"""`/api/v1/images`: upload, jobs and their results, images and their variants."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response

from image_processor.api.audit import Noted
from image_processor.api.auth import Deleter, Reader, Uploader
from image_processor.api.files import FILE_RESPONSES, file_answer
from image_processor.api.lanes import looking, reading, writing
from image_processor.api.multipart import check_declared_length, read_upload
from image_processor.api.openapi import RECEIPT_HEADERS, error_responses, header_references
from image_processor.api.rate_limit import receipt_headers
from image_processor.api.routes.dependencies import Id, Service, Wired
from image_processor.api.schemas import (
    EXAMPLE_ID,
    ImageBatch,
    ImageResult,
    ImageVariant,
    JobStatus,
    UploadAccepted,
    image_result,
    image_variant,
    job_body,
)
from image_processor.api.upload_form import FILE, JOB_FIELDS, TARGET_FIELDS, form_body, read_submission
from image_processor.bootstrap import App
from image_processor.errors import InvalidRequestError, NotFoundError
from image_processor.placement import is_elsewhere
from image_processor.service import MAX_IDEMPOTENCY_KEY, choose_variant

router = APIRouter(prefix="/api/v1/images", tags=["images"])

MAX_BATCH = 50
MAX_ID_LENGTH = 64
PRIVATE = "private, max-age=31536000, immutable"

IdempotencyKey = Annotated[
    str,
    Header(
        alias="Idempotency-Key",
        max_length=MAX_IDEMPOTENCY_KEY,
        description="The same key with the same request gives the same job for 24 hours.",
    ),
]
Size = Annotated[
    str | None,
    Query(max_length=40, description="A variant's name; `medium` if not given.", examples=["medium"]),
]


@router.post(
    "/upload",
    status_code=202,
    responses=error_responses(408, 413, 415, 422, 429, 507) | {202: header_references(*RECEIPT_HEADERS)},
    openapi_extra=form_body({"file": FILE, **TARGET_FIELDS, **JOB_FIELDS}, "file", "bucket"),
)
async def upload(
    request: Request, response: Response, user: Uploader, app: Wired, idempotency_key: IdempotencyKey = ""
) -> UploadAccepted:
    """Take a picture in: checked and durable when this answers, processed soon after."""
    service, settings = app.service, app.settings
    check_declared_length(request, service.limits.max_bytes)
    file = await asyncio.to_thread(service.open_upload, user, idempotency_key)
    form = await read_upload(
        request,
        file,
        file_field="file",
        max_bytes=service.limits.max_bytes,
        timeout_seconds=settings.upload_timeout_seconds,
    )
    try:
        submission = read_submission(user, form.fields, idempotency_key)
    except InvalidRequestError:
        service.discard(form.original)
        raise
    receipt = await writing(service.submit, form.original, submission)
    response.headers.update(receipt_headers(receipt))
    return UploadAccepted(
        job_id=receipt.job_id, image_id=receipt.image_id, status_url=f"/api/v1/images/jobs/{receipt.job_id}"
    )


@router.get("/jobs/{job_id}", responses=error_responses(404))
async def job_status(job_id: Id, user: Reader, service: Service) -> JobStatus:
    """How a job goes."""
    return job_body(await looking(service.job, user, job_id))


@router.get("/jobs/{job_id}/result", responses=error_responses(404, 409, 422))
def job_result(job_id: Id, user: Reader, service: Service) -> ImageResult:
    """The variants: 409 until the job has completed, 422 with the reason when it failed."""
    return image_result(service.result(user, job_id), service)


@router.get("/batch", responses=error_responses(404, 422))
def batch(
    user: Reader,
    service: Service,
    note: Noted,
    image_ids: Annotated[
        str,
        Query(
            max_length=MAX_BATCH * 2 * MAX_ID_LENGTH,
            description="Ids with commas between.",
            examples=[EXAMPLE_ID],
        ),
    ],
    size: Size = None,
) -> ImageBatch:
    """One variant each of up to 50 images; those that are not to be had are listed by id."""
    wanted = list(dict.fromkeys(part.strip() for part in image_ids.split(",") if part.strip()))
    if not 0 < len(wanted) <= MAX_BATCH:
        raise InvalidRequestError(
            f"Between 1 and {MAX_BATCH} image ids can be asked for; there are {len(wanted)}."
        )
    images = service.images(user, wanted)
    found = {image.image_id for image in images}
    note.missing = [image_id for image_id in wanted if image_id not in found]
    return ImageBatch(
        images=[image_variant(image, size, service) for image in images], not_found=list(note.missing)
    )


@router.get("/{image_id}", responses=error_responses(404, 409, 422))
def image(image_id: Id, user: Reader, service: Service, size: Size = None) -> ImageVariant:
    """One variant of an image."""
    return image_variant(service.finished_image(user, image_id).image, size, service)


@router.get("/{image_id}/all", responses=error_responses(404, 409, 422))
def all_variants(image_id: Id, user: Reader, service: Service) -> ImageResult:
    """All variants of an image."""
    return image_result(service.finished_image(user, image_id), service)


@router.head("/{image_id}/direct", include_in_schema=False)
@router.get(
    "/{image_id}/direct",
    response_class=Response,
    responses=FILE_RESPONSES | error_responses(404, 409, 416, 422),
)
async def direct(request: Request, image_id: Id, user: Reader, app: Wired, size: Size = None) -> Response:
    """The bytes of one variant."""
    return await reading(_direct, request, image_id, user, app, size)


def _direct(request: Request, image_id: str, user: str, app: App, size: str | None) -> Response:
    _, variant = choose_variant(app.service.finished_image(user, image_id).image, size)
    if is_elsewhere(variant):
        raise NotFoundError("The image is not kept here: it was written to where its job wanted it.")
    return file_answer(request, app.storage, variant.key, cache_control=PRIVATE)


@router.delete("/{image_id}", status_code=204, responses=error_responses(404))
async def delete(image_id: Id, user: Deleter, service: Service) -> None:
    """Delete an image with all its variants; a job that still runs is cancelled."""
    await writing(service.delete, user, image_id)
