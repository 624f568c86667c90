"""Pruning: files that no row of the project names are found and removed. Rows are read and never changed."""

import json
import os
import posixpath
import re
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from itertools import islice, takewhile
from typing import Any
from urllib.parse import quote

from django.apps import apps
from django.core.files.storage import FileSystemStorage, Storage
from django.db import connections, router
from django.db.models import F, Field, FileField, Model, Q, QuerySet, TextField
from django.db.models.functions import Cast
from django.utils import timezone

from image_processor.contrib.django.conf import conf
from image_processor.contrib.django.fields import ImageField
from image_processor.contrib.django.files import list_files, remove_all, storage_errors
from image_processor.contrib.django.inventory import TEXT
from image_processor.contrib.django.profile_pictures import FOLDER
from image_processor.errors import NotFoundError

READ_ROWS = 2000
FOLDERS = 50_000
"""Whose place on the disk is kept in mind."""
BATCH = 20_000
"""Files that nothing seems to name, before all rows are asked once more and they are removed."""
_GENERATION = re.compile(r"[0-9a-f]{32}")
_OURS = re.compile(r"(?P<generation>[0-9a-f]{32})_[^/]+\.[A-Za-z0-9]+")
"""What `production` and the service of profile pictures call their files; other names are none of ours."""
_TEXTS = frozenset({"CharField", "TextField", "JSONField", "ArrayField", "HStoreField"})


@dataclass(frozen=True)
class Folder:
    """Where to look."""

    storage: Storage
    path: str
    """From the storage's root; empty for all of it."""
    has_service: bool = False
    """Whether rows may name its pictures in columns of text, as URLs: those of ImageStorageService."""
    takes_any_name: bool = False
    """Whether files go whose names are not of our making."""


def folders_of(fields: Iterable[ImageField]) -> list[Folder]:
    """Where the pictures of fields lie; none lies in another."""
    found: dict[str, Folder] = {}
    for field in fields:
        for path in _paths_of(field):
            has_service = path.partition("/")[0] in {"", FOLDER}
            found.setdefault(_place(field.storage, path), Folder(field.storage, path, has_service))
    return [folder for place, folder in found.items() if not any(_is_below(place, other) for other in found)]


def _paths_of(field: ImageField) -> set[str]:
    """Of a function for `upload_to` only the rows tell: the first folder of each name."""
    if isinstance(field.upload_to, str | os.PathLike):
        parts = os.fspath(field.upload_to).strip("/").split("/")
        return {"/".join(takewhile(lambda part: part and "%" not in part, parts))}
    return {
        name.partition("/")[0]
        for rows in _rows_everywhere(field.model)
        for name in rows.values_list(field.attname, flat=True).iterator(READ_ROWS)
        if name and "/" in name
    }


def _is_below(place: str, other: str) -> bool:
    return place != other and place.startswith(f"{other.rstrip('/')}/")


def unnamed_files(folder: Folder) -> Iterator[str]:
    """
    The files in a folder that no row names and that are old enough, each asked about twice.

    Raises:
        StorageError: the storage does not answer, or cannot be listed.
        NotFoundError: the table of a model is missing, so that nobody can say what is named.
    """
    candidates = _unnamed(folder, _listed(folder))
    while batch := list(islice(candidates, BATCH)):
        yield from _unnamed(folder, iter(batch))


def _unnamed(folder: Folder, names: Iterator[str]) -> Iterator[str]:
    named = NamedFiles.read(folder)
    return (name for name in names if not named.has(folder.storage, name) and _is_old(folder.storage, name))


def remove_files(folder: Folder, names: Iterable[str]) -> Iterator[tuple[str, bool]]:
    """Remove files one after another; gives each name and whether it is gone."""
    for name in names:
        yield name, not remove_all(folder.storage, [name])


def _listed(folder: Folder) -> Iterator[str]:
    start = f"{folder.path}/" if folder.path else ""
    for name in _all_files(folder.storage, folder.path):
        is_inside = name.startswith(start) and posixpath.normpath(f"/{name}") == f"/{name}"
        if is_inside and (folder.takes_any_name or _OURS.fullmatch(posixpath.basename(name))):
            yield name


def _all_files(storage: Storage, folder: str) -> Iterator[str]:
    """A folder of this machine one entry at a time, and behind no link: that leads to another place."""
    if not isinstance(storage, FileSystemStorage):
        yield from list_files(storage, folder)
        return
    root = storage.path(folder)
    with storage_errors():
        for directory, _, names in os.walk(root, followlinks=False):
            inside = os.path.relpath(directory, root).replace(os.sep, "/")
            for name in names:
                if not os.path.islink(os.path.join(directory, name)):  # noqa: PTH114, PTH118 - a million of them
                    yield posixpath.normpath(posixpath.join(folder, inside, name))


def _is_old(storage: Storage, name: str) -> bool:
    """A file whose age nobody knows is young."""
    try:
        with storage_errors():
            written = _modified(storage, name)
    except FileNotFoundError:
        return False
    return written is not None and timezone.now() - written >= timedelta(seconds=conf().prune_seconds)


def _modified(storage: Storage, name: str) -> Any:
    try:
        return storage.get_modified_time(name)
    except NotImplementedError:
        return None


class NamedFiles:
    """
    What all rows of a project name: eight bytes for each, so that a million files fit.

    Two names may share their eight bytes; then a file stays that could go, never the other way.
    """

    def __init__(self, words: Iterable[str]) -> None:
        self._hashes = array("q", (hash(word) for word in words))
        self._hashes = array("q", sorted(self._hashes))

    @classmethod
    def read(cls, folder: Folder) -> "NamedFiles":
        """Read all rows of all databases; raises NotFoundError for a table that is missing."""
        return cls(_named_words(folder))

    def has(self, storage: Storage, name: str) -> bool:
        """Whether a row names it, or one of the files that were made with it where the row tells no more."""
        ours = _OURS.fullmatch(posixpath.basename(name))
        words = [name, _place(storage, name), *([ours["generation"]] if ours else [])]
        return any(self._has(hash(word)) for word in words)

    def _has(self, value: int) -> bool:
        at = bisect_left(self._hashes, value)
        return at < len(self._hashes) and self._hashes[at] == value


def names_anything(folder: Folder) -> bool:
    """Whether any row names any file: where none does, this may be the wrong database."""
    return any(True for _ in _named_words(folder))


def _named_words(folder: Folder) -> Iterator[str]:
    for model in apps.get_models(include_auto_created=True):
        for field in model._meta.local_concrete_fields:
            if isinstance(field, FileField):
                yield from _words_of(field)
            if folder.has_service and field.get_internal_type() in _TEXTS:
                yield from _generations_in(field, folder.path)


def _words_of(field: FileField) -> Iterator[str]:
    for name, details, text in _names_and_details(field):
        names = [name, *(details.names if details else ())]
        for one in filter(None, names):
            yield one
            yield _place(field.storage, one)
        if details is None:
            yield from _GENERATION.findall(f"{name} {text}")


def _names_and_details(field: FileField) -> Iterator[tuple[str, Any, Any]]:
    for rows in _rows_everywhere(field.model):
        if isinstance(field, ImageField):
            described = rows.annotate(**{TEXT: Cast(F(field.details_name), TextField())})
            yield from described.values_list(field.attname, field.details_name, TEXT).iterator(READ_ROWS)
        else:
            names = rows.exclude(**{field.attname: ""}).values_list(field.attname, flat=True)
            yield from ((name, None, None) for name in names.iterator(READ_ROWS) if name)


def _generations_in(field: "Field[Any, Any]", folder: str) -> Iterator[str]:
    for rows in _rows_everywhere(field.model):
        texts = rows.annotate(**{TEXT: Cast(F(field.attname), TextField())})
        named = texts.filter(_mentions(folder or FOLDER)).values_list(TEXT, flat=True)
        for text in named.iterator(READ_ROWS):
            yield from _GENERATION.findall(text)


def _mentions(folder: str) -> Q:
    """As it is, in a URL, and in JSON."""
    mentions = Q()
    for spelling in {folder, quote(folder), json.dumps(folder)[1:-1]}:
        mentions |= Q(**{f"{TEXT}__contains": spelling})
    return mentions


def _rows_everywhere(model: type[Model]) -> Iterator[QuerySet[Any]]:
    """The rows of a model in each database that has its table; those that its managers hide too."""
    has_table = [alias for alias in connections if model._meta.db_table in _tables(alias)]
    if not has_table and re.search(r'["`.]', model._meta.db_table):  # of another schema: never listed
        has_table = [router.db_for_read(model)]
    if not has_table and model._meta.managed and not model._meta.proxy:
        raise NotFoundError(
            f"The table of {model._meta.label} is missing; migrate first. Nothing was removed."
        )
    for alias in has_table:
        yield QuerySet(model, using=alias)


def _tables(alias: str) -> Sequence[str]:
    return connections[alias].introspection.table_names(include_views=True)


def _place(storage: Storage, name: str) -> str:
    """The same for the same file, where two storages overlap: a folder in the other's, or one bucket."""
    try:
        folder, _, base = posixpath.normpath(posixpath.join(storage.path(""), name)).rpartition("/")
        return f"{_real(folder)}/{base}"
    except NotImplementedError:
        pass
    bucket = getattr(storage, "bucket_name", None)
    root = f"{bucket}/{getattr(storage, 'location', '')}" if bucket else f"storage {id(storage)}"
    return posixpath.normpath(posixpath.join(root, name))


@lru_cache(maxsize=FOLDERS)
def _real(folder: str) -> str:
    """Links are looked up once for each folder, and not for each of a million names."""
    return folder if "\0" in folder else os.path.realpath(folder)
