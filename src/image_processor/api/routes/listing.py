"""`GET /api/v1/images`: one's own images page by page. One image, and several by id: `images`."""

from collections.abc import Mapping
from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from image_processor.api.auth import Reader
from image_processor.api.openapi import error_responses, header_references
from image_processor.api.pages import CURSOR_DESCRIPTION, next_link
from image_processor.api.routes.dependencies import Wired
from image_processor.api.schemas import EXAMPLE_ID, EXAMPLE_URL
from image_processor.jobs.listing import MAX_CURSOR_LENGTH, Filter
from image_processor.jobs.states import Status
from image_processor.jobs.values import Image, Job
from image_processor.service import ImageService

PATH = "/api/v1/images"
router = APIRouter(prefix=PATH, tags=["images"])
MAX_BUCKET_LENGTH = 63


class ImageQuery(BaseModel):
    """Which page of which images."""

    model_config = ConfigDict(extra="forbid")

    status: Status | None = Field(default=None, description="Only images whose job has this status.")
    bucket: str | None = Field(
        default=None, max_length=MAX_BUCKET_LENGTH, description="Only images of this bucket."
    )
    limit: int = Field(default=20, ge=1, le=100)
    cursor: str | None = Field(default=None, max_length=MAX_CURSOR_LENGTH, description=CURSOR_DESCRIPTION)

    @property
    def filter(self) -> Filter:
        """The same in the words of the listing."""
        return Filter(statuses=None if self.status is None else [self.status], bucket=self.bucket)


class ListedImage(BaseModel):
    """An image, however far it is."""

    image_id: str = Field(examples=[EXAMPLE_ID])
    job_id: str = Field(examples=[EXAMPLE_ID])
    bucket: str = Field(examples=["my-photos"])
    status: Status = Field(description="Of its job.", examples=["completed"])
    created_at: str = Field(examples=["2026-11-08T14:00:00.000Z"])
    size_bytes: int = Field(
        description="Of the original; 0 while that is still to be fetched.", examples=[2_345_678]
    )
    format: str | None = Field(description="Of the original; null while that is still to be fetched.")
    width: int | None = Field(description="Of the upright original; null until completed, as the next two.")
    height: int | None
    dominant_color: str | None = Field(examples=["#3A5F8C"])
    urls: dict[str, str] = Field(
        description="The address of each variant; none until completed.", examples=[{"medium": EXAMPLE_URL}]
    )


class ImagePage(BaseModel):
    """Some images, the newest first."""

    images: list[ListedImage]
    next_cursor: str | None = Field(description="What `cursor` is for the next page; null behind the last.")


@router.get("", responses=error_responses(422) | {200: header_references("Link")})
def images(response: Response, user: Reader, app: Wired, query: Annotated[ImageQuery, Query()]) -> ImagePage:
    """Your images, the newest first; those that come or go while you turn the pages move nothing."""
    page = app.listing.page(user, query.filter, limit=query.limit, cursor=query.cursor)
    found = app.service.image_rows.images([job.image_id for job in page.jobs], user)
    asked = query.model_dump(mode="json", exclude={"cursor"})
    response.headers.update(next_link(PATH, asked, page.next_cursor))
    return ImagePage(images=_listed(page.jobs, found, app.service), next_cursor=page.next_cursor)


def _listed(jobs: list[Job], found: Mapping[str, Image], service: ImageService) -> list[ListedImage]:
    """In the order of the jobs; without what was deleted between the two readings."""
    return [_body(job, found[job.image_id], service) for job in jobs if job.image_id in found]


def _body(job: Job, image: Image, service: ImageService) -> ListedImage:
    return ListedImage(
        image_id=image.image_id,
        job_id=job.job_id,
        bucket=image.bucket,
        status=image.status,
        created_at=job.created_at,
        size_bytes=image.source_bytes,
        format=image.source_format.value if image.source_format else None,
        width=image.width,
        height=image.height,
        dominant_color=image.dominant_color,
        urls={name: service.url(variant) for name, variant in image.variants.items()},
    )
