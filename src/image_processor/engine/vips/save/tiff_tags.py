"""EXIF in a TIFF file, where it is no block of its own: its tags stand beside those of the pixels."""

from dataclasses import replace
from pathlib import Path

from image_processor.engine.vips.exif import HEAD, ORDERS, ROW, Exif, Order, joined, length_of_rows, rows_of

_LINK_AT = 4


def add_exif(path: Path, exif: Exif) -> None:
    """
    Give the file these tags beside its own, which go before.

    Its main directory is written once more, at its end; everything else stays where it stood.
    """
    data = path.read_bytes()
    order = ORDERS[data[:_LINK_AT]]
    place = len(data) + len(data) % 2
    block = _directory(_rows(data, order), exif.ordered(order), place)
    with path.open("r+b") as file:
        file.seek(place)
        file.write(block)
        file.seek(_LINK_AT)
        file.write(place.to_bytes(4, order))


def _rows(data: bytes, order: Order) -> dict[int, bytes]:
    """The main directory's tags as they stand: their values lie elsewhere, and stay there."""
    start = int.from_bytes(data[_LINK_AT:HEAD], order) + 2
    count = int.from_bytes(data[start - 2 : start], order)
    rows = (data[at : at + ROW] for at in range(start, start + count * ROW, ROW))
    return {int.from_bytes(row[:2], order): row for row in rows}


def _directory(own: dict[int, bytes], exif: Exif, place: int) -> bytes:
    """Both kinds of tags as one directory at `place`, the added values, and the directories they point to."""
    exif = replace(exif, main={tag: entry for tag, entry in exif.main.items() if tag not in own})
    unplaced, _ = exif.linked(0)
    values_at = place + length_of_rows(len(own) + len(unplaced))
    _, values = rows_of(unplaced, values_at, exif.order)
    main, behind = exif.linked(values_at + len(values))
    rows, values = rows_of(main, values_at, exif.order)
    return joined(rows | own, exif.order) + values + behind
