"""What a file is by its first bytes, and never by what its sender calls it."""

import codecs
import re
from collections.abc import Callable

from image_processor.pipeline import ImageFormat

SNIFF_BYTES = 512
"""So many first bytes are enough; fewer are fine where the file has no more."""

_MAGIC = (
    (b"\xff\xd8\xff", ImageFormat.JPEG),
    (b"\x89PNG\r\n\x1a\n", ImageFormat.PNG),
    (b"GIF87a", ImageFormat.GIF),
    (b"GIF89a", ImageFormat.GIF),
    (b"II*\x00", ImageFormat.TIFF),
    (b"MM\x00*", ImageFormat.TIFF),
    (b"II+\x00\x08\x00\x00\x00", ImageFormat.TIFF),
    (b"MM\x00+\x00\x08\x00\x00", ImageFormat.TIFF),
)
_BMP_HEADERS = frozenset({12, 16, 40, 52, 56, 64, 108, 124})
_BRANDS = {
    **dict.fromkeys((b"avif", b"avis"), ImageFormat.AVIF),
    **dict.fromkeys(
        (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"), ImageFormat.HEIC
    ),
}


def sniff(head: bytes) -> ImageFormat | None:
    """The format by its magic in the first `SNIFF_BYTES` bytes (fewer, if there are no more), or None."""
    for magic, image_format in _MAGIC:
        if head.startswith(magic):
            return image_format
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return ImageFormat.WEBP
    if _is_bmp(head):
        return ImageFormat.BMP
    if _is_svg(head):
        return ImageFormat.SVG
    return next((_BRANDS[brand] for brand in _brands(head) if brand in _BRANDS), None)


def describe(head: bytes) -> str:
    """
    Words, with their article, for what these first bytes look like: `a PDF document`, `an empty file`.

    They complete the sentence "The file looks like …" and hold nothing that the sender chose.
    """
    image_format = sniff(head)
    if image_format is not None:
        article = "an" if image_format in (ImageFormat.AVIF, ImageFormat.SVG) else "a"
        return f"{article} {image_format.label} image"
    for matches, words in _LOOKS:
        if matches(head):
            return words
    return "data of an unknown kind"


def _is_bmp(head: bytes) -> bool:
    """Two letters alone would claim every text that begins with BM; the next header's size must fit too."""
    return head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BMP_HEADERS


def _brands(head: bytes) -> list[bytes]:
    """The major and then the compatible brands of an ISO media file."""
    if head[4:8] != b"ftyp":
        return []
    box = head[8 : min(int.from_bytes(head[:4], "big"), SNIFF_BYTES)]
    brands = [box[at : at + 4] for at in range(0, len(box), 4)]
    return brands[:1] + brands[2:]  # between the two stands a version


def _begins(*magics: bytes) -> Callable[[bytes], bool]:
    return lambda head: head.startswith(magics)


def _has(at: int, magic: bytes) -> Callable[[bytes], bool]:
    return lambda head: head[at : at + len(magic)] == magic


def _riff(kind: bytes) -> Callable[[bytes], bool]:
    return lambda head: head[:4] == b"RIFF" and head[8:12] == kind


def _markup(pattern: bytes) -> Callable[[bytes], bool]:
    compiled = re.compile(rb"(?:\xef\xbb\xbf)?\s{0,256}" + pattern, re.IGNORECASE | re.DOTALL)
    return lambda head: compiled.match(head[:SNIFF_BYTES]) is not None


_SVG_STARTS = (
    _markup(rb"<svg[\s>]"),
    _markup(rb"<(?:\?xml|!--|!doctype svg).*<svg[\s>]"),
    _markup(rb"<!doctype svg"),
)


def _is_svg(head: bytes) -> bool:
    """Text alone: what is accepted as such nobody should take for anything else."""
    return any(matches(head) for matches in _SVG_STARTS)


def _is_text(head: bytes) -> bool:
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return True
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return all(character.isprintable() or character in "\t\n\r\f\ufeff" for character in text)


_LOOKS: tuple[tuple[Callable[[bytes], bool], str], ...] = (
    (lambda head: not head, "an empty file"),
    (_begins(b"%PDF-"), "a PDF document"),
    (_begins(b"%!PS", b"\xc5\xd0\xd3\xc6"), "a PostScript document"),
    (_begins(b"8BPS"), "a Photoshop document"),
    (_begins(b"\xff\x0a", b"\x00\x00\x00\x0cJXL \r\n\x87\n"), "a JPEG XL image"),
    (_begins(b"\xff\x4f\xff\x51", b"\x00\x00\x00\x0cjP  \r\n\x87\n"), "a JPEG 2000 image"),
    (_begins(b"\x00\x00\x01\x00"), "an icon"),
    (_begins(b"PK\x03\x04", b"PK\x05\x06"), "a ZIP archive or an office document"),
    (_begins(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"), "an office document"),
    (_begins(b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07"), "an archive"),
    (_begins(b"\x28\xb5\x2f\xfd"), "an archive"),
    (_has(257, b"ustar"), "an archive"),
    (
        _begins(b"MZ", b"\x7fELF", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe", b"\x00asm"),
        "an executable program",
    ),
    (_begins(b"#!"), "an executable script"),
    (_begins(b"SQLite format 3\x00"), "a database"),
    (_riff(b"AVI "), "a video"),
    (_riff(b"WAVE"), "a sound file"),
    (_begins(b"ID3", b"fLaC", b"OggS", b"\xff\xfb", b"\xff\xf3", b"\xff\xf1"), "a sound file"),
    (lambda head: bool({b"mif1", b"msf1"} & set(_brands(head))), "an image of a rare HEIF kind"),
    (_has(8, b"crx "), "a raw camera file"),
    (_has(4, b"ftyp"), "a video"),
    (_begins(b"\x1aE\xdf\xa3", b"\x00\x00\x01\xba", b"\x00\x00\x01\xb3", b"FLV\x01"), "a video"),
    (_markup(rb"<(?:!doctype html|html|head|body|script)[\s>]"), "an HTML page"),
    (_markup(rb"<\?xml"), "an XML document"),
    (_is_text, "text"),
)
