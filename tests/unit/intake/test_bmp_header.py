"""What is read of BMP files, and what is refused: byte by byte."""

import io
import struct

import pytest

from image_processor.errors import CorruptImageError, UnsupportedFormatError
from image_processor.intake.probe import Header, probe
from image_processor.pipeline import ImageFormat
from image_processor.testing import sample_images


def bmp(width=40, height=30, *, length=40, planes=1, depth=24, compression=0, pixels_at=None):
    sides = struct.pack("<HH" if length == 12 else "<ii", width, height)
    header = struct.pack("<I", length) + sides + struct.pack("<HH", planes, depth)
    if length > 16:
        header += struct.pack("<I", compression)
    header = header.ljust(length, b"\0")
    pixels_at = 14 + length if pixels_at is None else pixels_at
    return b"BM" + bytes(8) + struct.pack("<I", pixels_at) + header + bytes(100)


def probed(content):
    return probe(io.BytesIO(content), ImageFormat.BMP, len(content))


@pytest.mark.parametrize("length", [12, 16, 40, 52, 56, 64, 108, 124])
def test_every_kind_of_header_gives_the_size(length):
    assert probed(bmp(length=length)) == Header(width=40, height=30)


def test_rows_may_begin_at_the_top():
    assert probed(bmp(height=-30)) == Header(width=40, height=30)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA"])
def test_reads_what_another_encoder_wrote(mode):
    assert probed(sample_images.bmp(97, 63, mode=mode)) == Header(width=97, height=63)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"MB" + bmp()[2:],
        bmp()[:20],
        bmp(length=41),
        bmp(width=0),
        bmp(width=-40),
        bmp(height=0),
        bmp(planes=2),
        bmp(depth=7),
        bmp(pixels_at=20),
        bmp(pixels_at=10_000),
        bmp()[:54],
    ],
)
def test_what_makes_no_sense_is_damaged(content):
    with pytest.raises(CorruptImageError, match=r"The BMP image is (damaged|truncated)"):
        probed(content)


@pytest.mark.parametrize(("compression", "what"), [(4, "a JPEG inside a BMP"), (5, "a PNG inside a BMP")])
def test_other_formats_inside_are_not_supported(compression, what):
    with pytest.raises(UnsupportedFormatError, match=what):
        probed(bmp(compression=compression))
