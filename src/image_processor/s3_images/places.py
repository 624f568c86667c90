"""Where the service keeps its images, on what terms, and what guards the way: from settings, or given."""

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from image_processor.s3_images.exceptions import ValidationException
from image_processor.settings import MIB, Settings
from image_processor.storage.base import Guard
from image_processor.storage.breaker import Breaker
from image_processor.storage.s3 import S3Options, S3Storage
from image_processor.storage.s3.writing import WriteTerms

MAX_FILE_BYTES = 500 * MIB
CACHE_CONTROL = "private, max-age=3600"
"""An image is for whom an address of it was given to, and gone for him too an hour after its deletion."""

_breakers: dict[tuple[S3Options, int, float], Breaker] = {}
_turn = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class S3ImageTerms:
    """What is allowed, and what holds where nothing is said."""

    expiry_hours: int = 24
    """How long addresses are valid: 1 to 168."""
    max_file_bytes: int = MAX_FILE_BYTES
    other_buckets: frozenset[str] = frozenset()
    """Buckets that may be read from besides the two, such as those of earlier settings."""
    scratch: Path | None = None
    """Where files wait on their way to S3; the system's folder for temporary files where it is not set."""

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Those of the settings."""
        return cls(expiry_hours=settings.s3_presigned_url_expiry_hours)


@dataclass(frozen=True, kw_only=True)
class S3ImagePlaces:
    """
    Two buckets of one S3, and the breaker before them.

    The storages are to have no guards of their own: each call of the service counts once.
    """

    original: S3Storage
    visualization: S3Storage
    breaker: Guard

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """
        Those of the settings; all of a process share one client and one breaker.

        Raises ConfigurationError, and MissingExtraError without the extra `s3`.
        """
        options = S3Options.from_settings(settings)
        terms = WriteTerms(
            sse=settings.s3_sse,
            storage_class=settings.s3_storage_class,
            multipart_threshold_bytes=settings.s3_multipart_threshold_mb * MIB,
        )
        return cls(
            original=S3Storage(settings.s3_bucket_original, options=options, terms=terms),
            visualization=S3Storage(settings.s3_bucket_visualization, options=options, terms=terms),
            breaker=_breaker(options, settings.breaker_fail_max, settings.breaker_reset_seconds),
        )

    def bucket(self, name: str) -> S3Storage:
        """The storage for a bucket that a row names, in the same S3."""
        own = {storage.bucket: storage for storage in (self.visualization, self.original)}
        return own.get(name) or S3Storage(name, options=self.original.options, terms=self.original.terms)

    def readable_bucket(self, name: str, others: frozenset[str]) -> S3Storage:
        """
        The storage for a bucket that a caller names; raises ValidationException for one of somebody else's.

        Without this, whoever chooses the name could read whatever our credentials can.
        """
        if name not in {self.original.bucket, self.visualization.bucket, *others}:
            raise ValidationException("This bucket is none of the service's.", parameter="bucket")
        return self.bucket(name)


def _breaker(options: S3Options, fail_max: int, reset_seconds: float) -> Breaker:
    """One for each place: services that are made for each request learn from each other's failures."""
    with _turn:
        key = (options, fail_max, reset_seconds)
        if key not in _breakers:
            _breakers[key] = Breaker("S3 images", fail_max=fail_max, reset_seconds=reset_seconds)
        return _breakers[key]
