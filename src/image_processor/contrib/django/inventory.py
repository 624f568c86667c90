"""Inventory: which picture columns a project has, and what their rows hold. Files are looked at elsewhere."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from django.apps import apps
from django.core.exceptions import FieldDoesNotExist
from django.db import router
from django.db.models import F, Manager, Model, Q, QuerySet, TextField
from django.db.models.functions import Cast

from image_processor.contrib.django.details import ImageDetails, State
from image_processor.contrib.django.fields import ImageField
from image_processor.errors import NotFoundError

TEXT = "image_processor_text"
"""The details as the database has them, readable or not."""


@dataclass(frozen=True)
class Row:
    """One picture as its row has it, read without the model's own class."""

    field: ImageField
    pk: Any
    name: str
    details: ImageDetails | None
    """None where there are none, or none that can be read."""
    text: str | None

    def __str__(self) -> str:
        return f"{self.field.model._meta.label}.{self.field.name} {self.pk}"

    @property
    def is_described(self) -> bool:
        """Whether the details are those of the file that the row names."""
        return self.details is not None and self.name in self.details.names

    @property
    def state(self) -> State | None:
        """None where nothing is known of the picture."""
        return self.details.state if self.details and self.is_described else None

    @property
    def names(self) -> tuple[str, ...]:
        """All files that the row names, its own first."""
        described = self.details.names if self.details else ()
        return tuple(dict.fromkeys(name for name in (self.name, *described) if name))


def picture_columns(labels: Sequence[str] = ()) -> list[ImageField]:
    """
    The ImageFields of a project, each once; those that `app`, `app.Model` or `app.Model.field` name.

    Raises NotFoundError for a label that stands for none.
    """
    own = [
        field
        for model in apps.get_models()
        for field in model._meta.local_concrete_fields
        if isinstance(field, ImageField)
    ]
    if not labels:
        return own
    chosen = {id(field) for label in labels for field in _labelled(label, own)}
    return [field for field in own if id(field) in chosen]


def _labelled(label: str, own: list[ImageField]) -> list[ImageField]:
    app, _, rest = label.partition(".")
    model_name, _, name = rest.partition(".")
    try:
        models = [apps.get_model(app, model_name)] if rest else list(apps.get_app_config(app).get_models())
        wanted = [model._meta.get_field(name) for model in models] if name else _pictures_of(models)
    except (LookupError, FieldDoesNotExist):
        wanted = []
    found = [field for field in own if any(field is one for one in wanted)]
    if not found:
        raise NotFoundError(
            f"There is no ImageField called {label!r}; write app, app.Model or app.Model.field."
        )
    return found


def _pictures_of(models: list[type[Model]]) -> list[Any]:
    return [field for model in models for field in model._meta.concrete_fields]


def database_of(field: ImageField) -> str:
    """The one that a field's rows are written to."""
    return router.db_for_write(field.model)


def base_manager(field: ImageField) -> Manager[Any]:
    """All rows, those that the model's own manager hides too."""
    return field.model._base_manager.using(database_of(field))  # type: ignore[return-value]


def with_text(field: ImageField) -> QuerySet[Any]:
    """All rows, with their details as text under the name TEXT."""
    return base_manager(field).annotate(**{TEXT: Cast(F(field.details_name), TextField())})


def count_rows(field: ImageField, after: Any = None) -> int:
    """How many rows `read_rows` gives."""
    return _with_picture(field, after).count()


def read_rows(field: ImageField, batch_size: int, after: Any = None) -> Iterator[Row]:
    """The rows with a picture by their primary keys, from behind `after`; they may be changed meanwhile."""
    columns = ("pk", field.attname, field.details_name, TEXT)
    last = after
    while batch := list(_with_picture(field, last).order_by("pk").values_list(*columns)[:batch_size]):
        for pk, name, details, text in batch:
            yield Row(field, pk, str(name or ""), details, text)
        last = batch[-1][0]


def _with_picture(field: ImageField, after: Any) -> QuerySet[Any]:
    has_name = Q(**{f"{field.attname}__isnull": False}) & ~Q(**{field.attname: ""})
    rows = with_text(field).filter(has_name | Q(**{f"{field.details_name}__isnull": False}))
    return rows if after is None else rows.filter(pk__gt=after)
