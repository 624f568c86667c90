"""What is read of TIFF files, and what is refused: byte by byte."""

import io

import pytest

from image_processor.errors import CorruptImageError
from image_processor.intake.probe import Header, probe
from image_processor.pipeline import ImageFormat
from image_processor.testing import sample_images

SHORT, LONG, LONG8, RATIONAL = 3, 4, 16, 5
LENGTHS = {SHORT: 2, LONG: 4, LONG8: 8}


def tiff(*tags, order="little", big=False, gap=0):
    """The header and the first directory; a tag is a number, a type and a value."""
    wide = 8 if big else 4

    def number(value, length):
        return value.to_bytes(length, order)

    def entry(tag, kind, value, count=1):
        field = number(value, LENGTHS.get(kind, 4)).ljust(wide, b"\0")
        return number(tag, 2) + number(kind, 2) + number(count, wide) + field

    start = (b"II" if order == "little" else b"MM") + number(43 if big else 42, 2)
    if big:
        start += number(8, 2) + number(0, 2)
    at = len(start) + wide + gap
    table = b"".join(entry(*tag) for tag in tags)
    return start + number(at, wide) + bytes(gap) + number(len(tags), 8 if big else 2) + table + bytes(wide)


def probed(content):
    return probe(io.BytesIO(content), ImageFormat.TIFF, len(content))


SIZE = ((256, SHORT, 640), (257, LONG, 480))


@pytest.mark.parametrize("order", ["little", "big"])
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("gap", [0, 100_000])
def test_the_first_page_gives_the_size(order, big, gap):
    content = tiff((254, LONG, 0), *SIZE, (258, SHORT, 8), order=order, big=big, gap=gap)
    assert probed(content) == Header(width=640, height=480)


def test_a_big_file_may_have_long_numbers():
    assert probed(tiff((256, LONG8, 640), (257, LONG8, 480), big=True)) == Header(width=640, height=480)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"II*\0",
        b"IM*\0" + bytes(20),
        b"II,\0" + bytes(20),
        b"II*\0\4\0\0\0" + bytes(20),
        b"II*\0\xff\xff\xff\xff" + bytes(20),
        b"II+\0\4\0\0\0" + bytes(40),
        tiff(),
        tiff((256, SHORT, 640)),
        tiff((256, SHORT, 0), (257, SHORT, 480)),
        tiff((256, RATIONAL, 640), (257, SHORT, 480)),
        tiff((256, SHORT, 640, 2), (257, SHORT, 480)),
        tiff((256, LONG8, 640), (257, SHORT, 480)),
        tiff(*SIZE)[:-10],
        tiff(*SIZE * 3000),
    ],
)
def test_what_makes_no_sense_is_damaged(content):
    with pytest.raises(CorruptImageError, match=r"The TIFF image is (damaged|truncated)"):
        probed(content)


@pytest.mark.parametrize(
    "content",
    [
        sample_images.tiff(97, 63),
        sample_images.tiff(97, 63, tile=True, bigtiff=True),
        sample_images.tiff_16bit(97, 63),
        sample_images.tiff_of_pages(97, 63),
    ],
)
def test_reads_what_another_encoder_wrote(content):
    assert probed(content) == Header(width=97, height=63)
