"""XMP packets: what of an original's a file may carry, and what says that a file has a gain map."""

import re
from collections.abc import Iterator
from typing import Any
from xml.dom import minidom
from xml.parsers.expat import ExpatError, ParserCreate

MAX_XMP_BYTES = 262_144
MAX_DEPTH = 64
"""Of elements within elements."""
RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
GAIN_MAP = "http://ns.adobe.com/hdr-gain-map/1.0/"
_TIFF, _EXIF = "http://ns.adobe.com/tiff/1.0/", "http://ns.adobe.com/exif/1.0/"

DROPPED_NAMESPACES = (
    GAIN_MAP,
    "http://ns.google.com/photos/",
    "http://ns.apple.com/HDRGainMap/",
    "http://ns.apple.com/pixeldatainfo/",
    "http://ns.adobe.com/xap/1.0/g/img/",
    "http://ns.adobe.com/xmp/note/",
)
"""Pictures inside the packet, and what speaks of further pictures in the original's file."""
DROPPED_NAMES = frozenset(
    {
        ("http://ns.adobe.com/xap/1.0/", "Thumbnails"),
        *((_TIFF, name) for name in ("Orientation", "ImageWidth", "ImageLength")),
        *((_EXIF, name) for name in ("PixelXDimension", "PixelYDimension")),
    }
)
"""What is true of the original's pixels alone."""
_GAIN_MAP_VALUES = (
    "Version",
    "BaseRenditionIsHDR",
    "GainMapMin",
    "GainMapMax",
    "Gamma",
    "OffsetSDR",
    "OffsetHDR",
    "HDRCapacityMin",
    "HDRCapacityMax",
)
_VALUE = re.compile(r"-?[0-9]{1,9}(\.[0-9]{1,16})?([eE][-+]?[0-9]{1,2})?|True|False")
_MAX_CHANNELS = 3
_PACKET = '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>{}<?xpacket end="w"?>'
_META = '<x:xmpmeta xmlns:x="adobe:ns:meta/">{}</x:xmpmeta>'
_RDF = f'<rdf:RDF xmlns:rdf="{RDF}">{{}}</rdf:RDF>'
_DESCRIPTION = f'<rdf:Description rdf:about="" xmlns:hdrgm="{GAIN_MAP}" {{}}>{{}}</rdf:Description>'
_DIRECTORY = (
    '<Container:Directory xmlns:Container="http://ns.google.com/photos/1.0/container/" '
    'xmlns:Item="http://ns.google.com/photos/1.0/container/item/"><rdf:Seq>'
    '<rdf:li rdf:parseType="Resource"><Container:Item Item:Semantic="Primary" Item:Mime="image/jpeg"/>'
    "</rdf:li>"
    '<rdf:li rdf:parseType="Resource"><Container:Item Item:Semantic="GainMap" Item:Mime="image/jpeg" '
    'Item:Length="{}"/></rdf:li></rdf:Seq></Container:Directory>'
)


def cleaned_xmp(packet: bytes) -> bytes | None:
    """
    The packet without thumbnails, orientation, sizes and gain map; None where it is no XMP of ours to edit.

    That is: longer than MAX_XMP_BYTES, not UTF-8, not well-formed, or with a document type of its own.
    """
    document = _parsed(packet)
    if document is None or _rdf(document) is None:
        return None
    _clean(document)
    return _written(document)


def with_gain_map(packet: bytes | None, length: int) -> bytes:
    """The packet (cleaned, or none) with the directory of a gain map of so many bytes behind the picture."""
    description = _RDF.format(_DESCRIPTION.format('hdrgm:Version="1.0"', _DIRECTORY.format(length)))
    document = _parsed(packet) if packet else None
    rdf = _rdf(document) if document else None
    if document is not None and rdf is not None:
        (added,) = _root(minidom.parseString(description)).childNodes  # noqa: S318 - our own text
        rdf.appendChild(document.importNode(added, deep=True))
    else:
        document = minidom.parseString(_META.format(description))  # noqa: S318 - our own text
    return _written(document) or _own(description)


def gain_map_values(packet: bytes) -> bytes | None:
    """A packet of a gain map's own numbers and nothing else; None where there are none."""
    document = _parsed(packet)
    values = _values(document) if document else {}
    if "Version" not in values:
        return None
    attributes = " ".join(f'hdrgm:{name}="{found[0]}"' for name, found in values.items() if len(found) == 1)
    sequences = "".join(_sequence(name, found) for name, found in values.items() if len(found) > 1)
    return _own(_RDF.format(_DESCRIPTION.format(attributes, sequences)))


def _sequence(name: str, values: tuple[str, ...]) -> str:
    items = "".join(f"<rdf:li>{value}</rdf:li>" for value in values)
    return f"<hdrgm:{name}><rdf:Seq>{items}</rdf:Seq></hdrgm:{name}>"


def _own(rdf: str) -> bytes:
    return _PACKET.format(_META.format(rdf)).encode()


def _parsed(packet: bytes) -> minidom.Document | None:
    packet = packet.strip(b"\0 \t\r\n")
    if len(packet) > MAX_XMP_BYTES:
        return None
    try:
        text = packet.decode().lstrip("\ufeff")
        _Bounds().check(text)
        return minidom.parseString(text)  # noqa: S318 - checked: nothing is declared in it, and it is not deep
    except (ExpatError, ValueError):
        return None


class _Bounds:
    """What keeps a packet from growing: no document type, thus no entities, and no depth."""

    def __init__(self) -> None:
        self._depth = 0
        self._parser = ParserCreate()
        self._parser.StartDoctypeDeclHandler = self._refuse
        self._parser.StartElementHandler = self._enter
        self._parser.EndElementHandler = self._leave

    def check(self, text: str) -> None:
        self._parser.Parse(text, True)

    def _refuse(self, *_declared: Any) -> None:
        raise ValueError("XMP has no document type.")

    def _enter(self, *_element: Any) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ValueError("XMP is not so deep.")

    def _leave(self, _name: str) -> None:
        self._depth -= 1


def _written(document: minidom.Document) -> bytes | None:
    written = _PACKET.format(_root(document).toxml()).encode()
    return written if len(written) <= MAX_XMP_BYTES else None


def _elements(document: minidom.Document) -> Iterator[Any]:
    """Every element, parents first; those taken out meanwhile are not followed."""
    waiting = [_root(document)]
    while waiting:
        element = waiting.pop()
        yield element
        waiting.extend(node for node in element.childNodes if node.nodeType == node.ELEMENT_NODE)


def _root(document: minidom.Document) -> Any:
    return document.documentElement


def _rdf(document: minidom.Document) -> Any:
    return next((e for e in _elements(document) if (e.namespaceURI, e.localName) == (RDF, "RDF")), None)


def _clean(document: minidom.Document) -> None:
    for element in _elements(document):
        for name, attribute in list(element.attributes.items()):
            if _is_dropped(element.getAttributeNode(name)) or _declares_dropped(name, attribute):
                element.removeAttribute(name)
        for child in [node for node in element.childNodes if _is_dropped(node)]:
            element.removeChild(child)


def _is_dropped(node: Any) -> bool:
    namespace = str(node.namespaceURI or "")
    return namespace.startswith(DROPPED_NAMESPACES) or (namespace, node.localName) in DROPPED_NAMES


def _declares_dropped(name: str, value: str) -> bool:
    return name.startswith("xmlns") and value.startswith(DROPPED_NAMESPACES)


def _values(document: minidom.Document) -> dict[str, tuple[str, ...]]:
    """The numbers and truth values of a gain map, by name, as attributes or as elements of up to three."""
    found: dict[str, tuple[str, ...]] = {}
    for element in _elements(document):
        for name in _GAIN_MAP_VALUES:
            said = element.getAttributeNS(GAIN_MAP, name)
            if (element.namespaceURI, element.localName) == (GAIN_MAP, name):
                said = " ".join(_texts(element))
            numbers = tuple(word for word in said.split() if _VALUE.fullmatch(word))
            if numbers:
                found.setdefault(name, numbers[:_MAX_CHANNELS])
    return found


def _texts(element: Any) -> Iterator[str]:
    waiting = [element]
    while waiting:
        node = waiting.pop()
        if node.nodeType == node.TEXT_NODE:
            yield node.data
        waiting.extend(reversed(node.childNodes))
