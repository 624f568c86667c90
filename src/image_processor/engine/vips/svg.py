"""SVG, drawn by librsvg from memory, once a document has been found to be no more than a drawing."""

import re
from pathlib import Path
from xml.parsers import expat

import pyvips

from image_processor.errors import CorruptImageError, FileTooLargeError, UnsupportedFormatError

MAX_SVG_BYTES = 1024 * 1024
_XML_DECLARATION = re.compile(r"<\?xml[^>]*?\bencoding\s*=\s*[\"']([^\"']*)")
_ENCODINGS = frozenset({"utf-8", "utf8", "us-ascii", "ascii"})
_EMBEDDED = re.compile(r"(?<![\w-])data:", re.IGNORECASE)
_BLANKS = re.compile(r"[\x00-\x20]+")


def open_svg(path: Path) -> pyvips.Image:
    """
    The drawing in its own size; nothing of it is drawn before somebody asks for pixels.

    References to files and addresses load nothing: librsvg is given no place that they could be relative to.

    Raises:
        FileTooLargeError: more than `MAX_SVG_BYTES`.
        UnsupportedFormatError: a document type or entities, another encoding than UTF-8, embedded files.
        CorruptImageError: no well-formed XML.
    """
    size = path.stat().st_size
    if size > MAX_SVG_BYTES:
        raise FileTooLargeError(f"The SVG image has {size} bytes; at most {MAX_SVG_BYTES} are allowed.")
    document = path.read_bytes()
    _check(document)
    return pyvips.Image.svgload_buffer(document)


def is_svg(start: bytes) -> bool:
    """Whether a file can be SVG by its first bytes: it is a text of tags."""
    return start.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"<")


def _check(document: bytes) -> None:
    """What librsvg is to draw is read once by a parser that resolves nothing."""
    _check_encoding(document)
    try:
        _Reader().read(document)
    except expat.ExpatError as error:
        raise CorruptImageError(f"The SVG image is damaged: {error}.") from error


def _check_encoding(document: bytes) -> None:
    """Another encoding could hide from one parser what the other one sees."""
    try:
        declaration = _XML_DECLARATION.match(document.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise _refused("in another encoding than UTF-8") from error
    if declaration and declaration[1].lower() not in _ENCODINGS:
        raise _refused("in another encoding than UTF-8")


class _Reader:
    """One walk over a document, which raises where it finds more than a drawing."""

    def __init__(self) -> None:
        self._open_elements: list[str] = []
        self._style = ""
        self._parser = expat.ParserCreate("UTF-8")
        self._parser.StartDoctypeDeclHandler = self._doctype
        self._parser.ProcessingInstructionHandler = self._instruction
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._text

    def read(self, document: bytes) -> None:
        self._parser.Parse(document, True)

    def _doctype(self, *_: object) -> None:
        raise _refused("with a document type declaration")

    def _instruction(self, target: str, _data: str) -> None:
        if target == "xml-stylesheet":
            raise _refused("with its style sheet in another place")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if self._is_in_style:
            raise _refused("with elements in its style sheet")
        self._open_elements.append(_local(name))
        for attribute, value in attributes.items():
            if ":" not in attribute or _local(attribute) == "href":
                _check_references(value)

    def _end(self, _name: str) -> None:
        if self._is_in_style:
            _check_references(self._style)
            self._style = ""
        self._open_elements.pop()

    def _text(self, text: str) -> None:
        if self._is_in_style:
            self._style += text

    @property
    def _is_in_style(self) -> bool:
        return self._open_elements[-1:] == ["style"]


def _local(name: str) -> str:
    return name.rpartition(":")[2]


def _check_references(text: str) -> None:
    """
    A picture of any size can be embedded in a few bytes, and librsvg decodes it without a limit.

    Blanks inside an address do not count. A backslash could spell the word in style sheets; drawings have no
    other use for it there.
    """
    if _EMBEDDED.search(_BLANKS.sub("", text)) or ("\\" in text and "(" in text):
        raise _refused("with files embedded in it")


def _refused(what: str) -> UnsupportedFormatError:
    return UnsupportedFormatError(f"This is an SVG image {what}, which is not supported.")
