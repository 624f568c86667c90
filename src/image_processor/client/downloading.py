"""Downloads: into memory, or into a file that appears whole or not at all."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO

from image_processor.client.calls import Caller
from image_processor.client.plans import Close, Plan, Read, Reply, Request, Run
from image_processor.errors import NotFoundError, StorageError, StorageFullError, is_disk_full


def downloaded(caller: Caller, request: Request) -> Plan[bytes]:
    """The bytes."""

    def attempt() -> Plan[bytes]:
        reply = yield from caller.open(request)
        pieces: list[bytes] = []
        while piece := (yield Read(reply)):
            pieces.append(piece)
        yield Close(reply)
        return b"".join(pieces)

    return (yield from caller.persist(attempt))


def downloaded_to(caller: Caller, request: Request, target: Path) -> Plan[Path]:
    """
    The file, at its place, replacing one that is there.

    Raises NotFoundError where there is no such folder, StorageFullError, StorageError.
    """
    unfinished = target.parent / f".{secrets.token_hex(8)}.unfinished"

    def attempt() -> Plan[None]:
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
    while piece := (yield Read(reply)):
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
