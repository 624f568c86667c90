"""Downloads: into memory, or into a file that appears whole or not at all."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO

from image_processor.client.calls import Caller, read_whole
from image_processor.client.plans import Close, Plan, Read, Reply, Request, Run
from image_processor.client.refusals import UnexpectedAnswerError
from image_processor.errors import NotFoundError, StorageError, StorageFullError, is_disk_full

MAX_DOWNLOAD_BYTES = 512 * 1024 * 1024
"""A service that sends without end fills neither memory nor disk."""


def downloaded(caller: Caller, request: Request) -> Plan[bytes]:
    """The bytes. Raises UnexpectedAnswerError for more than 512 MiB."""

    def attempt(caller: Caller) -> Plan[bytes]:
        reply = yield from caller.open(request)
        return (yield from read_whole(reply, MAX_DOWNLOAD_BYTES))

    return (yield from caller.persist(attempt))


def downloaded_to(caller: Caller, request: Request, target: Path) -> Plan[Path]:
    """
    The file, at its place, replacing one that is there.

    Raises as `downloaded`, NotFoundError where there is no such folder, StorageFullError, StorageError.
    """
    unfinished = target.parent / f".{secrets.token_hex(8)}.unfinished"

    def attempt(caller: Caller) -> Plan[None]:
        reply = yield from caller.open(request)
        with _saving(target), (yield Run(lambda: unfinished.open("wb"))) as file:
            yield from _fill(file, reply)
        yield Close(reply)

    try:
        yield from caller.persist(attempt)
        with _saving(target):
            yield Run(lambda: unfinished.replace(target))
    finally:
        unfinished.unlink(missing_ok=True)
    return target


def _fill(file: BinaryIO, reply: Reply) -> Plan[None]:
    size = 0
    while piece := (yield Read(reply)):
        size += len(piece)
        if size > MAX_DOWNLOAD_BYTES:
            raise UnexpectedAnswerError(f"The file is longer than {MAX_DOWNLOAD_BYTES} bytes.")
        yield Run(partial(file.write, piece))


@contextmanager
def _saving(target: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise NotFoundError(f"There is no folder {target.parent} to write {target.name} into.") from error
    except OSError as error:
        if is_disk_full(error):
            raise StorageFullError(f"There is no room left for {target.name}.") from error
        raise StorageError(f"{target.name} cannot be written: {error.strerror}.") from error
