"""Files of one picture in Django's storage: all of them or none, and their removal. Pixels live elsewhere."""

import logging
import posixpath
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from django.core.files.base import ContentFile
from django.core.files.storage import Storage

from image_processor.errors import StorageError

logger = logging.getLogger("image_processor.django")


def store_all(storage: Storage, files: Mapping[str, bytes]) -> dict[str, str]:
    """
    Store each of `files` (name: bytes); gives the names that the storage chose, by those asked for.

    Nothing stays where one of them cannot be stored.

    Raises:
        StorageError: the storage failed; its own error is the cause.
    """
    stored: dict[str, str] = {}
    try:
        for name, data in files.items():
            stored[name] = name  # a file that is half written when the storage fails is to go too
            stored[name] = _store(storage, name, data)
    except BaseException:
        remove_all(storage, stored.values())
        raise
    return stored


def _store(storage: Storage, name: str, data: bytes) -> str:
    try:
        with storage_errors():
            return storage.save(name, ContentFile(data))
    except FileNotFoundError as error:
        raise StorageError("The storage of the pictures failed.") from error


def remove_all(storage: Storage, names: Iterable[str]) -> list[str]:
    """
    Remove what is there of `names`; gives those that could not be removed, which the log names.

    A file that cannot be removed is no reason to fail: nothing names it any more, and prune comes again.
    """
    left = []
    for name in names:
        try:
            storage.delete(name)
        except Exception:
            logger.warning("A file that nothing names could not be removed: %s", name, exc_info=True)
            left.append(name)
    return left


def list_files(storage: Storage, folder: str) -> Iterator[str]:
    """
    The names of all files under `folder`, folders within it too; none where there is no such folder.

    Raises StorageError.
    """
    with storage_errors():
        try:
            folders, files = storage.listdir(folder)
        except FileNotFoundError:
            return
    for name in files:
        if name:
            yield posixpath.join(folder, name)
    for name in folders:
        yield from list_files(storage, posixpath.join(folder, name))


@contextmanager
def storage_errors() -> Iterator[None]:
    """What a storage of Django raises, which may be anything, as a StorageError; FileNotFoundError passes."""
    try:
        yield
    except (FileNotFoundError, StorageError):
        raise
    except Exception as error:
        raise StorageError("The storage of the pictures failed.") from error
