"""JPEG headers made by hand: what is lenient, what is damaged, what is not supported."""

import io

import pytest

from image_processor.errors import CorruptImageError, UnsupportedFormatError
from image_processor.intake.probe import Header, probe
from image_processor.pipeline import ImageFormat

SOI, EOI = b"\xff\xd8", b"\xff\xd9"


def segment(marker, body=b""):
    return bytes((0xFF, marker)) + (len(body) + 2).to_bytes(2, "big") + body


def frame(marker=0xC0, width=7, height=5, precision=8, components=1):
    size = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return segment(marker, bytes((precision,)) + size + bytes((components,)) + b"\x01\x11\x00" * components)


APP0 = segment(0xE0, b"JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00")
SCAN = segment(0xDA, b"\x01\x01\x00\x00\x3f\x00")
DATA = b"\x12\x34\x56"
WHOLE = SOI + APP0 + frame() + SCAN + DATA + EOI


def probed(content, size_bytes=None):
    return probe(io.BytesIO(content), ImageFormat.JPEG, len(content) if size_bytes is None else size_bytes)


@pytest.mark.parametrize(
    "content",
    [
        WHOLE,
        SOI + frame() + SCAN + DATA,
        WHOLE + b"trailing data, such as a second image" * 100,
        SOI + b"\xff\xff\xff" + APP0[1:] + frame() + SCAN + DATA,
        SOI + APP0 + b"stray" + frame() + SCAN + DATA,
        SOI + APP0 + b"\xff\x00\xff\x01\xff\xd3" + frame() + SCAN + DATA,
        SOI + segment(0xE1, b"x" * 65533) * 30 + frame() + SCAN + DATA,
        SOI + frame() + segment(0xC4) + segment(0xDB) + segment(0xCC) + SCAN + DATA,
        SOI + frame() + SCAN + b"\xff\x00",
        SOI + frame() + SCAN + b"\xff\xd0\x12",
    ],
)
def test_reads_the_frame_header_and_is_lenient_about_the_rest(content):
    assert probed(content) == Header(width=7, height=5)


@pytest.mark.parametrize(("marker", "progressive"), [(0xC0, False), (0xC1, False), (0xC2, True)])
def test_tells_progressive_from_sequential(marker, progressive):
    assert probed(SOI + frame(marker, 65535, 1) + SCAN + DATA) == Header(
        width=65535, height=1, interlaced=progressive
    )


@pytest.mark.parametrize("length", range(2, len(WHOLE) - len(EOI) - 1))
def test_a_file_that_ends_before_its_first_scan_has_data_is_truncated(length):
    with pytest.raises(CorruptImageError, match="truncated"):
        probed(WHOLE[:length])


def test_a_file_that_is_shorter_than_it_was_said_to_be_is_truncated():
    with pytest.raises(CorruptImageError, match="truncated"):
        probed(WHOLE[:30], size_bytes=len(WHOLE))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"\x00" + WHOLE, "does not begin as one"),
        (SOI + EOI, "before any picture data"),
        (SOI + APP0 + frame() + EOI, "before any picture data"),
        (SOI + SOI + frame() + SCAN + DATA, "before any picture data"),
        (SOI + APP0 + SCAN + DATA + EOI, "no frame header"),
        (SOI + frame() + frame() + SCAN + DATA, "two frame headers"),
        (SOI + b"\xff\xe0\x00\x00", "impossible length"),
        (SOI + b"\xff\xe0\x00\x01", "impossible length"),
        (SOI + frame(components=0) + SCAN + DATA, "impossible length"),
        (SOI + frame(components=5) + SCAN + DATA, "impossible length"),
        (
            SOI + segment(0xC0, b"\x08\x00\x05\x00\x07\x03" + b"\x01\x11\x00") + SCAN + DATA,
            "impossible length",
        ),
        (SOI + segment(0xC0, b"\x08") + b"\x00" * 50 + SCAN + DATA, "impossible length"),
        (SOI + frame(width=0) + SCAN + DATA, "no size"),
        (SOI + frame(height=0) + SCAN + DATA, "no size"),
        (SOI + frame() + SCAN + EOI, "no data"),
        (SOI + frame() + SCAN + SCAN + DATA, "no data"),
    ],
)
def test_headers_that_make_no_sense_are_damaged(content, sentence):
    with pytest.raises(CorruptImageError, match=f"The JPEG image is damaged: .*{sentence}"):
        probed(content)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        *((frame(marker), "arithmetic-coded") for marker in (0xC9, 0xCA, 0xCB)),
        *((frame(marker), "hierarchical") for marker in (0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF)),
        (frame(0xC3), "lossless"),
        (frame(0xC1, precision=12), "12 bits per sample"),
    ],
)
def test_kinds_that_nobody_decodes_are_not_supported(content, kind):
    with pytest.raises(UnsupportedFormatError, match=f"{kind}.*not supported"):
        probed(SOI + content + SCAN + DATA)
