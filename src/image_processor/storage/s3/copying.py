"""Copies from bucket to bucket and from region to region, made by S3 itself."""

from typing import TYPE_CHECKING, Any

from image_processor.errors import ConflictError, NotFoundError
from image_processor.storage.s3.place import Place
from image_processor.storage.s3.reading import SHA256, head
from image_processor.storage.s3.writing import WriteTerms

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client
    from types_boto3_s3.type_defs import HeadObjectOutputTypeDef

PART_BYTES = 64 * 1024 * 1024
"""So that each request is answered well within the time a connection may be silent; S3 takes up to 5 GB."""
PARTS_IN_FLIGHT = 2
KEPT = ("CacheControl", "ContentDisposition", "ContentEncoding", "ContentLanguage", "ContentType", "Metadata")
"""Headers that come along."""


def copy_object(source: tuple[Place, str], target: tuple[Place, str], terms: WriteTerms) -> None:
    """
    Copy one object; what is at the target is never replaced, unless it is the same and stays.

    The copy is of one state of the source: a StorageError where it is replaced meanwhile. Raises
    NotFoundError, ConflictError, StorageDownError.
    """
    found = head(*source)
    if not _is_same(found, target):
        place, key = target
        place.write(
            f"copy to {key!r}", lambda client: _copy(client, source, target, _arguments(found, terms))
        )


def _copy(
    client: "S3Client", source: tuple[Place, str], target: tuple[Place, str], arguments: dict[str, Any]
) -> None:
    from boto3.s3.transfer import TransferConfig  # noqa: PLC0415 - an extra

    config = TransferConfig(
        multipart_threshold=PART_BYTES, multipart_chunksize=PART_BYTES, max_concurrency=PARTS_IN_FLIGHT
    )
    origin, source_key = source
    place, key = target
    client.copy(
        {"Bucket": origin.bucket, "Key": source_key},
        place.bucket,
        key,
        ExtraArgs=arguments,
        SourceClient=origin.client,
        Config=config,
    )


def _arguments(found: "HeadObjectOutputTypeDef", terms: WriteTerms) -> dict[str, Any]:
    kept: dict[str, Any] = {name: value for name, value in found.items() if name in KEPT}
    own = {
        "StorageClass": terms.storage_class,
        "ServerSideEncryption": "AES256" if terms.sse else "",
        "MetadataDirective": "REPLACE",
        "CopySourceIfMatch": found["ETag"],
    }
    return kept | {name: value for name, value in own.items() if value}


def _is_same(found: "HeadObjectOutputTypeDef", target: tuple[Place, str]) -> bool:
    try:
        there = head(*target)
    except NotFoundError:
        return False
    digests = {answer["Metadata"].get(SHA256) or answer["ETag"] for answer in (found, there)}
    if len(digests) == 1 and found["ContentLength"] == there["ContentLength"]:
        return True
    raise ConflictError(f"Something else is already stored under the key {target[1]!r}.")
