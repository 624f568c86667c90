"""Rebuilding: a row's variants are made anew from what is stored. One swap changes the row, or nothing."""

from collections.abc import Collection
from enum import StrEnum
from functools import partial
from typing import cast

from django.db import transaction

from image_processor.contrib.django import signals
from image_processor.contrib.django.details import ImageDetails, State, StoredVariant
from image_processor.contrib.django.fields import ImageField
from image_processor.contrib.django.files import remove_all, storage_errors
from image_processor.contrib.django.inventory import TEXT, Row, base_manager, database_of, with_text
from image_processor.contrib.django.production import ORIGINAL, Place, Stored, make, new_stem, own_name
from image_processor.contrib.django.queues import Pending, finish
from image_processor.errors import FileTooLargeError, NotFoundError, RejectedError
from image_processor.pipeline import Preset
from image_processor.sources import SUPPORTED

STORED_BYTES = 256 * 1024 * 1024
"""Of a file that is in the storage already: what lies there was taken in under other limits."""


class Chosen(StrEnum):
    """Which pictures are rebuilt."""

    PENDING = "pending"
    MISSING = "missing"
    """Those that plain Django wrote, and those that lack a variant which their preset has by now."""
    FAILED = "failed"
    ALL = "all"


class Outcome(StrEnum):
    """What became of a row."""

    REBUILT = "rebuilt"
    CHANGED = "changed meanwhile"
    """Left alone: somebody else gave it another picture, or the same variants."""
    WAITING = "waiting for the service"
    """Ordered, now or before."""


def is_wanted(row: Row, chosen: Collection[Chosen], preset: Preset) -> bool:
    """Whether `chosen` takes in this row."""
    if not row.name:
        return False
    if Chosen.ALL in chosen:
        return True
    if row.state is None:
        return Chosen.MISSING in chosen
    if row.state is State.READY:
        return Chosen.MISSING in chosen and bool(_missing(row, preset))
    return Chosen(row.state.value) in chosen


def _missing(row: Row, preset: Preset) -> set[str]:
    has = set(row.details.variants) if row.details else set()
    return {variant.name for variant in preset.pipeline.variants} - has


def rebuild(row: Row) -> Outcome:
    """
    Make the variants of a row anew, and remove those that it named before.

    Raises:
        RejectedError: the picture's own fault; one that waited has failed, others stay as they were.
        NotFoundError: there is nothing to make them from.
        ImageProcessorError: ours, after all tries; the row stays as it was.
    """
    if row.state is State.PENDING:
        return _complete(row)
    former = row.details if row.is_described else None
    name, original = _source_of(row, former)
    stored = _make(row, _read(row.field, name), original)
    stored = Stored(stored.name, stored.details.model_copy(update={"source": _kept_source(row, name)}))
    return _swap(row, stored)


def _complete(row: Row) -> Outcome:
    using = database_of(row.field)
    pending = Pending(row.field.model._meta.label, str(row.pk), row.field.name, row.name, using)
    if finish(pending):
        return Outcome.REBUILT
    details = base_manager(row.field).filter(pk=row.pk).values_list(row.field.details_name, flat=True).first()
    if details and details.state is State.FAILED and details.source == row.name:
        raise RejectedError(details.error or "The picture was refused.")
    is_waiting = details and details.state is State.PENDING and details.source == row.name
    return Outcome.WAITING if is_waiting else Outcome.CHANGED


def _source_of(row: Row, former: ImageDetails | None) -> tuple[str, StoredVariant | None]:
    """The file to begin with; and the variant `original`, where it is that one and stays as it is."""
    if former is None:
        return row.name, None
    if former.source:
        return former.source, None
    if original := former.variants.get(ORIGINAL):
        return original.name, original
    raise NotFoundError("Neither the upload nor a variant called 'original' was kept to make others from.")


def _kept_source(row: Row, name: str) -> str | None:
    """What was kept stays kept, and so does the file of a plain ImageField where the field keeps sources."""
    is_upload = not (row.is_described and row.details and row.details.source is None)
    return name if row.field.keep_source and is_upload else None


def _read(field: ImageField, name: str) -> bytes:
    try:
        with storage_errors(), field.storage.open(name) as file:
            data = cast("bytes", file.read(STORED_BYTES + 1))
    except FileNotFoundError as error:
        raise NotFoundError("Its file is gone from the storage.") from error
    if len(data) > STORED_BYTES:
        raise FileTooLargeError("The file is larger than is allowed.", max_bytes=STORED_BYTES)
    return data


def _make(row: Row, source: bytes, original: StoredVariant | None) -> Stored:
    """An `original` that is the source itself is not encoded a second time: that would make it worse."""
    preset = row.field.preset if row.state is State.FAILED else _for_stored(row.field.preset)
    place = Place(row.field.storage, new_stem(row.name.rpartition("/")[0]))
    if original is None:
        return make(source, preset, place, keeps_source=False)
    order = [variant.name for variant in preset.pipeline.variants]
    others = _without_original(preset)
    made = dict(make(source, others, place, keeps_source=False).details.variants) if others else {}
    if ORIGINAL in order:
        made[ORIGINAL] = original
    variants = {name: made[name] for name in order}
    former = cast("ImageDetails", row.details)
    return Stored(own_name(variants), former.model_copy(update={"variants": variants}))


def _without_original(preset: Preset) -> Preset | None:
    others = tuple(variant for variant in preset.pipeline.variants if variant.name != ORIGINAL)
    pipeline = preset.pipeline.model_copy(update={"variants": others})
    return preset.model_copy(update={"pipeline": pipeline}) if others else None


def _for_stored(preset: Preset) -> Preset:
    limits = preset.limits.model_copy(update={"max_bytes": STORED_BYTES, "min_side": 1})
    return preset.model_copy(update={"limits": limits, "accepts": SUPPORTED})


def _swap(row: Row, stored: Stored) -> Outcome:
    """A file that plain Django wrote stays: other rows may name it, and prune asks all of them."""
    if not _update(row, stored):
        remove_all(row.field.storage, sorted({stored.name, *stored.details.names} - set(row.names)))
        return Outcome.CHANGED
    if row.is_described:
        using = database_of(row.field)
        transaction.on_commit(
            partial(row.field.remove_unnamed, _former_names(row, stored), using), using=using
        )
    instance = base_manager(row.field).filter(pk=row.pk).first()
    if instance is not None:
        signals.tell_ready(row.field, instance)
    return Outcome.REBUILT


def _former_names(row: Row, stored: Stored) -> frozenset[str]:
    """With the row's own name in any case: by it copies of the row are found, and keep all their files."""
    return frozenset({*row.names} - {*stored.details.names} | {row.name})


def _update(row: Row, stored: Stored) -> bool:
    same = {f"{TEXT}__isnull": True} if row.text is None else {TEXT: row.text}
    rows = with_text(row.field).filter(pk=row.pk, **{row.field.attname: row.name}, **same)
    return rows.update(**{row.field.attname: stored.name, row.field.details_name: stored.details}) == 1
