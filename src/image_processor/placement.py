"""Where variants are stored: their keys, which are the same at every attempt, and their addresses."""

import datetime as dt
from typing import Protocol

from image_processor.errors import ConfigurationError
from image_processor.jobs.values import Image, StoredVariant
from image_processor.pipeline import ImageFormat, Pipeline, Preset
from image_processor.storage.base import Storage
from image_processor.storage.keys import KeyFields, KeyTemplate, check_distinct, variant_fields


class Placed(Protocol):
    """What is known of a job that has, or may have, stored variants."""

    @property
    def image_id(self) -> str:
        """Random, and so the part that makes its keys its own."""

    @property
    def user_id(self) -> str:
        """Whose it is."""

    @property
    def bucket(self) -> str:
        """Where its owner wants it."""

    @property
    def sha256(self) -> str:
        """Of the original."""

    @property
    def created_at(self) -> str:
        """ISO 8601, UTC."""

    @property
    def source_format(self) -> ImageFormat | None:
        """Of the original; None while it was never fetched."""

    @property
    def pipeline(self) -> Pipeline:
        """With the variants."""

    @property
    def key_template(self) -> str:
        """Of its preset, as it was at submit."""


KNOWN_FIELDS = frozenset(
    {"bucket", "date", "ext", "format", "hash", "image_id", "size", "upload_id", "user_id", "variant"}
)
"""What a key template of a preset can be filled with here."""


def check_preset(name: str, preset: Preset) -> None:
    """Raise ConfigurationError where the preset's keys cannot be made, or two variants would share one."""
    template = KeyTemplate(preset.key_template)
    unknown = template.fields() - KNOWN_FIELDS
    if unknown:
        raise ConfigurationError(
            f"The key template of preset {name!r} asks for {', '.join(sorted(unknown))}, which no upload has."
        )
    if not template.fields() & {"image_id", "upload_id"}:
        raise ConfigurationError(
            f"The key template of preset {name!r} has neither {{image_id}} nor {{upload_id}}: uploads would "
            "replace each other's variants."
        )
    check_distinct(template, preset.pipeline.variants, preset.accepts)


def variant_keys(placed: Placed) -> dict[str, str]:
    """The storage key of each variant, by its name; none where the original was never fetched."""
    if placed.source_format is None:
        return {}
    template = KeyTemplate(placed.key_template)
    known = KeyFields(
        hash=placed.sha256,
        date=dt.date.fromisoformat(placed.created_at[:10]),
        image_id=placed.image_id,
        upload_id=placed.image_id,
        user_id=placed.user_id,
        bucket=placed.bucket,
    )
    return {
        variant.name: template.render(variant_fields(variant, placed.source_format, known))
        for variant in placed.pipeline.variants
    }


def variant_url(variant: StoredVariant, storage: Storage) -> str:
    """The address of a variant's bytes; made when read, so that it can change without the rows."""
    return variant.key if is_elsewhere(variant) else storage.url(variant.key)


def variant_urls(image: Image, storage: Storage) -> dict[str, str]:
    """The addresses of an image's variants by their names."""
    return {name: variant_url(variant, storage) for name, variant in image.variants.items()}


def is_elsewhere(variant: StoredVariant) -> bool:
    """Whether it was written to a place that the job named: that is its owner's, and not ours to remove."""
    return "://" in variant.key
