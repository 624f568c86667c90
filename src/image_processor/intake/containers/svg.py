"""The size in the root element of an SVG document. What else stands there is the engine's to check."""

import math
import re
from collections.abc import Mapping
from xml.parsers import expat

from image_processor.intake.containers.base import WINDOW_BYTES, Cursor, Header

_LENGTH = re.compile(r"\s*\+?(\d{1,9}(?:\.\d{0,9})?|\.\d{1,9})\s*(px|pt|pc|in|cm|mm|em|ex|)\s*$")
_PIXELS_PER_UNIT: Mapping[str, float] = {
    "": 1,
    "px": 1,
    "pt": 1,
    "pc": 12,
    "in": 72,
    "cm": 72 / 2.54,
    "mm": 72 / 25.4,
    "em": 12,
    "ex": 6,
}
"""At 72 pixels an inch, as librsvg is asked to draw."""


def read_header(cursor: Cursor) -> Header:
    """
    The size that the root gives itself, or else that of its view box.

    A size in percent, or none at all, is known only once it is drawn: 1 x 1 stands for it here.
    """
    name, attributes = _root(cursor)
    if name.rpartition(":")[2] != "svg":
        raise cursor.damaged("its root element is of another kind")
    box = _view_box(attributes.get("viewBox", ""))
    sides = zip((attributes.get("width"), attributes.get("height")), box, strict=True)
    width, height = (_pixels(written) or side for written, side in sides)
    return Header(width=width, height=height)


def _root(cursor: Cursor) -> tuple[str, dict[str, str]]:
    """The name of the first element and its attributes; the parser is not led behind it."""
    elements: list[tuple[str, dict[str, str]]] = []

    def refuse(*_: object) -> None:
        raise cursor.unsupported("an SVG image with a document type declaration")

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = lambda name, attributes: elements.append((name, attributes))
    try:
        parser.Parse(cursor.take(min(cursor.end, WINDOW_BYTES)), False)
    except expat.ExpatError as error:
        if not elements:
            raise cursor.damaged("it is no well-formed XML") from error
    if not elements:
        raise cursor.damaged("its root element is missing")
    return elements[0]


def _pixels(written: str | None) -> int | None:
    length = _LENGTH.match(written or "")
    return max(1, math.ceil(float(length[1]) * _PIXELS_PER_UNIT[length[2]])) if length else None


def _view_box(written: str) -> tuple[int, int]:
    numbers = re.split(r"[\s,]+", written.strip())
    sides = [_pixels(number) or 1 for number in numbers[2:]]
    return (sides[0], sides[1]) if len(numbers) == 4 else (1, 1)
