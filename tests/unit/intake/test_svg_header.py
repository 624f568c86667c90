"""What is read of SVG documents, and what is refused."""

import io

import pytest
import pyvips

from image_processor.engine.vips.setup import set_up_vips
from image_processor.errors import CorruptImageError, UnsupportedFormatError
from image_processor.intake.probe import Header, probe
from image_processor.pipeline import ImageFormat
from image_processor.testing import sample_images


def probed(content):
    return probe(io.BytesIO(content), ImageFormat.SVG, len(content))


@pytest.mark.parametrize(
    "size",
    [
        'width="300" height="200"',
        'width="300px" height="200.5"',
        'width="2in" height="10mm"',
        'width="30pt" height="3pc"',
        'viewBox="0 0 30 20"',
        'viewBox="-5,-5 30,20"',
        "width='7' height='9' viewBox='0 0 30 20'",
    ],
)
def test_the_size_is_the_one_that_will_be_drawn(size):
    set_up_vips()
    content = b'<?xml version="1.0"?>\n<!-- > -->\n' + sample_images.svg(size=size)
    drawn = pyvips.Image.svgload_buffer(content)
    header = probed(content)
    assert abs(header.width - drawn.width) <= 1
    assert abs(header.height - drawn.height) <= 1


@pytest.mark.parametrize("size", ['width="100%" height="100%"', "id='x'", 'width="1e9" height="-4"'])
def test_a_size_that_only_drawing_tells_is_left_open(size):
    assert probed(sample_images.svg(size=size)) == Header(width=1, height=1)


def test_a_bomb_says_so():
    assert probed(sample_images.svg(size='width="900000" height="800000"')).width == 900_000


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<svg",
        b"<html></html>",
        b"<svg width=3></svg>",
        b"plain text",
        b"<!--" + bytes(100),
        b" " * 40_000,
    ],
)
def test_what_makes_no_sense_is_damaged(content):
    with pytest.raises(CorruptImageError, match="The SVG image is"):
        probed(content)


def test_a_document_type_is_not_supported():
    with pytest.raises(UnsupportedFormatError, match="document type declaration"):
        probed(b'<!DOCTYPE svg [<!ENTITY a "b">]>' + sample_images.svg())
