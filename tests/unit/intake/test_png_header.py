"""PNG headers made by hand: which kinds exist, what is damaged, what is truncated."""

import io
import zlib

import pytest

from image_processor.errors import CorruptImageError, UnsupportedFormatError
from image_processor.intake.probe import Header, probe
from image_processor.pipeline import ImageFormat

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def chunk(kind, body=b""):
    return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")


def ihdr(width=7, height=5, depth=8, colour=2, rest=(0, 0, 0)):
    return chunk(
        b"IHDR", width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes((depth, colour, *rest))
    )


IDAT, IEND = chunk(b"IDAT", zlib.compress(b"\x00" * 110)), chunk(b"IEND")
WHOLE = SIGNATURE + ihdr() + IDAT + IEND

KINDS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}


def probed(content):
    return probe(io.BytesIO(content), ImageFormat.PNG, len(content))


@pytest.mark.parametrize(
    ("colour", "depth"), [(colour, depth) for colour in range(8) for depth in (0, 1, 2, 3, 4, 8, 16, 32)]
)
def test_exactly_the_kinds_of_the_standard_exist(colour, depth):
    content = SIGNATURE + ihdr(depth=depth, colour=colour) + IDAT + IEND
    if depth in KINDS.get(colour, ()):
        assert probed(content) == Header(width=7, height=5)
    else:
        with pytest.raises(CorruptImageError, match="does not exist"):
            probed(content)


@pytest.mark.parametrize(
    "content",
    [
        WHOLE + b"trailing data",
        SIGNATURE + ihdr() + chunk(b"tEXt", b"x" * 100_000) + IDAT + IEND,
        SIGNATURE + ihdr() + chunk(b"IDAT") + IDAT * 1000 + chunk(b"zTXt") + IEND,
        SIGNATURE + ihdr() + chunk(b"acTL", bytes((0, 0, 0, 9, 0, 0, 0, 0))) + IDAT + IEND,
    ],
)
def test_walks_over_all_chunks(content):
    assert probed(content) == Header(width=7, height=5)


def test_tells_interlaced_files():
    assert probed(SIGNATURE + ihdr(rest=(0, 0, 1)) + IDAT + IEND).interlaced


def test_reads_the_largest_sizes():
    header = probed(SIGNATURE + ihdr(2**31 - 1, 2**31 - 1) + IDAT + IEND)
    assert (header.width, header.height) == (2**31 - 1, 2**31 - 1)


@pytest.mark.parametrize("length", range(8, len(WHOLE)))
def test_a_file_without_its_end_is_truncated(length):
    with pytest.raises(CorruptImageError, match="truncated"):
        probed(WHOLE[:length])


def test_a_chunk_longer_than_the_file_is_truncated():
    with pytest.raises(CorruptImageError, match="truncated"):
        probed(SIGNATURE + ihdr() + b"\x7f\xff\xff\xffIDATx" + IEND)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"\x89PNG\n\x1a\n\x00" + WHOLE[8:], "does not begin as one"),
        (SIGNATURE + IDAT + ihdr() + IEND, "header chunk"),
        (SIGNATURE + chunk(b"IHDR", bytes(12)) + IDAT + IEND, "header chunk"),
        (SIGNATURE + ihdr()[:-1] + b"\x00" + IDAT + IEND, "checksum"),
        (SIGNATURE + ihdr(width=0) + IDAT + IEND, "no possible size"),
        (SIGNATURE + ihdr(height=2**31) + IDAT + IEND, "no possible size"),
        (SIGNATURE + ihdr(rest=(1, 0, 0)) + IDAT + IEND, "does not exist"),
        (SIGNATURE + ihdr(rest=(0, 1, 0)) + IDAT + IEND, "does not exist"),
        (SIGNATURE + ihdr(rest=(0, 0, 2)) + IDAT + IEND, "does not exist"),
        (SIGNATURE + ihdr() + IEND, "no picture data"),
        (SIGNATURE + ihdr() + chunk(b"IDAT") + IEND, "no picture data"),
        (SIGNATURE + ihdr() + b"\x00\x00\x00\x01ID\x00T" + bytes(20), "should be a chunk"),
        (SIGNATURE + ihdr() + b"\x80\x00\x00\x00IDAT" + bytes(20), "should be a chunk"),
    ],
)
def test_headers_that_make_no_sense_are_damaged(content, sentence):
    with pytest.raises(CorruptImageError, match=f"The PNG image is damaged: .*{sentence}"):
        probed(content)


def test_apples_own_variant_is_not_supported():
    with pytest.raises(UnsupportedFormatError, match="not supported"):
        probed(SIGNATURE + chunk(b"CgBI", bytes(4)) + ihdr() + IDAT + IEND)
