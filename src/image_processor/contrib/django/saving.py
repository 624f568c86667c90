"""Saving: how pictures take part when rows are saved and deleted; files follow what is committed."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, cast

from django.db import models, router, transaction
from django.db.models.base import ModelState
from django.db.models.signals import class_prepared, pre_delete

from image_processor.contrib.django import queues, signals
from image_processor.contrib.django.details import State
from image_processor.contrib.django.production import Stored

if TYPE_CHECKING:
    from image_processor.contrib.django.fields import ImageField

CHANGES = "_image_processor_changes"
SAVING = "_image_processor_saving"
"""Attributes of rows."""


@dataclass(frozen=True)
class Change:
    """What a save brings to a picture."""

    name: str
    """What the column gets; empty for none."""
    stored: Stored | None
    """None where there is none any more, or one that was named by hand."""
    former: frozenset[str]
    """The files that go."""


def image_fields(model: type[models.Model]) -> "list[ImageField]":
    """Those of a model, its parents' too."""
    fields = [field for field in model._meta.concrete_fields if hasattr(field, "details_name")]
    return cast("list[ImageField]", fields)


def changes_of(instance: models.Model) -> Mapping[str, Change]:
    """What the next save of a row brings to its pictures, by their columns; kept until it is committed."""
    return cast("Mapping[str, Change]", instance.__dict__.get(CHANGES, {}))


def set_change(instance: models.Model, field: "ImageField", change: Change | None) -> None:
    """What the next save brings to this picture; None for nothing."""
    others = {name: other for name, other in changes_of(instance).items() if name != field.attname}
    instance.__dict__[CHANGES] = {**others, field.attname: change} if change else others


@dataclass(frozen=True)
class Saved:
    """A row when it was saved: whoever copies it next takes its key away."""

    instance: models.Model
    pk: Any
    """None in `bulk_create`, which gives the key later, or never where it ignores conflicts."""
    using: str


def announce(instance: models.Model, fields: "Iterable[ImageField]", using: str) -> None:
    """Once the row is committed: order variants, remove what it had, tell. A rollback forgets all that."""
    announced = instance.__dict__.get(SAVING, [])
    for field in fields:
        change = changes_of(instance).get(field.attname)
        if change and not any(change is each for each in announced):
            announced.append(change)
            for call in (_note_committed, _remove_former, _order_or_tell):
                once_committed(partial(call, field, change, Saved(instance, instance.pk, using)), using)


class _StateInBulk(ModelState):
    """Of a row in `bulk_create` without a transaction: what that sets last is the row's database."""

    def __init__(self, row: models.Model) -> None:
        self.__dict__.update(row._state.__dict__, row=row)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "db":
            self.__class__ = ModelState  # type: ignore[assignment]
            row = self.__dict__.pop("row")
            announce(row, image_fields(type(row)), value)


def announce_in_bulk(row: models.Model, field: "ImageField") -> None:
    """`bulk_create` does not call save(); since Django 6.1 a batch has no transaction of its own."""
    using = router.db_for_write(type(row), instance=row)
    if transaction.get_connection(using).in_atomic_block:
        announce(row, [field], using)
    elif not isinstance(row._state, _StateInBulk):
        row._state = _StateInBulk(row)


def once_committed(call: Callable[[], Any], using: str | None) -> None:
    """Do it after the commit; what fails then is logged, and does not fail what was committed."""

    def run() -> None:  # Django asks for a name, which a partial has not
        call()

    transaction.on_commit(run, using=using, robust=True)


def _note_committed(field: "ImageField", change: Change, saved: Saved) -> None:
    if changes_of(saved.instance).get(field.attname) is change:
        set_change(saved.instance, field, None)
        field.note(saved.instance)


def _remove_former(field: "ImageField", change: Change, saved: Saved) -> None:
    if change.former:
        field.remove_unnamed(change.former, saved.using)


def _order_or_tell(field: "ImageField", change: Change, saved: Saved) -> None:
    if change.stored is None:
        return
    if change.stored.details.state is not State.PENDING:
        signals.tell_ready(field, saved.instance)
    elif (pk := saved.pk or saved.instance.pk or _key_of(field, change.name, saved.using)) is not None:
        label = saved.instance._meta.label
        queues.enqueue(queues.Pending(label, str(pk), field.name, change.name, saved.using))


def _key_of(field: "ImageField", name: str, using: str) -> Any:
    """Of the row that names a file; None where there is none: a conflict, say, that was ignored."""
    rows = field.model._base_manager.using(using).filter(**{field.attname: name})
    return rows.values_list("pk", flat=True).first()


def _saving_pictures(save_base: Callable[..., None]) -> Callable[..., None]:
    """
    A model's `save_base` that saves a picture whole.

    Uploads are decoded and stored before the transaction begins. Both columns are written by one statement,
    also where `update_fields` names the picture alone, as everybody writes it.
    """

    @wraps(save_base)
    def saving(self: models.Model, *args: Any, update_fields: Any = None, **options: Any) -> None:
        if options.get("raw") or (args and args[0]):
            save_base(self, *args, update_fields=update_fields, **options)
            return
        using = options.get("using") or router.db_for_write(type(self), instance=self)
        named = [field for field in image_fields(type(self)) if _is_named(field, update_fields)]
        for field in named:
            field.store_upload(self)
            if self._state.db not in {None, using}:
                _insist(self, field)
        with _marked(self), _transaction_for(self, named, using) as changed:
            if update_fields is not None:
                update_fields = frozenset(update_fields).union(*map(_columns, changed))
            save_base(self, *args, update_fields=update_fields, **options)
            announce(self, named, using)

    saving.saves_pictures = True  # type: ignore[attr-defined]
    return saving


def _columns(field: "ImageField") -> tuple[str, str]:
    return field.name, field.details_name


def _is_named(field: "ImageField", update_fields: Iterable[str] | None) -> bool:
    """Also by its details alone, which without it would be those of another file."""
    return update_fields is None or not set(_columns(field)).isdisjoint(update_fields)


@contextmanager
def _transaction_for(
    instance: models.Model, fields: "Sequence[ImageField]", using: str
) -> "Iterator[Sequence[ImageField]]":
    """The fields that change; a transaction where there are some, in which nobody else replaces them."""
    changed = [field for field in fields if field.attname in changes_of(instance)]
    if not changed:
        yield changed
        return
    with transaction.atomic(using=using, savepoint=False):
        _look_up_former(instance, changed, using)
        yield changed


def _insist(instance: models.Model, field: "ImageField") -> None:
    """A row that goes to another database takes its picture there, as it is in memory."""
    if field.attname not in changes_of(instance) and not field.is_deferred_on(instance):
        set_change(instance, field, Change(field.name_on(instance), None, frozenset()))


@contextmanager
def _marked(instance: models.Model) -> Iterator[None]:
    """While it is saved, and saved again by a receiver of `post_save`: what was announced is so once."""
    if SAVING in instance.__dict__:
        yield
        return
    instance.__dict__[SAVING] = []
    try:
        yield
    finally:
        del instance.__dict__[SAVING]


def _look_up_former(instance: models.Model, fields: "Iterable[ImageField]", using: str) -> None:
    """Whoever saved since this row was loaded may have replaced its picture: then theirs goes, too."""
    if instance._state.adding or instance.pk is None:
        return
    for field in fields:
        change = changes_of(instance)[field.attname]
        former = change.former | field.names_in_database(instance, using)
        set_change(instance, field, replace(change, former=former - field.names_of(instance)))


def _take_part(sender: type[models.Model], **_: Any) -> None:
    """Connected by class, for each that is made: proxies and children have senders of their own."""
    if sender.__module__ == "__fake__" or not image_fields(sender):
        return
    pre_delete.connect(_deleting, sender=sender)
    if not hasattr(sender.save_base, "saves_pictures"):
        sender.save_base = _saving_pictures(sender.save_base)  # type: ignore[method-assign]


def _deleting(
    sender: type[models.Model], instance: models.Model, using: str, origin: Any = None, **_: Any
) -> None:
    """
    Before the row goes, in the same transaction; its files follow the commit.

    A row's own table answers for its pictures: with `keep_parents`, a parent's stay.
    """
    for field in image_fields(sender):
        if field.model is not sender._meta.concrete_model:
            continue
        is_fresh = origin is not instance and not field.is_deferred_on(instance)
        names = field.names_of(instance) if is_fresh else field.names_in_database(instance, using)
        if names:
            once_committed(partial(field.remove_unnamed, names, using), using)


class_prepared.connect(_take_part, dispatch_uid="image_processor.fields")
