"""What goes into the service and comes out of it, as pydantic models."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, field_validator

from image_processor.pipeline.value import describe_faults, faults
from image_processor.s3_images.exceptions import ValidationException
from image_processor.s3_images.names import MAX_NAME_LENGTH, check_readable_key
from image_processor.s3_images.rows import ImageStatus, S3Image

MIN_EXPIRY_HOURS, MAX_EXPIRY_HOURS = 1, 168
"""A week is the most that AWS's signature version 4 allows."""
MAX_METADATA_BYTES = 16 * 1024
"""Of `metadata`, as JSON."""

M = TypeVar("M", bound=BaseModel)


class S3ImageUploadRequest(BaseModel):
    """What a caller says of the file that is uploaded. What can be seen in the bytes must agree with it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    filename: str = Field(min_length=1, max_length=MAX_NAME_LENGTH)
    content_type: str | None = Field(default=None, max_length=100)
    """Such as `image/jpeg`; where it is not given, what the bytes are."""
    session_id: str | None = Field(default=None, min_length=1, max_length=MAX_NAME_LENGTH)
    """The session's again, for requests that are passed on whole."""
    file_size_bytes: int | None = Field(default=None, ge=1)
    upload_source: str = Field(default="api", pattern=r"^[A-Za-z0-9_.-]{1,40}$")
    """Where the file comes from, such as `web` or `mobile`."""
    metadata: dict[str, JsonValue] = Field(default_factory=dict)
    """Kept with the row, such as a user or a place: at most 16 KiB of JSON."""

    @field_validator("metadata")
    @classmethod
    def _is_small(cls, metadata: dict[str, JsonValue]) -> dict[str, JsonValue]:
        # As UTF-8, which not every text of Python's is: what cannot be handed back is not kept.
        size = len(json.dumps(metadata, ensure_ascii=False, allow_nan=False).encode())
        if size > MAX_METADATA_BYTES:
            raise ValueError(f"has {size} bytes as JSON; {MAX_METADATA_BYTES} are allowed")
        return metadata


class PresignedUrlRequest(BaseModel):
    """Which object an address is wanted for, and for how long."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    s3_key: str = Field(min_length=1)
    bucket: str = Field(min_length=1, max_length=63)
    expiry_hours: int | None = Field(default=None, ge=MIN_EXPIRY_HOURS, le=MAX_EXPIRY_HOURS, strict=True)
    """Where it is not given, what the settings say: a day."""

    @field_validator("s3_key")
    @classmethod
    def _is_readable(cls, s3_key: str) -> str:
        return check_readable_key(s3_key)


class PresignedUrlResponse(BaseModel):
    """An address that whoever has it can read one object under, until it expires."""

    model_config = ConfigDict(frozen=True)

    s3_key: str
    bucket: str
    presigned_url: str
    expiry_hours: int
    expires_at: datetime


class S3ImageResponse(BaseModel):
    """An image that is stored."""

    model_config = ConfigDict(frozen=True)

    image_id: str
    session_id: str
    filename: str
    s3_bucket: str
    s3_key_original: str
    s3_key_thumbnail: str | None
    content_type: str
    file_size_bytes: int
    sha256: str
    upload_source: str | None
    metadata: dict[str, JsonValue]
    status: ImageStatus
    created_at: datetime
    presigned_url: str
    expires_at: datetime
    """When that address does."""

    @classmethod
    def of(cls, image: S3Image, address: PresignedUrlResponse) -> Self:
        """The response for a row."""
        names = cls.model_fields.keys() - {"upload_source", "metadata", "presigned_url", "expires_at"}
        return cls(
            **{name: getattr(image, name) for name in names},
            upload_source=image.details.get("upload_source"),
            metadata=image.details.get("metadata", {}),
            presigned_url=address.presigned_url,
            expires_at=address.expires_at,
        )


def validated(model: type[M], given: M | Mapping[str, Any]) -> M:
    """The model of what a caller gave; raises ValidationException that names the fields at fault."""
    try:
        return model.model_validate(given if isinstance(given, model) else dict(given))
    except ValidationError as error:
        field = next((field for field, _ in faults(error)), "")
        raise ValidationException(f"{describe_faults(error)}.", parameter=field) from error
    except (TypeError, ValueError) as error:
        raise ValidationException(f"This is no {model.__name__}.") from error
