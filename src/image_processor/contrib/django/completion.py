"""Completion: a picture that waits gets its variants, its row one swap. It may run any number of times."""

from functools import partial
from typing import cast

from django.apps import apps
from django.core.exceptions import FieldDoesNotExist, ValidationError
from django.db.models import Model, QuerySet
from django.dispatch import Signal
from django.utils.connection import ConnectionDoesNotExist

from image_processor.contrib.django import signals
from image_processor.contrib.django.details import ImageDetails, State
from image_processor.contrib.django.fields import ImageField
from image_processor.contrib.django.files import remove_all, storage_errors
from image_processor.contrib.django.production import Place, Stored, make, new_stem
from image_processor.contrib.django.queues import Pending
from image_processor.contrib.django.saving import once_committed
from image_processor.errors import ImageProcessorError, NotFoundError, RejectedError

MAX_SENTENCE = 500


def complete(pending: Pending) -> bool:
    """
    Make the variants and give them to the row; False where it waits for them no longer.

    Raises ImageProcessorError for failures of ours, after all tries: the row goes on waiting.
    """
    waiting = Waiting.find(pending)
    if waiting is None:
        return False
    field = waiting.field
    try:
        stored = make(waiting.read_source(), field.preset, waiting.place, keeps_source=field.keep_source)
    except RejectedError as error:
        return waiting.refuse(error)
    except FileNotFoundError:
        return waiting.refuse(NotFoundError("The upload is gone."))
    return waiting.swap(stored)


class Waiting:
    """A row that waits for the variants of one source."""

    def __init__(self, pending: Pending, field: ImageField, instance: Model, details: ImageDetails) -> None:
        self.pending = pending
        self.field = field
        self.instance = instance
        self.details = details

    @classmethod
    def find(cls, pending: Pending) -> "Waiting | None":
        """None where the row is gone, has another picture, or has its variants."""
        field = _field_of(pending)
        if field is None:
            return None
        try:
            instance = _rows(pending, field).first()
        except (ValueError, ValidationError, ConnectionDoesNotExist):  # a key, or a database, of another time
            return None
        details = getattr(instance, field.details_name, None) if instance else None
        if instance is None or details is None or details.state is not State.PENDING:
            return None
        return cls(pending, field, instance, details)

    @property
    def place(self) -> Place:
        """A fresh one beside the source: two that complete the same picture do not meet."""
        folder = self.pending.source.rpartition("/")[0]
        return Place(self.field.storage, new_stem(folder))

    def read_source(self) -> bytes:
        """The upload. Raises StorageError, and FileNotFoundError where it is gone."""
        with storage_errors(), self.field.storage.open(self.pending.source) as file:
            return cast("bytes", file.read())

    def swap(self, stored: Stored) -> bool:
        """The row names the variants from now on; what is not named then is removed."""
        if not self._update(stored.name, stored.details):
            remove_all(self.field.storage, sorted(stored.details.names))
            return False
        former = frozenset({self.pending.source})
        once_committed(partial(self.field.remove_unnamed, former, self.pending.using), self.pending.using)
        self._tell(signals.picture_ready)
        return True

    def refuse(self, error: ImageProcessorError) -> bool:
        """The row says why there are no variants; its file stays, until it is replaced."""
        sentence = str(error)[:MAX_SENTENCE]
        details = self.details.model_copy(update={"state": State.FAILED, "error": sentence, "job": None})
        if self._update(self.pending.source, details):
            self._tell(signals.picture_failed, error=sentence)
        return False

    def note_job(self, job: str) -> bool:
        """The row says which job of the service makes its variants, unless it knows more by now."""
        rows = _rows(self.pending, self.field).filter(**{self.field.details_name: self.details})
        changed = {self.field.details_name: self.details.model_copy(update={"job": job})}
        return rows.update(**changed) == 1

    def _update(self, name: str, details: ImageDetails) -> bool:
        changed = {self.field.attname: name, self.field.details_name: details}
        return _rows(self.pending, self.field).update(**changed) == 1

    def _tell(self, signal: Signal, **words: str) -> None:
        once_committed(partial(self._send, signal, words), self.pending.using)

    def _send(self, signal: Signal, words: dict[str, str]) -> None:
        model = type(self.instance)
        instance = model._base_manager.using(self.pending.using).filter(pk=self.pending.pk).first()
        if instance is not None:
            signal.send(model, instance=instance, field=self.field, **words)


def _field_of(pending: Pending) -> ImageField | None:
    """None where there is no such column any more: an order may be older than this version of the project."""
    try:
        found = apps.get_model(pending.model)._meta.get_field(pending.field)
    except (LookupError, ValueError, FieldDoesNotExist):
        return None
    return found if isinstance(found, ImageField) else None


def _rows(pending: Pending, field: ImageField) -> QuerySet[Model]:
    """The row, as long as it names that source."""
    rows = apps.get_model(pending.model)._base_manager.using(pending.using)
    return cast("QuerySet[Model]", rows.filter(pk=pending.pk, **{field.attname: pending.source}))
