"""ImageField: a file field whose picture has variants, a size and a placeholder; made by `production`."""

from collections.abc import Collection, Sequence
from typing import Any

from django.core.checks import CheckMessage
from django.core.exceptions import FieldDoesNotExist, ImproperlyConfigured
from django.core.files.base import File
from django.db import connections, models, router, transaction
from django.db.models import F, Q
from django.db.models.fields.files import FileDescriptor
from django.db.models.functions import Cast
from django.utils.translation import gettext_lazy as _

from image_processor.contrib.django import signals
from image_processor.contrib.django.conf import MadeIn, conf
from image_processor.contrib.django.details import ImageDetails, ImageDetailsField
from image_processor.contrib.django.field_files import ImageFieldFile
from image_processor.contrib.django.files import remove_all
from image_processor.contrib.django.production import (
    SOURCE,
    Place,
    Prepared,
    Stored,
    new_stem,
    prepare,
    store_prepared,
)
from image_processor.contrib.django.rendering import as_validation_error, preset_named
from image_processor.contrib.django.saving import (
    SAVING,
    Change,
    announce_in_bulk,
    changes_of,
    image_fields,
    set_change,
)
from image_processor.contrib.django.uploads import read_upload
from image_processor.errors import RejectedError
from image_processor.pipeline import Preset

TEXT = "_image_processor_text"
PREPARED = "_image_processor_prepared"
"""Of rows that are asked for, and of uploads."""
MAX_COPIES = 100
"""Different pictures that are looked at before a file is removed: copies of one row name the same files."""


class ImageDescriptor(FileDescriptor):
    """Notes which file the row named when it was loaded: what was not changed since is not written."""

    field: "ImageField"

    def __set__(self, instance: models.Model, value: Any) -> None:
        super().__set__(instance, value)
        if self.field.noted_as not in instance.__dict__ or _is_refreshed(instance, value):
            self.field.note(instance)


def _is_refreshed(instance: models.Model, value: Any) -> bool:
    """Whether `value` comes from `refresh_from_db`, which reads into another instance of the same row."""
    if not isinstance(value, ImageFieldFile) or value.instance is instance:
        return False
    return value._committed and instance.pk is not None and value.instance == instance


class ImageField(models.FileField):
    """
    A picture with variants.

    Beside it stands an ImageDetailsField that keeps what is known of the picture, so that a template
    needs no storage and no other query.

    Args:
        variants: a Preset, or the name of one: of this package or of the project's own.
        details: the name of the ImageDetailsField beside it.
        keep_source: whether the file is kept as it was uploaded too, with all that it tells of its owner.
        max_bytes: of an upload; by default the smaller of the project's and the preset's.
    """

    attr_class = ImageFieldFile
    descriptor_class = ImageDescriptor
    description = _("Picture")

    def __init__(
        self,
        *args: Any,
        variants: str | Preset = "avatar",
        details: str = "",
        keep_source: bool = False,
        max_bytes: int | None = None,
        **options: Any,
    ) -> None:
        self.variants = variants
        self.details_name = details
        self.keep_source = keep_source
        self.max_bytes = max_bytes
        options.setdefault("max_length", 255)
        super().__init__(*args, **options)

    @property
    def preset(self) -> Preset:
        """With the limit on bytes that holds here; raises ImproperlyConfigured for an unknown name."""
        preset = preset_named(self.variants) if isinstance(self.variants, str) else self.variants
        allowed = self.max_bytes or min(preset.limits.max_bytes, conf().max_bytes)
        limits = preset.limits.model_copy(update={"max_bytes": allowed})
        return preset.model_copy(update={"limits": limits})

    def check(self, **options: Any) -> list[CheckMessage]:
        """Django's own checks, and those of `checks`."""
        from image_processor.contrib.django.checks import check_field  # noqa: PLC0415 - it knows this module

        return [*super().check(**options), *check_field(self)]

    def deconstruct(self) -> tuple[str, str, Sequence[Any], dict[str, Any]]:
        """What migrations keep: nothing of it changes the column, so presets are no part of it."""
        name, path, args, options = super().deconstruct()
        if options.get("max_length") == 255:
            del options["max_length"]
        else:
            options.setdefault("max_length", 100)
        if self.details_name:
            options["details"] = self.details_name
        return name, path, args, options

    def clean(self, value: Any, model_instance: models.Model | None) -> Any:
        """Decode an upload, so that a form names what is wrong with it; saving does not decode it again."""
        cleaned = super().clean(value, model_instance)
        if isinstance(cleaned, ImageFieldFile) and cleaned and not cleaned._committed:
            self.prepared(cleaned.file)
        return cleaned

    def pre_save(self, model_instance: models.Model, add: bool) -> Any:
        """
        What the column gets; a new picture is made and stored before.

        A row whose picture is as it was loaded keeps what the database has: a worker may have given it
        its variants meanwhile, or somebody else another picture.
        """
        value = self.written(model_instance, add)
        if add and SAVING not in model_instance.__dict__:
            announce_in_bulk(model_instance, self)
        return value

    def written(self, model_instance: models.Model, add: bool) -> Any:
        """What `pre_save` gives; asked as often as there are columns."""
        file = super().pre_save(model_instance, add)
        self.settle(model_instance)
        is_as_loaded = not model_instance._state.adding and self.attname not in changes_of(model_instance)
        return F(self.attname) if is_as_loaded and not add else file

    def get_prep_value(self, value: Any) -> Any:
        """The name; raises ValueError for an upload: `update` and `bulk_update` do not store pictures."""
        if isinstance(value, File) and value and not getattr(value, "_committed", False):
            raise ValueError("A picture is stored by save() or bulk_create(), not by update or bulk_update.")
        return super().get_prep_value(value)

    def formfield(self, **options: Any) -> Any:
        """A form field that looks at the bytes."""
        from image_processor.contrib.django import forms  # noqa: PLC0415 - for those who use forms

        return super().formfield(**{"form_class": forms.ImageField, "preset": self.preset, **options})

    def produce(self, instance: models.Model, content: "File[bytes]") -> Stored:
        """
        Files and details of an upload.

        Raises django's ValidationError, and ImageProcessorError for failures of ours.
        """
        if details_column(self) is None:
            raise ImproperlyConfigured(f"{self} needs an ImageDetailsField beside it, named by `details`.")
        prepared = self.prepared(content)
        stored = store_prepared(prepared, self._new_place(instance), keeps_source=self.keep_source)
        content.__dict__.pop(PREPARED, None)
        return stored

    def _new_place(self, instance: models.Model) -> Place:
        folder = self.generate_filename(instance, "picture.jpg").rpartition("/")[0]
        place = Place(self.storage, new_stem(folder))
        longest = max((variant.name for variant in self.preset.pipeline.variants), key=len)
        if self.max_length and len(place.name(longest, "jpeg")) > self.max_length:
            raise ImproperlyConfigured(f"{self} has too small a max_length for the names of its files.")
        return place

    def prepared(self, content: "File[bytes]") -> Prepared:
        """An upload, decoded; once for each file. Raises as `produce` does."""
        preset, renders = self.preset, conf().variants is MadeIn.REQUEST
        known = content.__dict__.get(PREPARED)
        if isinstance(known, Prepared) and known.preset == preset and bool(known.picture) is renders:
            return known
        try:
            source = read_upload(content, preset.limits.max_bytes)
            prepared = prepare(source, preset, renders=renders)
        except RejectedError as error:
            raise as_validation_error(error, preset) from error
        content.__dict__[PREPARED] = prepared
        return prepared

    def store_upload(self, instance: models.Model) -> None:
        """What was assigned and is not stored yet is; raises as ImageFieldFile.save does."""
        if self.is_deferred_on(instance):
            return
        file = getattr(instance, self.attname)
        if file and not file._committed:
            file.save(file.name, file.file, save=False)
        self.settle(instance)

    def change(self, instance: models.Model, stored: Stored | None) -> None:
        """Give a row another picture, or none, in memory; what it had goes once that is committed."""
        former = self._former(instance)
        self.assign(instance, stored)
        set_change(instance, self, Change(stored.name if stored else "", stored, former))

    def _former(self, instance: models.Model) -> frozenset[str]:
        """What the row names that is changed: as it was loaded, or as an earlier change has it."""
        earlier = changes_of(instance).get(self.attname)
        if earlier:
            given = earlier.stored.details.names if earlier.stored else ()
            return earlier.former | frozenset(given)
        if instance._state.adding or self.is_deferred_on(instance):
            return frozenset()
        noted = instance.__dict__.get(self.noted_as)
        return _names(noted, getattr(instance, self.details_name, None))

    def settle(self, instance: models.Model) -> None:
        """A name that was assigned by hand is a change too: the details are those of another file."""
        if self.is_deferred_on(instance):
            return
        change = changes_of(instance).get(self.attname)
        name, known = self.name_on(instance), change.name if change else instance.__dict__.get(self.noted_as)
        if name == (known or ""):
            return
        former = self._former(instance)
        details = getattr(instance, self.details_name, None)
        if not (isinstance(details, ImageDetails) and name in details.names):
            setattr(instance, self.details_name, None)
        set_change(instance, self, Change(name, None, former - self.names_of(instance)))

    def is_deferred_on(self, instance: models.Model) -> bool:
        """Whether the row was loaded without its picture."""
        return self.attname not in instance.__dict__

    def name_on(self, instance: models.Model) -> str:
        """As it is in memory; empty where there is none, or an upload that is not stored yet."""
        value = instance.__dict__.get(self.attname)
        if isinstance(value, File):
            return (value.name or "") if getattr(value, "_committed", False) else ""
        return str(value or "")

    @property
    def noted_as(self) -> str:
        """The attribute that keeps which file the row named when it was loaded."""
        return f"_{self.attname}_noted"

    def note(self, instance: models.Model) -> None:
        """What is in memory is what the row has."""
        instance.__dict__[self.noted_as] = self.name_on(instance)

    def assign(self, instance: models.Model, stored: Stored | None) -> None:
        """Both columns at once, in memory."""
        setattr(instance, self.attname, stored.name if stored else None)
        setattr(instance, self.details_name, stored.details if stored else None)

    def names_of(self, instance: models.Model) -> frozenset[str]:
        """All files that a row names, as it is in memory."""
        if self.is_deferred_on(instance):
            return frozenset()
        return _names(self.name_on(instance), getattr(instance, self.details_name, None))

    def names_in_database(self, instance: models.Model, using: str | None = None) -> frozenset[str]:
        """All files that the row names in the database, which is asked, and locked within a transaction."""
        if instance.pk is None:
            return frozenset()
        using = using or router.db_for_write(type(instance), instance=instance)
        rows = self.model._base_manager.using(using).filter(pk=instance.pk)
        if transaction.get_connection(using).in_atomic_block:
            rows = self._locked(rows, using)
        found = rows.values_list(self.attname, self.details_name).first()
        return _names(*found) if found else frozenset()

    def _locked(self, rows: "models.QuerySet[Any]", using: str) -> "models.QuerySet[Any]":
        """SQLite has one lock, for whoever writes; who reads first and then writes may be turned away."""
        if transaction.get_connection(using).features.has_select_for_update:
            return rows.select_for_update()
        rows.update(**{self.attname: F(self.attname)})
        return rows

    def remove_unnamed(self, names: frozenset[str], using: str) -> None:
        """
        Remove files that a row named, but those that any row of this table still names, in any database.

        So what was rolled back, what somebody else wrote, what moved to another database, and copies of a
        row all keep their files.
        """
        unnamed = set(names) - {str(self.get_default() or "")}
        for field in image_fields(self.model):
            if unnamed and field.storage == self.storage:
                for alias in _databases_with(field.model, using):
                    unnamed -= field.names_among(unnamed, alias)
        if unnamed:
            remove_all(self.storage, sorted(unnamed))
            signals.picture_removed.send(self.model, field=self, names=frozenset(unnamed))

    def names_among(self, names: Collection[str], using: str) -> frozenset[str]:
        """
        All files of the pictures that rows have among `names`.

        A picture has its variants to itself: rows that share one name the same file. A source that is kept
        may go from one picture to the next, and is looked for in the details.
        """
        every: models.QuerySet[Any] = models.QuerySet(self.model, using=using)  # a base manager may hide some
        rows = every.annotate(**{TEXT: Cast(self.details_name, models.TextField())})
        named = Q(**{f"{self.attname}__in": names})
        for source in (name for name in names if f"_{SOURCE}." in name):
            named |= Q(**{f"{TEXT}__contains": source.rpartition("/")[2]})
        rows = rows.filter(named).order_by()
        found = rows.values_list(self.attname, self.details_name).distinct()[:MAX_COPIES]
        return frozenset[str]().union(*(_names(*each) for each in found))


def _databases_with(model: type[models.Model], using: str) -> list[str]:
    """Those that may have rows of a model, the one that is written to first."""
    others = [name for name in connections if name != using and router.allow_migrate_model(name, model)]
    table = model._meta.db_table
    return [using, *(name for name in others if table in connections[name].introspection.table_names())]


def details_column(field: ImageField) -> ImageDetailsField | None:
    """The column beside an ImageField; None where it is missing or another kind of field."""
    try:
        found = field.model._meta.get_field(field.details_name)
    except FieldDoesNotExist:
        return None
    return found if isinstance(found, ImageDetailsField) else None


def _names(name: Any, details: Any) -> frozenset[str]:
    own = {str(name)} if name else set()
    return frozenset(own | (set(details.names) if isinstance(details, ImageDetails) else set()))
