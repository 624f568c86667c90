"""The service over HTTP, for Python programs: ImageProcessorClient, and AsyncImageProcessorClient."""

from image_processor.client.answers import (
    Batch,
    Job,
    JobStatus,
    RateLimit,
    Receipt,
    Result,
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
    "ImageProcessorClient",
    "Job",
    "JobStatus",
    "RateLimit",
    "Receipt",
    "Result",
    "Retries",
    "Source",
    "UnexpectedAnswerError",
    "UnreachableError",
    "Variant",
    "VariantFile",
    "WaitTimeoutError",
]
