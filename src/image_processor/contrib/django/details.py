"""What is known of a stored picture, as the row keeps it: a template needs nothing else."""

import json
from enum import StrEnum
from typing import Annotated, Any

from django.core.exceptions import ValidationError as DjangoValidationError
from django.db import models
from django.utils.translation import gettext_lazy as _
from pydantic import Field, ValidationError

from image_processor.pipeline.value import Value

Pixels = Annotated[int, Field(ge=1, le=65_535)]
HexColor = Annotated[str, Field(pattern=r"^#[0-9A-Fa-f]{6}$")]


class State(StrEnum):
    """How far the variants are."""

    PENDING = "pending"
    READY = "ready"
    FAILED = "failed"
    """The picture itself was refused; nothing is tried again by itself."""


class StoredVariant(Value):
    """One variant in Django's storage."""

    name: str
    """As the storage knows it."""
    width: Pixels
    height: Pixels
    bytes: int = Field(ge=0)
    media_type: str


class ImageDetails(Value):
    """One picture: its size upright in pixels, its placeholder, its variants by their names."""

    version: int = 1
    state: State = State.READY
    width: Pixels | None = None
    height: Pixels | None = None
    color: HexColor | None = None
    """The dominant colour, in sRGB."""
    thumbhash: str | None = Field(default=None, max_length=64)
    """ThumbHash in base64: the placeholder, 25 bytes."""
    variants: dict[str, StoredVariant] = Field(default_factory=dict)
    """In the order of the preset."""
    source: str | None = None
    """The name of the file as it was uploaded, where it is kept or waits for its variants."""
    job: str | None = None
    """The service's job, while it works."""
    error: str | None = Field(default=None, max_length=500)
    """A sentence, where the state is `failed`."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of all files that this picture consists of, beside the field's own."""
        own = [variant.name for variant in self.variants.values()]
        return tuple(dict.fromkeys([*own, *([self.source] if self.source else [])]))


class ImageDetailsField(models.TextField):  # type: ignore[type-arg]
    """
    The column beside an ImageField: an ImageDetails as JSON, None where there is no picture.

    Forms and the admin do not show it; only the ImageField writes it.
    """

    description = _("What is known of a picture")

    def __init__(self, *args: Any, **options: Any) -> None:
        options.setdefault("null", True)
        options.setdefault("blank", True)
        options.setdefault("editable", False)
        super().__init__(*args, **options)

    def from_db_value(self, value: str | None, *_: Any) -> ImageDetails | None:
        """Text that cannot be read counts as no details: `image_processor_verify` names such rows."""
        try:
            return ImageDetails.model_validate_json(value) if value else None
        except ValidationError:
            return None

    def to_python(self, value: Any) -> ImageDetails | None:
        """Raises django's ValidationError for what are no details."""
        if value is None or value == "" or isinstance(value, ImageDetails):
            return value or None
        try:
            return ImageDetails.model_validate(json.loads(value) if isinstance(value, str) else value)
        except (ValidationError, ValueError) as error:
            raise DjangoValidationError(_("These are no details of a picture."), code="invalid") from error

    def get_prep_value(self, value: Any) -> str | None:
        """As the database keeps it."""
        details = self.to_python(value)
        return details.model_dump_json(exclude_defaults=True) if details else None

    def value_to_string(self, obj: models.Model) -> str:
        """As fixtures keep it."""
        return self.get_prep_value(self.value_from_object(obj)) or ""

    def pre_save(self, model_instance: models.Model, add: bool) -> Any:
        """The picture goes first, whichever column stands first; what it leaves as it is stays as it is."""
        for field in model_instance._meta.concrete_fields:
            if getattr(field, "details_name", None) == self.name:
                written = getattr(field, "written")(model_instance, add)  # noqa: B009 - fields knows this module
                if isinstance(written, models.F):
                    return models.F(self.attname)
        return super().pre_save(model_instance, add)
