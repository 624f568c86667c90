"""HDR gain maps of Ultra HDR JPEGs: found, brought to what was made of their picture, written behind it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

import pyvips

from image_processor.engine.vips.failures import decoding
from image_processor.engine.vips.geometry import Cut, Mirror, Paint, Scale, Size, Step, Turn
from image_processor.engine.vips.segments import (
    APP1,
    APP2,
    MAX_BODY,
    Segment,
    segment,
    segments_of,
    with_segments,
    without_metadata,
)
from image_processor.engine.vips.xmp import gain_map_values, with_gain_map
from image_processor.errors import CorruptImageError, InvalidOperationError
from image_processor.pipeline.operations import Flatten, Sharpen

MAX_GAIN_MAP_BYTES = 16 * 1024 * 1024
QUALITY = 90
"""Of the gain map's own JPEG: its levels are exponents, and errors in them are multiplied."""

_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_ISO = b"urn:iso:std:iso:ts:21496:-1\0"
_ICC = b"ICC_PROFILE\0"
_ISO_VERSION = bytes(4)
"""In the picture itself ISO 21496-1 has nothing but its minimum and its writer's version: 0 and 0."""

_MPF = b"MPF\0"
_MP_ENTRIES, _MP_ENTRY_BYTES, _MAX_PICTURES = 0xB002, 16, 8
_ROW = 12
_PRIMARY_PICTURE = 0x030000
"""CIPA DC-007, 5.2.3.3.1: the type of a baseline primary picture."""

NOT_CARRIED = "The HDR gain map was dropped: it cannot follow {}."
_ASIDE = (Flatten, Sharpen)
"""Looks that leave the brightness of a JPEG's regions as it is."""


@dataclass(frozen=True)
class GainMap:
    """A gain map as it lies behind its picture."""

    picture: bytes
    """A JPEG without metadata."""
    meaning: tuple[tuple[int, bytes], ...]
    """Markers and bodies of the segments that say how it is applied; nothing else of the original."""
    orientation: int = 1
    """EXIF's, of the picture that it belongs to."""


def read_gain_map(path: Path, stored: Size, orientation: int) -> GainMap | None:
    """
    The gain map of a JPEG of this size and orientation, as stored; None where there is none to be used.

    It is one that the index of pictures (MPF) names, no larger than the picture, with the numbers of Adobe or
    of ISO 21496-1. Apple's older kind, which has its numbers in a maker note, is none of these.
    """
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as data:
        for picture in _further_pictures(data):
            meaning = _meaning(picture)
            if meaning and _fits(picture, stored):
                return GainMap(without_metadata(picture), meaning, orientation)
    return None


def dropped_note(steps: Sequence[Step]) -> str | None:
    """Why a gain map cannot be carried through these steps, as a sentence; None where it can."""
    obstacle = next((step for step in steps if not _is_carried(step)), None)
    if obstacle is None:
        return None
    name = type(obstacle.operation if isinstance(obstacle, Paint) else obstacle).__name__.lower()
    return NOT_CARRIED.format(_SAID.get(name, name))


def transformed_gain_map(gain_map: GainMap, original: Size, steps: Sequence[Step]) -> GainMap:
    """
    The gain map for what these steps make of the upright original of this size, no finer than it was.

    Raises InvalidOperationError where it cannot be carried through them (see `dropped_note`), and
    CorruptImageError.
    """
    note = dropped_note(steps)
    if note:
        raise InvalidOperationError(note)
    with decoding(Path("gain map")):
        image = _upright(gain_map)
        share = max(image.width / original.width, image.height / original.height)
        size = original
        for step in steps:
            image = _CARRIERS[type(step)](image, step, size)
            size = step.result(size)
        small = Size(max(1, round(size.width * share)), max(1, round(size.height * share)))
        image = _shrunk(image, small)
        picture = image.jpegsave_buffer(Q=QUALITY, optimize_coding=True, subsample_mode="off", keep="none")
    return replace(gain_map, picture=bytes(picture), orientation=1)


def add_gain_map(path: Path, gain_map: GainMap) -> None:
    """Write the gain map behind the JPEG at `path`, and into that what says so: XMP, ISO 21496-1 and MPF."""
    second = with_segments(gain_map.picture, [segment(*said) for said in gain_map.meaning])
    data, added = path.read_bytes(), []
    if any(body.startswith(_XMP) for _, body in gain_map.meaning):
        data, packet = _without_xmp(data)
        added.append(segment(APP1, _XMP + _packet(packet, len(second))))
    if any(body.startswith(_ISO) for _, body in gain_map.meaning):
        added.append(segment(APP2, _ISO + _ISO_VERSION))
    path.write_bytes(_indexed(data, added, len(second)) + second)


def _further_pictures(data: mmap) -> Iterator[bytes]:
    """What the index of a JPEG names beside its first picture, as far as it lies in the file."""
    try:
        index = next((found for found in segments_of(data) if found.body.startswith(_MPF)), None)
    except CorruptImageError:
        # libjpeg reads on where bytes are astray; an index behind them has lost its way.
        index = None
    if index is None:
        return
    base = index.body_start + len(_MPF)
    for length, offset in _index_entries(index.body[len(_MPF) :]):
        start = base + offset
        if length <= MAX_GAIN_MAP_BYTES and start + length <= len(data):
            yield data[start : start + length]


def _index_entries(block: bytes) -> Iterator[tuple[int, int]]:
    """Lengths and places of all pictures but the first."""
    number = partial(_number, block, "little" if block[:2] == b"II" else "big")
    start = number(4, 4)
    for at in range(start + 2, min(start + 2 + _ROW * number(start, 2), len(block) - _ROW + 1), _ROW):
        if number(at, 2) == _MP_ENTRIES:
            place, end = number(at + 8, 4), number(at + 8, 4) + number(at + 4, 4)
            last = min(end, len(block), place + _MAX_PICTURES * _MP_ENTRY_BYTES)
            for entry in range(place + _MP_ENTRY_BYTES, last - _MP_ENTRY_BYTES + 1, _MP_ENTRY_BYTES):
                yield number(entry + 4, 4), number(entry + 8, 4)
            return


def _number(block: bytes, order: Any, at: int, length: int) -> int:
    return int.from_bytes(block[at : at + length], order)


def _meaning(picture: bytes) -> tuple[tuple[int, bytes], ...]:
    """What makes this JPEG a gain map: its numbers, and the colour space that they are meant in."""
    try:
        found = list(segments_of(picture))
    except CorruptImageError:
        return ()
    numbers = [said for said in map(_numbers, found) if said]
    profiles = [(APP2, one.body) for one in found if one.body.startswith(_ICC)]
    return (*numbers, *profiles) if numbers else ()


def _numbers(found: Segment) -> tuple[int, bytes] | None:
    if found.marker == APP2 and found.body.startswith(_ISO):
        return APP2, found.body
    values = gain_map_values(found.body.removeprefix(_XMP)) if found.body.startswith(_XMP) else None
    return (APP1, _XMP + values) if values else None


def _fits(picture: bytes, stored: Size) -> bool:
    try:
        image = pyvips.Image.jpegload_buffer(picture)
    except pyvips.Error:
        return False
    return Size(image.width, image.height).fits(stored)


def _upright(gain_map: GainMap) -> pyvips.Image:
    image = pyvips.Image.jpegload_buffer(gain_map.picture, fail_on="error").copy_memory().copy()
    image.set_type(pyvips.GValue.gint_type, "orientation", gain_map.orientation)
    return image.autorot()


def _is_carried(step: Step) -> bool:
    return isinstance(step.operation, _ASIDE) if isinstance(step, Paint) else type(step) in _CARRIERS


def _as_it_is(image: pyvips.Image, _step: Step, _size: Size) -> pyvips.Image:
    """A gain map is stretched over its picture: another size of that alone changes nothing."""
    return image


def _cut(image: pyvips.Image, step: Cut, size: Size) -> pyvips.Image:
    """The region, to fractions of the gain map's pixels: else light would lie beside its edges."""
    across, down = image.width / size.width, image.height / size.height
    width = max(1, round(step.size.width * across))
    height = max(1, round(step.size.height * down))
    scales = [step.size.width * across / width, step.size.height * down / height]
    starts = [step.x * across, step.y * down]
    # Pixel centres: half a pixel before the scale and half a pixel less after it.
    offsets = [start + scale / 2 - 0.5 for start, scale in zip(starts, scales, strict=True)]
    index = pyvips.Image.xyz(width, height).linear(scales, offsets)
    return image.mapim(index, interpolate=pyvips.Interpolate.new("bilinear"), extend="copy")


def _turn(image: pyvips.Image, step: Turn, _size: Size) -> pyvips.Image:
    return image.rot(f"d{step.degrees}")


def _mirror(image: pyvips.Image, step: Mirror, _size: Size) -> pyvips.Image:
    return image.flip("vertical" if step.upside_down else "horizontal")


_CARRIERS: Mapping[type[Step], Callable[[pyvips.Image, Any, Size], pyvips.Image]] = {
    Scale: _as_it_is,
    Cut: _cut,
    Turn: _turn,
    Mirror: _mirror,
    Paint: _as_it_is,
}
_SAID: Mapping[str, str] = {
    "seek": "a crop that is looked for in the pixels",
    "spin": "a rotation by other than quarter turns",
    "pad": "a canvas around the picture",
    "imagewatermark": "a watermark",
    "textwatermark": "a watermark",
    "adjust": "a change of brightness, contrast or saturation",
}


def _shrunk(image: pyvips.Image, size: Size) -> pyvips.Image:
    small = size.meet(Size(image.width, image.height))
    # The triangle's filter has no lobes: beside a bright light nothing becomes darker than it was.
    return image.resize(small.width / image.width, vscale=small.height / image.height, kernel="linear")


def _without_xmp(data: bytes) -> tuple[bytes, bytes | None]:
    """The JPEG without its packet, and the packet: there may be one only."""
    found = next((one for one in segments_of(data) if one.body.startswith(_XMP)), None)
    if found is None:
        return data, None
    return data[: found.start] + data[found.end :], found.body.removeprefix(_XMP)


def _packet(packet: bytes | None, length: int) -> bytes:
    joined = with_gain_map(packet, length)
    return joined if len(_XMP) + len(joined) <= MAX_BODY else with_gain_map(None, length)


def _indexed(data: bytes, added: Sequence[bytes], second: int) -> bytes:
    """The JPEG with these segments and, last of them, the index of both pictures."""
    draft = with_segments(data, [*added, segment(APP2, _index(0, 0, 0))])
    index = next(found for found in segments_of(draft) if found.body.startswith(_MPF))
    offset = len(draft) - index.body_start - len(_MPF)
    return with_segments(data, [*added, segment(APP2, _index(len(draft), second, offset))])


def _index(first: int, second: int, offset: int) -> bytes:
    """CIPA DC-007's index of two pictures: lengths, and where the second stands, from the index on."""
    rows = (
        (0xB000, 7, 4, b"0100"),
        (0xB001, 4, 1, (2).to_bytes(4)),
        (_MP_ENTRIES, 7, 2 * _MP_ENTRY_BYTES, (8 + 2 + 3 * _ROW + 4).to_bytes(4)),
    )
    written = (
        tag.to_bytes(2) + kind.to_bytes(2) + count.to_bytes(4) + value for tag, kind, count, value in rows
    )
    pictures = (
        _PRIMARY_PICTURE.to_bytes(4) + first.to_bytes(4) + bytes(8),
        bytes(4) + second.to_bytes(4) + offset.to_bytes(4) + bytes(4),
    )
    head = b"MM\0*" + (8).to_bytes(4) + len(rows).to_bytes(2)
    return _MPF + head + b"".join(written) + bytes(4) + b"".join(pictures)
