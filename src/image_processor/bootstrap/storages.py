"""The settings' storages: where originals wait, and where variants are kept."""

from collections.abc import Callable
from functools import cache, partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from image_processor.cdn import AwsCredentials, Cdn, CloudFront, NoCdn, public_address
from image_processor.errors import ConfigurationError
from image_processor.intake.shared_stage import SharedStage
from image_processor.intake.stage import Stage
from image_processor.settings import MIB, Settings
from image_processor.storage.base import Guards, Storage, UploadAddresses
from image_processor.storage.buckets import Buckets
from image_processor.storage.local import LocalStorage
from image_processor.storage.signed_addresses import SignedAddresses
from image_processor.tokens import upload_secret

if TYPE_CHECKING:
    from image_processor.storage.s3 import S3Storage

OWN_ADDRESS = "/storage/"
UPLOADS = "/api/v1/images/uploads"


def open_stage(settings: Settings) -> Stage:
    """Where uploads wait for their worker, on whichever machine it is. Raises as `open_storage`."""
    if settings.storage_backend == "s3":
        incoming = open_incoming(settings)
        return SharedStage(settings.staging, incoming, min_free_bytes=settings.min_free_bytes)
    return Stage(settings.staging, min_free_bytes=settings.min_free_bytes)


def open_storage(settings: Settings) -> Storage:
    """Where variants are kept. Raises ConfigurationError, MissingExtraError."""
    if settings.storage_backend == "s3":
        return _bucket(settings, settings.s3_bucket, address=_address(settings))
    return LocalStorage(settings.storage, base_url=settings.cdn_url or OWN_ADDRESS)


def open_incoming(settings: Settings) -> Storage:
    """Where bytes wait that are not accepted yet, or not processed. Raises as `open_storage`."""
    if settings.storage_backend == "s3":
        return _bucket(settings, settings.bucket_of_incoming, cache_control="no-store")
    return LocalStorage(settings.incoming)


def open_own_buckets(settings: Settings) -> "list[S3Storage]":
    """The buckets behind both, each once. Raises as `open_storage`."""
    names = dict.fromkeys((settings.s3_bucket, settings.bucket_of_incoming))
    return [_bucket(settings, name) for name in names]


def open_upload_addresses(settings: Settings) -> UploadAddresses:
    """Who signs the addresses of direct uploads into `open_incoming`. Raises as `open_storage`."""
    if settings.storage_backend == "s3":
        from image_processor.storage.s3.presigning import PresignedUploads  # noqa: PLC0415 - an extra

        bucket = _bucket(settings, settings.bucket_of_incoming)
        return PresignedUploads(bucket, settings.s3_direct_upload)
    return SignedAddresses(upload_secret(settings), UPLOADS)


def open_buckets(settings: Settings) -> Callable[[str], Storage]:
    """
    The storage of a bucket that jobs name, or InvalidRequestError.

    Raises ConfigurationError for one of our own, or what is no bucket's name.
    """
    own = {settings.s3_bucket, settings.s3_incoming_bucket} - {""}
    own |= {settings.s3_bucket_original, settings.s3_bucket_visualization}
    return Buckets(settings.s3_job_buckets, own, partial(_job_bucket, settings))


def _job_bucket(settings: Settings, name: str) -> Storage:
    """What jobs write may be replaced; and one bucket's failures say nothing of the others."""
    return _bucket(settings, name, cache_control="", breaker=name)


def open_cdn(settings: Settings) -> Cdn:
    """What keeps copies of variants. Raises MissingExtraError."""
    if not settings.cloudfront_distribution_id:
        return NoCdn()
    # Those for another server than AWS are none for CloudFront.
    credentials = AwsCredentials() if settings.s3_endpoint_url else _credentials(settings)
    return CloudFront(settings.cloudfront_distribution_id, cdn_url=settings.cdn_url, credentials=credentials)


def _credentials(settings: Settings) -> AwsCredentials:
    return AwsCredentials(
        access_key_id=settings.aws_access_key_id,
        secret_access_key=settings.aws_secret_access_key,
        session_token=settings.aws_session_token,
    )


def _bucket(
    settings: Settings,
    name: str,
    *,
    address: Callable[[str], str] | None = None,
    cache_control: str | None = None,
    breaker: str = "",
) -> "S3Storage":
    from image_processor.storage.s3 import S3Options, S3Storage  # noqa: PLC0415 - an extra
    from image_processor.storage.s3.writing import WriteTerms  # noqa: PLC0415

    if not name:
        raise ConfigurationError("STORAGE_BACKEND=s3 needs the name of a bucket: S3_BUCKET.")
    options = S3Options.from_settings(settings)
    terms = WriteTerms(
        cache_control=settings.s3_cache_control if cache_control is None else cache_control,
        sse=settings.s3_sse,
        storage_class=settings.s3_storage_class,
        multipart_threshold_bytes=settings.s3_multipart_threshold_mb * MIB,
    )
    place = breaker or urlsplit(options.endpoint_url).hostname or "s3"
    guards = _guards(place, settings.breaker_fail_max, settings.breaker_reset_seconds)
    return S3Storage(name, options=options, terms=terms, guards=guards, address=address)


@cache
def _guards(place: str, fail_max: int, reset_seconds: float) -> Guards:
    """One pair of breakers for each place: all of a process learn from each other's failures."""
    from image_processor.storage.breaker import Breaker  # noqa: PLC0415 - an extra

    return Guards(
        reading=Breaker(f"{place}, reading", fail_max=fail_max, reset_seconds=reset_seconds),
        writing=Breaker(f"{place}, writing", fail_max=fail_max, reset_seconds=reset_seconds),
    )


def _address(settings: Settings) -> Callable[[str], str]:
    """How the address of a variant in S3 is made from its key."""
    if settings.presigned_url_seconds:
        from image_processor.storage.s3 import S3Options  # noqa: PLC0415 - an extra
        from image_processor.storage.s3.presigning import Presigning  # noqa: PLC0415

        signing = Presigning(settings.s3_bucket, S3Options.from_settings(settings))
        return partial(signing.get, expires_in_seconds=settings.presigned_url_seconds)
    return public_address(settings.cdn_url or OWN_ADDRESS)
