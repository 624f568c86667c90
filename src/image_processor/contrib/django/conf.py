"""Conf: the project's `IMAGE_PROCESSOR` setting as one typed value. Nothing else here reads it."""

from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from pydantic import Field, SecretStr, ValidationError, model_validator

from image_processor.pipeline.value import Value, describe_faults

SETTING = "IMAGE_PROCESSOR"
MIB = 1024 * 1024
Seconds = Annotated[float, Field(ge=0, le=86_400)]


class MadeIn(StrEnum):
    """Where the variants of a field are made."""

    REQUEST = "request"
    """Before the row is saved."""
    TASKS = "tasks"
    """By a worker of `django.tasks`, after the commit."""
    CELERY = "celery"
    """By a Celery worker, after the commit."""
    SERVICE = "service"
    """By a running Image Processor, after the commit."""


class Placeholders(StrEnum):
    """What is shown while a picture loads."""

    IMAGE = "image"
    """Its ThumbHash, over its dominant colour: half a kilobyte in the page."""
    COLOR = "color"
    """Its dominant colour."""
    NONE = "none"
    """Nothing, for a Content-Security-Policy without nonces: what is shown is a style."""


class Conf(Value):
    """What a project may set; names in the setting are these in capitals."""

    variants: MadeIn = MadeIn.REQUEST
    max_bytes: int = Field(default=5 * MIB, ge=1)
    """Of an upload, where the field or the service does not say otherwise."""
    background: Annotated[str, Field(pattern=r"^#[0-9A-Fa-f]{6}$")] = "#ffffff"
    """The padding of profile pictures."""
    base_url: Annotated[str, Field(pattern=r"^https?://[^/?#\s]+/?$")] | None = None
    """Such as `https://example.org`: the host of absolute URLs where there is no request to ask."""
    retry_seconds: tuple[Seconds, ...] = (1, 2, 4)
    """The waits between tries after a failure that is not the picture's fault."""
    breaker_failures: int = Field(default=3, ge=1)
    """Failures in a row after which nothing is tried for a while."""
    breaker_seconds: Seconds = 60
    breaker_cache: str = "default"
    """The cache that all processes share; of `CACHES`."""
    presets: Path | None = None
    """A TOML file with presets of the project's own, in the form that the service reads."""
    placeholders: Placeholders = Placeholders.IMAGE
    """In templates, where a tag does not say otherwise."""
    prune_seconds: Seconds = 86_400
    """How old a file that nothing names has to be before it is removed."""
    service_url: str | None = None
    service_token: SecretStr | None = None
    service_webhook_secret: SecretStr | None = None
    """Of `whsec_` and base64, as the service has it."""

    @model_validator(mode="after")
    def _service_is_known(self) -> "Conf":
        if self.variants is MadeIn.SERVICE and not (self.service_url and self.service_token):
            raise ValueError("VARIANTS is 'service', so SERVICE_URL and SERVICE_TOKEN are needed")
        return self


@cache
def conf() -> Conf:
    """
    The project's settings.

    Raises django's ImproperlyConfigured for a name that is not known or a value out of its range.
    """
    return read_conf(getattr(settings, SETTING, {}))


def read_conf(given: Any) -> Conf:
    """A Conf of a dictionary with names in capitals; raises ImproperlyConfigured."""
    if not isinstance(given, dict):
        raise ImproperlyConfigured(f"{SETTING} must be a dictionary.")
    wrong = [name for name in given if not (isinstance(name, str) and name.isupper())]
    if wrong:
        raise ImproperlyConfigured(f"{SETTING}: names are written in capitals, unlike {wrong[0]!r}.")
    try:
        return Conf.model_validate({name.lower(): value for name, value in given.items()})
    except ValidationError as error:
        raise ImproperlyConfigured(f"{SETTING}: {describe_faults(error)}.") from error


def _forget(*, setting: str, **_: Any) -> None:
    if setting == SETTING:
        conf.cache_clear()


setting_changed.connect(_forget, dispatch_uid="image_processor.conf")
