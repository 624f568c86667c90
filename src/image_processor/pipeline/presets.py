"""Pipelines with a name: the three that ship, and the user's own from a TOML file."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, field_validator

from image_processor.errors import ConfigurationError
from image_processor.pipeline.formats import ImageFormat
from image_processor.pipeline.limits import Limits
from image_processor.pipeline.operations import Fit, Operation, Resize
from image_processor.pipeline.outputs import JpegOutput, SourceOutput, WebpOutput
from image_processor.pipeline.pipeline import Pipeline, Variant
from image_processor.pipeline.policies import Optimize, Profile
from image_processor.pipeline.value import Value, describe_faults

WEB_SIZES: Mapping[str, int] = {"thumbnail": 150, "medium": 600, "large": 1200, "original": 4096}
WEB_ACCEPTS = (ImageFormat.JPEG, ImageFormat.PNG, ImageFormat.WEBP)
DEFAULT_KEY_TEMPLATE = "{bucket}/processed/{variant}/{image_id}_{variant}.{ext}"
MIB = 1024 * 1024
DEFAULT_LIMITS = Limits()
TemplateText = Annotated[str, Field(min_length=1, max_length=200)]


class Preset(Value):
    """A pipeline with what it accepts and where its variants are stored."""

    pipeline: Pipeline
    accepts: tuple[ImageFormat, ...] = Field(default=WEB_ACCEPTS, min_length=1)
    limits: Limits = Limits()
    key_template: TemplateText = DEFAULT_KEY_TEMPLATE


def web_preset(
    sizes: Mapping[str, int] = WEB_SIZES,
    quality: int = 85,
    *,
    accepts: tuple[ImageFormat, ...] = WEB_ACCEPTS,
    limits: Limits = DEFAULT_LIMITS,
) -> Preset:
    """
    WebP variants of the given widths in pixels, aspect ratio kept, never enlarged.

    Raises pydantic's ValidationError for a name, a width or a quality (1-100) out of range.
    """
    variants = tuple(
        Variant(name=name, operations=(Resize(width=width),), output=WebpOutput(quality=quality))
        for name, width in sizes.items()
    )
    return Preset(pipeline=Pipeline(variants=variants), accepts=accepts, limits=limits)


def _squares(side: int, name: str) -> tuple[Variant, Variant]:
    cover: tuple[Operation, ...] = (Resize(width=side, height=side, fit=Fit.COVER, allow_enlarge=True),)
    return (
        Variant(name=name, operations=cover, output=SourceOutput()),
        Variant(name=f"{name}-webp", key_name=name, operations=cover, output=WebpOutput()),
    )


def _thumbnails_preset() -> Preset:
    return Preset(
        pipeline=Pipeline(
            variants=(
                Variant(name="original", output=SourceOutput(), never_larger=True, optimize=Optimize.SIZE),
                *_squares(150, "small"),
                *_squares(400, "medium"),
                *_squares(800, "large"),
            )
        ),
        limits=Limits(min_side=100, max_side=10_000),
        key_template="images/{image_id}/{size}.{format}",
    )


def _avatar_preset() -> Preset:
    def padded(side: int) -> tuple[Operation, ...]:
        return (Resize(width=side, height=side, fit=Fit.PAD),)

    return Preset(
        pipeline=Pipeline(
            variants=(
                Variant(name="original", output=JpegOutput()),
                Variant(name="profile", operations=padded(512), output=JpegOutput()),
                Variant(name="thumbnail", operations=padded(128), output=JpegOutput()),
            )
        ),
        accepts=(ImageFormat.JPEG, ImageFormat.PNG, ImageFormat.HEIC),
        limits=Limits(max_bytes=5 * MIB),
        key_template="profile_pictures/{user_id}/{image_id}_{variant}.{ext}",
    )


BUILTIN_PRESETS: Mapping[str, Preset] = {
    "web": web_preset(),
    "thumbnails": _thumbnails_preset(),
    "avatar": _avatar_preset(),
}


class _PresetTable(Value):
    """A preset as TOML writes it: the pipeline's variants stand directly under its name."""

    variants: tuple[Variant, ...] = Field(min_length=1, max_length=50)
    profile: Profile = Profile.SRGB
    linear_light: bool = False
    accepts: tuple[str, ...] = Field(
        default=tuple(accepted.media_type for accepted in WEB_ACCEPTS), min_length=1
    )
    limits: Limits = Limits()
    key_template: TemplateText = DEFAULT_KEY_TEMPLATE

    @field_validator("accepts")
    @classmethod
    def _are_known(cls, media_types: tuple[str, ...]) -> tuple[str, ...]:
        for media_type in media_types:
            ImageFormat.from_media_type(media_type)
        return media_types

    def to_preset(self, limits: Limits) -> Preset:
        """With the service's `limits` where the table says nothing else."""
        accepts = tuple(ImageFormat.from_media_type(media_type) for media_type in self.accepts)
        return Preset(
            pipeline=Pipeline(variants=self.variants, profile=self.profile, linear_light=self.linear_light),
            accepts=accepts,
            limits=limits.model_copy(update=self.limits.model_dump(exclude_unset=True)),
            key_template=self.key_template,
        )


def load_presets(path: Path, limits: Limits = DEFAULT_LIMITS) -> dict[str, Preset]:
    """
    The presets of a TOML file, by name: tables `[presets.NAME]` with `[[presets.NAME.variants]]`.

    Of `limits`, those hold that a preset does not set itself.
    Raises ConfigurationError that names the file, and the preset and the field at fault.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"The presets file {path} cannot be read: {error}") from error
    tables = document.pop("presets", {})
    if document:
        unknown = ", ".join(sorted(document))
        raise ConfigurationError(f"The presets file {path} has {unknown} beside its tables [presets.NAME].")
    if not isinstance(tables, dict) or not tables:
        raise ConfigurationError(f"The presets file {path} has no table [presets.NAME].")
    return {name: _read_preset(path, name, table, limits) for name, table in tables.items()}


def _read_preset(path: Path, name: str, table: Any, limits: Limits) -> Preset:
    try:
        return _PresetTable.model_validate(table).to_preset(limits)
    except ValidationError as error:
        raise ConfigurationError(
            f"The preset {name!r} in {path} is not valid: {describe_faults(error)}."
        ) from error
