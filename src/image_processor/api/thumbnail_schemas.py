"""The bodies of `/images`: an upload with its thumbnails, in the names and states of that interface."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from image_processor.api.schemas import EXAMPLE_ID, Size
from image_processor.intake.stage import StagedOriginal
from image_processor.jobs.states import Status
from image_processor.jobs.values import StoredVariant
from image_processor.pipeline import Pipeline
from image_processor.service import ImageService, Tracked

PATH = "/images"
FORMATS = ["jpeg", "png", "webp"]

PublicStatus = Literal["pending", "processing", "complete", "failed"]
STATUSES: Mapping[Status, PublicStatus] = {
    Status.PENDING: "pending",
    Status.PROCESSING: "processing",
    Status.RETRYING: "pending",
    Status.COMPLETED: "complete",
    Status.FAILED: "failed",
}

Made = TypeVar("Made")
BySize = dict[str, dict[str, Made]]
"""By size, then by format."""


class Camel(BaseModel):
    """A body whose names are in camel case."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class ThumbnailUpload(Camel):
    """The answer to an upload."""

    upload_id: str = Field(examples=[EXAMPLE_ID])
    original_size: int = Field(description="In bytes.", examples=[2_345_678])
    dimensions: Size = Field(description="In pixels, as stored: before the orientation that EXIF may tell.")
    format: str = Field(examples=FORMATS)
    status_url: str = Field(examples=[f"{PATH}/{EXAMPLE_ID}"])


class ThumbnailFile(Camel):
    """One produced file."""

    width: int = Field(examples=[150])
    height: int = Field(examples=[150])
    size_bytes: int = Field(examples=[5310])


class ThumbnailMetadata(Camel):
    """What is known of the picture."""

    original_size: int = Field(description="Of what was uploaded, in bytes.", examples=[2_345_678])
    format: str = Field(examples=FORMATS)
    dimensions: Size | None = Field(description="Of the upright picture; null until it is complete.")
    dominant_color: str | None = Field(description="Null until it is complete.", examples=["#3A5F8C"])
    files: BySize[ThumbnailFile] = Field(
        description="By size, then by format; empty until it is complete.",
        examples=[{"small": {"jpeg": {"width": 150, "height": 150, "sizeBytes": 5310}}}],
    )
    client_metadata: dict[str, object] = Field(
        description="What came along with the upload, as it came.", examples=[{"album": "summer"}]
    )


class ThumbnailImage(Camel):
    """An upload and what has become of it."""

    upload_id: str = Field(examples=[EXAMPLE_ID])
    status: PublicStatus = Field(examples=["complete"])
    progress: int = Field(
        ge=0, le=100, description="How much of the present attempt is done, in percent.", examples=[100]
    )
    urls: BySize[str] = Field(
        description="By size (`original`, `small`, `medium`, `large`), then by format; empty until complete.",
        examples=[{"small": {"jpeg": f"/storage/images/{EXAMPLE_ID}/small.jpeg"}}],
    )
    metadata: ThumbnailMetadata
    error: str | None = Field(description="Why it failed, as a sentence.", examples=[None])
    error_code: str | None = Field(description="The same as a word for programs.", examples=[None])
    created_at: str = Field(examples=["2026-11-08T14:00:00.000Z"])
    completed_at: str | None = Field(
        description="When it came to rest, whichever way.", examples=["2026-11-08T14:00:01.204Z"]
    )


def upload_body(upload_id: str, original: StagedOriginal) -> ThumbnailUpload:
    """An upload that was taken in."""
    header = original.header
    return ThumbnailUpload(
        upload_id=upload_id,
        original_size=original.size_bytes,
        dimensions=Size(width=header.width, height=header.height),
        format=original.format.value,
        status_url=f"{PATH}/{upload_id}",
    )


def image_body(tracked: Tracked, pipeline: Pipeline, service: ImageService) -> ThumbnailImage:
    """An upload as its user sees it; `pipeline` is the one that its preset has now."""
    job, image = tracked.job, tracked.image
    is_at_rest = image.status in (Status.COMPLETED, Status.FAILED)
    has_failed = image.status is Status.FAILED
    sizes = {variant.name: variant.key_name or variant.name for variant in pipeline.variants}
    files = {name: _file_body(variant) for name, variant in image.variants.items()}
    urls = {name: service.url(variant) for name, variant in image.variants.items()}
    return ThumbnailImage(
        upload_id=image.image_id,
        status=STATUSES[image.status],
        progress=0 if STATUSES[image.status] == "pending" else job.progress,
        urls=_by_size(urls, image.variants, sizes),
        metadata=ThumbnailMetadata(
            original_size=image.source_bytes,
            format="" if image.source_format is None else image.source_format.value,
            dimensions=_dimensions(tracked),
            dominant_color=image.dominant_color,
            files=_by_size(files, image.variants, sizes),
            client_metadata=dict(job.metadata),
        ),
        error=job.error if has_failed else None,
        error_code=job.error_code if has_failed else None,
        created_at=image.created_at,
        completed_at=job.completed_at if is_at_rest else None,
    )


def _file_body(variant: StoredVariant) -> ThumbnailFile:
    return ThumbnailFile(width=variant.width, height=variant.height, size_bytes=variant.size_bytes)


def _dimensions(tracked: Tracked) -> Size | None:
    width, height = tracked.image.width, tracked.image.height
    return None if width is None or height is None else Size(width=width, height=height)


def _by_size(
    made: Mapping[str, Made], variants: Mapping[str, StoredVariant], sizes: Mapping[str, str]
) -> BySize[Made]:
    found: BySize[Made] = defaultdict(dict)
    for name, value in made.items():
        found[sizes.get(name, name)][variants[name].format.value] = value
    return dict(found)
