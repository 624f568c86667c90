"""Objects in S3, or in what speaks its language. Only this folder, and `s3_images`, know boto3."""

from image_processor.storage.s3.client import S3Options
from image_processor.storage.s3.objects import S3Storage
from image_processor.storage.s3.writing import WriteTerms

__all__ = ["S3Options", "S3Storage", "WriteTerms"]
