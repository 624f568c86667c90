"""Pictures of sessions in two buckets of S3, with a row for each: the service, its schemas and its table."""

from image_processor.s3_images.exceptions import (
    S3DeleteException,
    S3DownloadException,
    S3PresignException,
    S3UploadException,
    ValidationException,
)
from image_processor.s3_images.places import S3ImagePlaces, S3ImageTerms
from image_processor.s3_images.repository import S3ImageRepository
from image_processor.s3_images.rows import ImageKind, ImageStatus, S3Image
from image_processor.s3_images.schemas import (
    PresignedUrlRequest,
    PresignedUrlResponse,
    S3ImageResponse,
    S3ImageUploadRequest,
)
from image_processor.s3_images.service import S3ImageService

__all__ = [
    "ImageKind",
    "ImageStatus",
    "PresignedUrlRequest",
    "PresignedUrlResponse",
    "S3DeleteException",
    "S3DownloadException",
    "S3Image",
    "S3ImagePlaces",
    "S3ImageRepository",
    "S3ImageResponse",
    "S3ImageService",
    "S3ImageTerms",
    "S3ImageUploadRequest",
    "S3PresignException",
    "S3UploadException",
    "ValidationException",
]
