"""The settings, and the only place that reads the environment and `.env`."""

import json
import os
from functools import cached_property
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from image_processor.errors import ConfigurationError
from image_processor.pipeline import BUILTIN_PRESETS, ImageFormat, Limits, Preset, load_presets, web_preset
from image_processor.pipeline.presets import WEB_SIZES
from image_processor.pipeline.value import describe_faults, faults

EXAMPLE_SECRETS = frozenset(
    {
        "CHANGE_THIS_IN_PRODUCTION",
        "dev-secret-change-in-production",
        "your-secure-random-key-here",
        "your-secret-key",
        "<generated-secret>",
        "changeme",
        "secret",
    }
)
"""Secrets printed in documentation; anybody can sign with them."""
EXAMPLE_BEGINNINGS = (
    *("changeme", "changethis", "replaceme", "replacethis", "replacewith"),
    *("yoursecret", "yoursecure", "yourjwt", "yoursupersecret", "yourlong"),
    *("devsecret", "examplesecret", "generatedsecret", "insertyour", "putyour", "supersecret"),
)
"""How others begin, of which there is no end; letters and digits alone count, in either case."""
LEAST_SECRET_BYTES = 32

ACCEPTABLE = frozenset({ImageFormat.JPEG, ImageFormat.PNG, ImageFormat.WEBP, ImageFormat.GIF})
"""What intake can measure without decoding, and so may be accepted."""

MIB = 1024 * 1024
LOOPBACK_HOSTS = frozenset({"127.0.0.1", "::1", "localhost"})


def _json_or_commas(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith(("[", "{")):
        return json.loads(value)
    return [part.strip() for part in value.split(",") if part.strip()]


class Settings(BaseSettings):
    """
    Everything that can be set; each field is read from the environment variable of its name.

    Sizes named `_mb` are in MiB (1 048 576 bytes). A variable that is empty counts as not set.
    """

    model_config = SettingsConfigDict(
        env_file=".env",
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        allow_inf_nan=False,
    )

    service_name: str = "image-processor"
    version: str | None = None
    """Shown by the health endpoint; the package's own version where it is not set."""
    log_format: Literal["text", "json"] = "text"

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65_535)
    cors_origins: Annotated[tuple[str, ...], NoDecode] = ()
    """Origins that browsers may call from; none by default."""

    data_path: Path = Path("data")
    """The folder under which the three paths below lie where they are not set."""
    database_path: Path | None = None
    storage_path: Path | None = None
    staging_path: Path | None = None
    database_url: str = Field(default="", repr=False)
    """`postgresql://user:password@host/name`; where it is not set, SQLite in the file above."""
    storage_backend: Literal["local", "s3"] = "local"
    cdn_url: str = Field(default="", pattern=r"^(https?://[^?#\s]+)?$")
    """What public addresses begin with, instead of our own `/storage`; keys follow after a slash."""
    cloudfront_distribution_id: str = ""
    """The CloudFront distribution that is told of deleted images; empty for none."""
    presigned_url_seconds: int = Field(default=0, ge=0, le=604_800)
    """With S3: how long the addresses of variants are valid, signed; 0 for addresses of this service."""
    upload_url_seconds: int = Field(default=900, ge=10, le=86_400)
    """How long the address that a direct upload gets is valid."""
    max_open_uploads: int = Field(default=100, ge=0, le=100_000)
    """Direct uploads that one user may have begun and not completed; 0 for no direct uploads."""

    s3_bucket: str = ""
    """Where variants are kept, with `STORAGE_BACKEND=s3`."""
    s3_incoming_bucket: str = ""
    """Where originals wait, under `INCOMING/`; the same bucket where it is not set."""
    s3_job_buckets: Annotated[tuple[str, ...], NoDecode] = ()
    """Buckets that `s3://` inputs and outputs of jobs may name; without any, there are none."""
    aws_region: str = ""
    aws_access_key_id: str = Field(default="", repr=False)
    """With the next two: credentials; where they are not set, those that boto3 finds by itself."""
    aws_secret_access_key: str = Field(default="", repr=False)
    aws_session_token: str = Field(default="", repr=False)
    s3_endpoint_url: str = Field(default="", pattern=r"^(https?://[^?#\s]+)?$")
    """Of MinIO, SeaweedFS, R2, B2 and others; empty for AWS."""
    s3_public_endpoint_url: str = Field(default="", pattern=r"^(https?://[^?#\s]+)?$")
    """The same server as clients see it, for signed addresses; where it differs."""
    s3_addressing_style: Literal["auto", "path", "virtual"] = "auto"
    s3_checksums: Literal["auto", "when_supported", "when_required"] = "auto"
    """Whether boto3 adds checksums of its own; `auto`: with AWS alone, as others may refuse them."""
    s3_sse: bool = False
    """Whether objects are encrypted by S3 with keys of its own (SSE-S3)."""
    s3_storage_class: str = Field(default="", pattern=r"^[A-Z0-9_]{0,40}$")
    s3_cache_control: str = Field(default="public, max-age=31536000, immutable", pattern=r"^[ -~]{0,200}$")
    """Of stored variants, for those who get them from the bucket or a CDN."""
    s3_direct_upload: Literal["post", "put"] = "post"
    """How clients upload directly; `put` for servers without POST policies, such as R2."""
    s3_multipart_threshold_mb: int = Field(default=16, ge=5, le=5000)
    """Files of this size and larger go in parts of 8 MiB, two at a time."""
    s3_connect_timeout_seconds: float = Field(default=3, gt=0, le=60)
    s3_read_timeout_seconds: float = Field(default=20, gt=0, le=600)
    s3_max_attempts: int = Field(default=2, ge=1, le=10)
    """Within one call, the first included."""
    breaker_fail_max: int = Field(default=5, ge=1, le=1000)
    """After so many failures of a storage in a row it is left alone for the time below."""
    breaker_reset_seconds: float = Field(default=60, gt=0, le=3600)

    s3_bucket_original: str = "demeter-photos-original"
    """With the next two: for `S3ImageService` alone."""
    s3_bucket_visualization: str = "demeter-photos-viz"
    s3_presigned_url_expiry_hours: int = Field(default=24, ge=1, le=168)
    min_free_disk_mb: int = Field(default=256, ge=0)
    """Uploads are refused with 507 while the disk has less room than this."""

    jwt_secret_key: str = Field(default="", repr=False)
    """With HS256 and its kin, what tokens are signed with; with any, the addresses of direct uploads."""
    jwt_previous_secrets: Annotated[tuple[str, ...], NoDecode] = Field(default=(), repr=False)
    """Secrets that tokens are still accepted with, and none is signed with any more."""
    jwt_algorithm: Literal["HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "ES256"] = "HS256"
    jwt_public_key: str = ""
    """With RS256, ES256 and their kin: PEM, or the path of a file of it; several keys may stand in it."""
    jwt_jwks_url: str = ""
    """Instead of that: where the issuer publishes its keys (RFC 7517)."""
    jwt_jwks_seconds: float = Field(default=300, ge=10, le=86_400)
    """After so long the keys from there are fetched again."""
    jwt_audience: str = ""
    """What the `aud` of a token has to name; anything will do where it is not set."""
    jwt_issuer: str = ""
    """What the `iss` of a token has to be; anything will do where it is not set."""
    jwt_leeway_seconds: float = Field(default=0, ge=0, le=300)
    """By how much the issuer's clock and ours may differ."""
    auth_required: bool = True
    rate_limit_max_uploads: int = Field(default=50, ge=0, le=1_000_000_000)
    """Uploads per user and window; 0 for no limit."""
    rate_limit_window_minutes: int = Field(default=60, ge=1, le=525_600)

    max_upload_size_mb: float = Field(default=10, ge=0.001, le=4096)
    upload_timeout_seconds: float = Field(default=300, gt=0, le=86_400)
    """A body that is not complete by then is refused."""
    max_megapixels: float = Field(default=120, ge=0.001, le=100_000)
    max_side_pixels: int = Field(default=30_000, ge=1, le=65_535)
    max_frames: int = Field(default=300, ge=1)
    allowed_mime_types: Annotated[tuple[str, ...], NoDecode] = ("image/jpeg", "image/png", "image/webp")
    webp_quality: int = Field(default=85, ge=1, le=100)
    image_sizes: Annotated[dict[str, int], NoDecode] = Field(
        default_factory=lambda: dict(WEB_SIZES), min_length=1, max_length=50
    )
    """Names and widths in pixels of the variants of preset `web`."""
    presets_file: Path | None = None
    """A TOML file with presets of your own."""

    workers: int = Field(default_factory=lambda: os.cpu_count() or 1, ge=1, le=256)
    """Images processed at the same time by one worker process."""
    codec_memory_mb: int = Field(default=3072, ge=256)
    """Private memory at which a codec child's own limit stops it; the built-in presets take up to 2740."""
    lease_seconds: float = Field(default=30, gt=0, le=3600)
    poll_seconds: float = Field(default=0.25, gt=0, le=3600)
    max_retries: int = Field(default=3, ge=0, le=20)
    job_ttl_hours: float = Field(default=24, gt=0, le=87_600)
    join_duplicates: bool = True
    """Whether the same bytes with the same preset join the user's job that still runs."""
    idempotency_hours: float = Field(default=24, gt=0, le=8760)
    """How long the same `Idempotency-Key` gives the same job."""
    retention_days: float = Field(default=14, gt=0, le=36_500)
    """How long rows of failed and deleted images, and the originals of failed ones, are kept."""

    queue_backend: Literal["embedded", "redis", "celery"] = "embedded"
    """What carries the hints to the workers; the jobs themselves are in the database."""
    redis_url: str = Field(default="redis://localhost:6379/0", repr=False)
    celery_broker_url: str = Field(default="", repr=False)
    """Celery's broker, a Redis too; `REDIS_URL` where it is not set."""
    queue_namespace: str = Field(default="image_processor", pattern=r"^[A-Za-z0-9_.:-]{1,80}$")
    """What the names of our keys in Redis begin with."""
    stall_seconds: float = Field(default=60, gt=0, le=3600)
    """A worker that hears nothing for so long while jobs are due looks for them in the database itself."""

    file_roots: Annotated[tuple[Path, ...], NoDecode] = ()
    """Folders in which `file://` inputs and outputs of jobs may lie; without any, there are none."""
    private_networks: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode] = ()
    """Networks inside which inputs may be fetched from and callbacks sent to, though they are not public."""
    fetch_timeout_seconds: float = Field(default=60, gt=0, le=3600)
    """For one whole input from a URL."""
    webhook_secret: str = Field(default="", repr=False)
    """Callbacks are signed with it; `whsec_` and base64 of 24 to 64 bytes. Without one, there are none."""
    webhook_max_retries: int = Field(default=8, ge=0, le=20)
    webhook_timeout_seconds: float = Field(default=15, gt=0, le=120)

    @field_validator(
        *("cors_origins", "allowed_mime_types", "image_sizes", "file_roots", "s3_job_buckets"),
        "jwt_previous_secrets",
        mode="before",
    )
    @classmethod
    def _read_text(cls, value: Any) -> Any:
        return _json_or_commas(value)

    @field_validator("private_networks", mode="before")
    @classmethod
    def _read_networks(cls, value: Any) -> Any:
        return tuple(map(ip_network, _json_or_commas(value)))

    @field_validator("allowed_mime_types")
    @classmethod
    def _are_acceptable(cls, media_types: tuple[str, ...]) -> tuple[str, ...]:
        known = {accepted.media_type for accepted in ACCEPTABLE}
        unknown = [media_type for media_type in media_types if media_type not in known]
        if unknown or not media_types:
            refused = ", ".join(unknown) or "an empty list"
            raise ValueError(f"{refused} cannot be accepted; known are {', '.join(sorted(known))}")
        return media_types

    @field_validator("image_sizes")
    @classmethod
    def _make_variants(cls, sizes: dict[str, int]) -> dict[str, int]:
        for name, width in sizes.items():
            try:
                web_preset({name: width})
            except ValidationError as error:
                raise ValueError(f"{name!r}: {describe_faults(error)}") from error
        return sizes

    @cached_property
    def database(self) -> Path:
        """The SQLite file."""
        return (self.database_path or self.data_path / "processor.db").absolute()

    @cached_property
    def storage(self) -> Path:
        """The folder of the local storage."""
        return (self.storage_path or self.data_path / "storage").absolute()

    @cached_property
    def staging(self) -> Path:
        """The folder in which originals wait for their worker."""
        return (self.staging_path or self.data_path / "staging").absolute()

    @cached_property
    def incoming(self) -> Path:
        """The folder in which direct uploads wait to be accepted, with local storage."""
        return (self.data_path / "incoming").absolute()

    @property
    def bucket_of_incoming(self) -> str:
        """The bucket in which originals and direct uploads wait, with S3."""
        return self.s3_incoming_bucket or self.s3_bucket

    @cached_property
    def accepts(self) -> tuple[ImageFormat, ...]:
        """The formats that an upload may have."""
        return tuple(ImageFormat.from_media_type(media_type) for media_type in self.allowed_mime_types)

    @cached_property
    def limits(self) -> Limits:
        """What intake refuses, whatever the preset."""
        return Limits(
            max_bytes=int(self.max_upload_size_mb * MIB),
            max_pixels=int(self.max_megapixels * 1_000_000),
            max_side=self.max_side_pixels,
            max_frames=self.max_frames,
        )

    @cached_property
    def presets(self) -> dict[str, Preset]:
        """All presets by name: those that ship, `web` as configured, and the user's own."""
        web = web_preset(self.image_sizes, self.webp_quality, accepts=self.accepts, limits=self.limits)
        own = load_presets(self.presets_file, self.limits) if self.presets_file else {}
        return {**BUILTIN_PRESETS, "web": web, **own}

    @property
    def min_free_bytes(self) -> int:
        """The room below which uploads are refused."""
        return self.min_free_disk_mb * MIB

    @cached_property
    def scratch(self) -> Path:
        """The folder in which engines write before the storage takes it."""
        return (self.data_path / "scratch").absolute()

    @property
    def binds_to_loopback(self) -> bool:
        """Whether only this machine can reach the service."""
        return self.host in LOOPBACK_HOSTS

    @property
    def signs_tokens(self) -> bool:
        """Whether tokens are checked with a secret, with which they can be made as well."""
        return self.jwt_algorithm.startswith("HS")

    @property
    def least_secret_bytes(self) -> int:
        """How long a secret has to be: as long as what is signed is hashed to (RFC 7518, 3.2)."""
        return int(self.jwt_algorithm[2:]) // 8 if self.signs_tokens else LEAST_SECRET_BYTES

    def has_known_secret(self) -> bool:
        """Whether one of the secrets is, or begins like, one that is printed in somebody's documentation."""
        return any(map(_is_example, self._secrets()))

    def has_short_secret(self) -> bool:
        """Whether one of the secrets is so short that who has a token might find it by trying."""
        return any(len(secret.encode()) < self.least_secret_bytes for secret in self._secrets())

    def _secrets(self) -> list[str]:
        return [secret for secret in (self.jwt_secret_key, *self.jwt_previous_secrets) if secret]

    def has_own_secret(self) -> bool:
        """Whether a secret is set, and none that everybody knows."""
        return bool(self.jwt_secret_key) and not self.has_known_secret()


def _is_example(secret: str) -> bool:
    letters = "".join(filter(str.isalnum, secret)).lower()
    return secret in EXAMPLE_SECRETS or letters.startswith(EXAMPLE_BEGINNINGS)


def load_settings(**overrides: Any) -> Settings:
    """
    The settings from the environment and `.env`; `overrides` that are not None come first.

    Raises ConfigurationError that names the variables at fault.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        settings = Settings(**given)
        _ = settings.presets
    except ValidationError as error:
        variables = "; ".join(f"{_variable(field)}: {fault}" for field, fault in faults(error))
        raise ConfigurationError(f"These settings are not valid. {variables}.") from error
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"The file .env cannot be read: {error}.") from error
    return settings


def _variable(field: str) -> str:
    """A field as it is spelt in the environment, with what lies inside it as it is."""
    name, dot, inside = field.partition(".")
    return name.upper() + dot + inside
