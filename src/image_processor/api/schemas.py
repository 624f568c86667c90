"""The bodies of the HTTP answers, with the names that the interface promises."""

from pydantic import BaseModel, Field

from image_processor.jobs.states import Status
from image_processor.jobs.values import Image, Job, StoredVariant
from image_processor.service import Finished, ImageService, choose_variant

EXAMPLE_ID = "5f0c3c3e-8f4e-4d8e-9d0a-2f9f8f3b7c11"
EXAMPLE_URL = f"/storage/my-photos/processed/medium/{EXAMPLE_ID}_medium.webp"
EXAMPLE_TIMES = ["2026-11-08T14:00:00.000Z", "2026-11-08T14:00:01.204Z"]
"""When something began, and when it was over."""


class UploadAccepted(BaseModel):
    """The answer to an upload."""

    job_id: str = Field(examples=[EXAMPLE_ID])
    image_id: str = Field(examples=[EXAMPLE_ID])
    status_url: str = Field(examples=[f"/api/v1/images/jobs/{EXAMPLE_ID}"])
    message: str = "Upload accepted. Processing initiated."


class JobStatus(BaseModel):
    """How a job goes."""

    job_id: str = Field(examples=[EXAMPLE_ID])
    image_id: str = Field(examples=[EXAMPLE_ID])
    status: Status = Field(examples=["completed"])
    created_at: str = Field(examples=EXAMPLE_TIMES[:1])
    completed_at: str | None = Field(default=None, examples=EXAMPLE_TIMES[1:])
    error: str | None = Field(
        default=None, description="Why the last attempt failed, as a sentence.", examples=[None]
    )
    error_code: str | None = Field(default=None, examples=[None])
    attempts: int = Field(description="Attempts so far.", examples=[1])
    progress: int = Field(
        ge=0, le=100, description="How much of the present attempt is done, in percent.", examples=[100]
    )


class Size(BaseModel):
    """Width and height in pixels."""

    width: int = Field(examples=[3024])
    height: int = Field(examples=[4032])


class VariantBody(BaseModel):
    """One produced file."""

    width: int = Field(examples=[600])
    height: int = Field(examples=[800])
    aspect_ratio: float = Field(description="Width divided by height, to four places.", examples=[0.75])
    format: str = Field(examples=["webp"])
    size_bytes: int = Field(examples=[48_230])


class ResultMetadata(BaseModel):
    """What is known of the picture."""

    dominant_color: str = Field(examples=["#3A5F8C"])
    original_dimensions: Size
    variants: dict[str, VariantBody] = Field(
        examples=[
            {
                "medium": {
                    "width": 600,
                    "height": 800,
                    "aspect_ratio": 0.75,
                    "format": "webp",
                    "size_bytes": 48_230,
                }
            }
        ]
    )


class ImageResult(BaseModel):
    """A processed image with all its variants."""

    image_id: str = Field(examples=[EXAMPLE_ID])
    status: Status = Status.COMPLETED
    urls: dict[str, str] = Field(examples=[{"medium": EXAMPLE_URL}])
    metadata: ResultMetadata
    completed_at: str = Field(examples=EXAMPLE_TIMES[1:])
    client_metadata: dict[str, object] = Field(
        default_factory=dict,
        description="What came along with the upload, as it came.",
        examples=[{"album": "summer"}],
    )


class ImageVariant(VariantBody):
    """One variant of one image."""

    image_id: str = Field(examples=[EXAMPLE_ID])
    size: str = Field(examples=["medium"])
    url: str = Field(examples=[EXAMPLE_URL])
    dominant_color: str = Field(examples=["#3A5F8C"])


class ImageBatch(BaseModel):
    """One variant each of several images."""

    images: list[ImageVariant]
    not_found: list[str] = Field(
        description="Ids that do not exist, are not yours, or have not completed.", examples=[[]]
    )


class Health(BaseModel):
    """Whether the service can do its work."""

    status: str = Field(examples=["healthy"])
    service: str = Field(examples=["image-processor"])
    version: str = Field(examples=["1.0.0"])
    database: str = Field(examples=["ok"])
    storage: str = Field(examples=["ok"])


class Performance(BaseModel):
    """The last 24 hours."""

    completed_24h: int = Field(examples=[1204])
    avg_processing_time_seconds: float | None = Field(examples=[0.84])


class StorageTotals(BaseModel):
    """Everything there is."""

    total_images: int = Field(examples=[20_431])
    total_jobs: int = Field(examples=[20_433])


class WorkerTotals(BaseModel):
    """The workers, whatever carries their hints; the name of the field is the interface's."""

    active_workers: int = Field(description="Worker processes heard of within the last minute.", examples=[2])
    active_tasks: int = Field(description="Jobs being processed.", examples=[3])


class HealthStatistics(BaseModel):
    """The service in numbers."""

    status_breakdown: dict[Status, int] = Field(
        examples=[{"completed": 20_401, "failed": 29, "processing": 3}]
    )
    performance_24h: Performance
    storage: StorageTotals
    celery: WorkerTotals


class FailedJob(JobStatus):
    """A job that failed."""

    status: Status = Field(examples=["failed"])
    error: str | None = Field(default=None, examples=["The image is truncated or damaged."])
    error_code: str | None = Field(default=None, examples=["corrupt_image"])
    user_id: str = Field(examples=["me"])
    reason: str | None = Field(examples=["rejected"])


class FailedJobs(BaseModel):
    """The newest failed jobs first."""

    failed_jobs: list[FailedJob]
    count: int = Field(examples=[1])
    next_cursor: str | None = Field(description="What `cursor` is for the next page; null behind the last.")


def job_body(job: Job) -> JobStatus:
    """A job as its status shows it."""
    return JobStatus(
        job_id=job.job_id,
        image_id=job.image_id,
        status=job.status,
        created_at=job.created_at,
        completed_at=job.completed_at,
        error=job.error,
        error_code=job.error_code,
        attempts=job.attempt_count,
        progress=job.progress,
    )


def failed_job(job: Job) -> FailedJob:
    """A failed job as the list of them shows it."""
    return FailedJob(**job_body(job).model_dump(), user_id=job.user_id, reason=job.reason)


def aspect_ratio(variant: StoredVariant) -> float:
    """Width divided by height, to four places."""
    return round(variant.width / variant.height, 4)


def variant_body(variant: StoredVariant) -> VariantBody:
    """A stored variant as the results show it."""
    return VariantBody(
        width=variant.width,
        height=variant.height,
        aspect_ratio=aspect_ratio(variant),
        format=variant.format.value,
        size_bytes=variant.size_bytes,
    )


def image_result(finished: Finished, service: ImageService) -> ImageResult:
    """A finished job as its result shows it."""
    job, image = finished.job, finished.image
    return ImageResult(
        image_id=image.image_id,
        urls={name: service.url(variant) for name, variant in image.variants.items()},
        metadata=ResultMetadata(
            dominant_color=image.dominant_color or "",
            original_dimensions=Size(width=image.width or 0, height=image.height or 0),
            variants={name: variant_body(variant) for name, variant in image.variants.items()},
        ),
        completed_at=job.completed_at or "",
        client_metadata=dict(job.metadata),
    )


def image_variant(image: Image, size: str | None, service: ImageService) -> ImageVariant:
    """One variant of a finished image. Raises NotFoundError for a size that it has not."""
    name, variant = choose_variant(image, size)
    return ImageVariant(
        image_id=image.image_id,
        size=name,
        url=service.url(variant),
        dominant_color=image.dominant_color or "",
        **variant_body(variant).model_dump(),
    )
