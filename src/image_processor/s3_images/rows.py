"""What the table of images holds, as values."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class ImageKind(StrEnum):
    """Which of the two buckets an image was meant for."""

    ORIGINAL = "original"
    VISUALIZATION = "visualization"


class ImageStatus(StrEnum):
    """How far an image is. Readers see those that are ready, and no others."""

    UPLOADING = "uploading"
    READY = "ready"
    DELETING = "deleting"


@dataclass(frozen=True, kw_only=True)
class NewImage:
    """An image that is about to be uploaded."""

    session_id: str
    """As the caller gave it."""
    kind: ImageKind
    s3_bucket: str
    s3_key_original: str
    filename: str
    """As the caller gave it."""
    content_type: str
    file_size_bytes: int
    sha256: str
    """Hexadecimal, of the bytes."""
    details: dict[str, Any]
    """What the caller wants to be kept with it."""


@dataclass(frozen=True, kw_only=True)
class S3Image(NewImage):
    """One row."""

    image_id: str
    s3_key_thumbnail: str | None
    status: ImageStatus
    created_at: str
    """ISO 8601, UTC, by the database's clock."""
    updated_at: str


@dataclass(frozen=True)
class Hold:
    """The sole right to write and delete under an image's keys, until its lease ends."""

    image: S3Image
    claim: str


@dataclass(frozen=True)
class InUse:
    """Another one holds the image, or has left it half-way."""

    image: S3Image
    seconds_left: float
    """Until it may be taken over: 0 for now."""
