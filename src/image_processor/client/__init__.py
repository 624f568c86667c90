"""The service over HTTP, for Python programs: ImageProcessorClient, and AsyncImageProcessorClient."""

from image_processor.client.answers import (
    Batch,
    Delivery,
    FailedJob,
    Health,
    Job,
    JobStatus,
    ListedImage,
    Outcome,
    RateLimit,
    Receipt,
    Result,
    Statistics,
    ThumbnailReceipt,
    Thumbnails,
    UploadState,
    UploadTicket,
    Variant,
    VariantFile,
)
from image_processor.client.bodies import Source
from image_processor.client.faces import AsyncImageProcessorClient, ImageProcessorClient
from image_processor.client.refusals import UnexpectedAnswerError, UnreachableError, WaitTimeoutError
from image_processor.client.retries import Retries

__all__ = [
    "AsyncImageProcessorClient",
    "Batch",
    "Delivery",
    "FailedJob",
    "Health",
    "ImageProcessorClient",
    "Job",
    "JobStatus",
    "ListedImage",
    "Outcome",
    "RateLimit",
    "Receipt",
    "Result",
    "Retries",
    "Source",
    "Statistics",
    "ThumbnailReceipt",
    "Thumbnails",
    "UnexpectedAnswerError",
    "UnreachableError",
    "UploadState",
    "UploadTicket",
    "Variant",
    "VariantFile",
    "WaitTimeoutError",
]
