"""Verification: whether the files that a row names are there and are as it says. Nothing is changed."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

from django.core.files.storage import Storage

from image_processor.contrib.django.attempts import attempts
from image_processor.contrib.django.details import StoredVariant
from image_processor.contrib.django.files import storage_errors
from image_processor.contrib.django.inventory import Row
from image_processor.contrib.django.rendering import local_renderer
from image_processor.errors import RejectedError

UNREADABLE = "The details cannot be read."
ELSEWHERE = "The details are those of another file."
NAMELESS = "There are details and no file."


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with a row."""

    model: str
    """`app_label.ModelName`."""
    pk: str
    field: str
    name: str | None
    """The file, where it is about one."""
    sentence: str

    def __str__(self) -> str:
        about = f" {self.name}:" if self.name else ""
        return f"{self.model}.{self.field} {self.pk}:{about} {self.sentence}"


def find_faults(row: Row, *, is_deep: bool) -> Iterator[Fault]:
    """
    What is wrong with a row, one after another.

    Args:
        row: as it was read.
        is_deep: whether each variant is opened and its size in pixels compared.

    Raises StorageError where the storage does not answer, EngineError where the engine fails.
    """
    if row.text and row.details is None:
        yield _fault(row, UNREADABLE)
    elif row.details and not row.is_described:
        yield _fault(row, ELSEWHERE if row.name else NAMELESS)
    for name, variant in _files(row).items():
        sentence = _wrong_size(row.field.storage, name, variant)
        if sentence is None and is_deep and variant:
            sentence = _wrong_pixels(row.field.storage, variant)
        if sentence:
            yield _fault(row, sentence, name)


def size_of(storage: Storage, name: str) -> int | None:
    """In bytes; None where there is no such file. Raises StorageError."""
    with storage_errors():
        try:
            return storage.size(name)
        except FileNotFoundError:
            return None
        except Exception:
            if storage.exists(name):
                raise
            return None


def _files(row: Row) -> dict[str, StoredVariant | None]:
    described = {variant.name: variant for variant in row.details.variants.values()} if row.details else {}
    return {name: described.get(name) for name in row.names}


def _fault(row: Row, sentence: str, name: str | None = None) -> Fault:
    return Fault(row.field.model._meta.label, str(row.pk), row.field.name, name, sentence)


def _wrong_size(storage: Storage, name: str, variant: StoredVariant | None) -> str | None:
    size = size_of(storage, name)
    if size is None:
        return "The file is not there."
    if size == 0:
        return "The file is empty."
    if variant and size != variant.bytes:
        return f"The file has {size} bytes, its row says {variant.bytes}."
    return None


def _wrong_pixels(storage: Storage, variant: StoredVariant) -> str | None:
    with storage_errors(), storage.open(variant.name) as file:
        data = cast("bytes", file.read())
    try:
        facts = attempts().run(lambda: local_renderer().inspect(data))
    except RejectedError as error:
        return str(error)
    if (facts.width, facts.height) != (variant.width, variant.height):
        return f"The picture is {facts.width}x{facts.height}, its row says {variant.width}x{variant.height}."
    if facts.media_type != variant.media_type:
        return f"The picture is {facts.media_type}, its row says {variant.media_type}."
    return None
