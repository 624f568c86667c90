"""
Which region a bucket is in.

boto3 itself follows a bucket to its region, at custom endpoints too; what has to know the region beforehand,
such as a signed address, asks here.
"""

import threading
from collections import OrderedDict
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from image_processor.errors import BucketMissingError
from image_processor.storage.s3.client import S3Options, client_for, translated

with suppress(ModuleNotFoundError):  # `client_for` says so to whoever wants to use it
    from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

MAX_KNOWN = 1024
"""Buckets whose region a process remembers."""
REGION_HEADER = "x-amz-bucket-region"


class Regions:
    """Which region each bucket is in; asked once for each, and safe for threads."""

    def __init__(self, max_known: int = MAX_KNOWN) -> None:
        self._max_known = max_known
        self._known: OrderedDict[tuple[S3Options, str], str] = OrderedDict()
        self._turn = threading.Lock()

    def region_of(self, bucket: str, options: S3Options) -> str:
        """
        The region of a bucket at the place of these options; the options' own where the place names none.

        S3 tells it even where it refuses us the bucket. Raises BucketMissingError, and StorageDownError where
        the place cannot be asked.
        """
        place = (options, bucket)
        with self._turn:
            if place in self._known:
                self._known.move_to_end(place)
                return self._known[place]
        client = client_for(options)
        region = _asked(client, bucket) or client.meta.region_name
        with self._turn:
            self._known[place] = region
            while len(self._known) > self._max_known:
                self._known.popitem(last=False)
        return region

    def options_for(self, bucket: str, options: S3Options) -> S3Options:
        """The same place, as the bucket's region wants it; raises as `region_of`."""
        return replace(options, region=self.region_of(bucket, options))


regions = Regions()
"""The process's own."""


def _asked(client: "S3Client", bucket: str) -> str | None:
    with translated("find a bucket"):
        try:
            return _told(client.head_bucket(Bucket=bucket))
        except ClientError as error:
            answer: Any = error.response
            match answer["ResponseMetadata"]["HTTPStatusCode"], _told(answer):
                case 404, _:
                    raise BucketMissingError("There is no such bucket.") from error
                case ((301 | 400 | 403), region):
                    return region
                case _:
                    raise


def _told(answer: Any) -> str | None:
    headers: dict[str, str] = answer["ResponseMetadata"]["HTTPHeaders"]
    return headers.get(REGION_HEADER) or None
