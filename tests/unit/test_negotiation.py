"""The format for a client: from what browsers send, for what a picture is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from image_processor.errors import UnsupportedFormatError
from image_processor.pipeline import AvifOutput, ImageFormat, JpegOutput, PngOutput, TiffOutput, WebpOutput
from image_processor.pipeline.negotiation import (
    MAX_ACCEPT_LENGTH,
    OUTPUT_FORMATS,
    AutoOutput,
    Traits,
    output_format,
    read_accept,
)

CHROME = "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8"
FIREFOX = "image/avif,image/webp,image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5"
OLD_SAFARI = "image/png,image/svg+xml,image/*;q=0.8,video/*;q=0.8,*/*;q=0.5"
PHOTO = Traits(ImageFormat.JPEG)
GRAPHIC = Traits(ImageFormat.PNG)
TRANSPARENT = Traits(ImageFormat.WEBP, has_alpha=True)
ANIMATED = Traits(ImageFormat.GIF, has_alpha=True, is_animated=True)


def chosen(accept, traits):
    return AutoOutput(accept=accept).resolve(traits).format


@pytest.mark.parametrize(
    ("accept", "photo", "graphic", "transparent", "animated"),
    [
        (CHROME, "avif", "avif", "avif", "webp"),
        (FIREFOX, "avif", "avif", "avif", "webp"),
        ("image/webp,*/*;q=0.8", "webp", "webp", "webp", "webp"),
        ("*/*", "jpeg", "png", "png", "gif"),
        ("image/*;q=0.5", "jpeg", "png", "png", "gif"),
        (None, "jpeg", "png", "png", "gif"),
        ("", "jpeg", "png", "png", "gif"),
        ("text/html", "jpeg", "png", "png", "gif"),
        ("image/jxl", "jpeg", "png", "png", "gif"),
        ("image/avif", "avif", "avif", "avif", "avif"),
        ("image/jpeg", "jpeg", "jpeg", "jpeg", "jpeg"),
        ("image/jpeg,*/*;q=0.1", "jpeg", "jpeg", "png", "gif"),
        ("image/avif;q=0.5,image/webp", "webp", "webp", "webp", "webp"),
        ("image/avif;q=0,image/webp;q=0,*/*", "jpeg", "png", "png", "gif"),
        ("image/*,image/jpeg;q=0", "png", "png", "png", "gif"),
        (" IMAGE/WebP ; q=1.000 ", "webp", "webp", "webp", "webp"),
        ("image/webp;q=2,image/avif;q=x,image/png", "png", "png", "png", "png"),
    ],
)
def test_a_client_gets_what_suits_it_and_the_picture(accept, photo, graphic, transparent, animated):
    found = [chosen(accept, traits) for traits in (PHOTO, GRAPHIC, TRANSPARENT, ANIMATED)]
    assert found == [photo, graphic, transparent, animated]


def test_a_client_of_old_gets_no_format_of_today():
    assert chosen(OLD_SAFARI, PHOTO) == "png"
    assert chosen(OLD_SAFARI, ANIMATED) == "gif"


def test_the_most_specific_range_decides():
    wanted = read_accept("*/*;q=0.1, image/*;q=0.3, image/png;q=0.7")
    assert (wanted[ImageFormat.PNG], wanted[ImageFormat.JPEG]) == (0.7, 0.3)
    assert wanted[ImageFormat.AVIF] == 0


@pytest.mark.parametrize(
    ("formats", "traits", "format_"),
    [
        (["avif", "webp"], PHOTO, "avif"),
        (["webp", "avif"], PHOTO, "avif"),
        (["jpg", "png"], PHOTO, "jpeg"),
        (["jpg", "png"], TRANSPARENT, "png"),
        (["tif"], PHOTO, "tiff"),
        ([], PHOTO, "jpeg"),
    ],
)
def test_a_list_says_what_the_client_shows(formats, traits, format_):
    assert AutoOutput(formats=formats).resolve(traits).format == format_


def test_settings_are_those_that_the_format_has():
    webp = AutoOutput(formats=["webp"], quality=50)
    assert webp.resolve(PHOTO) == WebpOutput(quality=50)
    assert AutoOutput(quality="auto").resolve(PHOTO) == JpegOutput(quality="auto")
    assert AutoOutput(quality=50, max_bytes=None).resolve(GRAPHIC) == PngOutput()
    assert AutoOutput(formats=["avif"], max_bytes=9000).resolve(PHOTO) == AvifOutput(max_bytes=9000)
    assert AutoOutput(formats=["tiff"], quality="auto").resolve(PHOTO) == TiffOutput()


def test_a_header_and_a_list_are_two_questions():
    with pytest.raises(ValidationError, match="not both"):
        AutoOutput(accept="*/*", formats=["webp"])


def test_a_header_has_a_bounded_length():
    assert AutoOutput(accept="x" * MAX_ACCEPT_LENGTH).resolve(PHOTO) == JpegOutput()
    with pytest.raises(ValidationError, match="at most"):
        AutoOutput(accept="x" * (MAX_ACCEPT_LENGTH + 1))


@pytest.mark.parametrize("name", ["xyz", "", "heic", "bmp", "svg", "x" * 1000])
def test_an_unknown_format_is_answered_with_the_known_ones(name):
    with pytest.raises(
        UnsupportedFormatError, match="supported are JPEG, PNG, WebP, AVIF, GIF, TIFF"
    ) as caught:
        output_format(name)
    assert len(str(caught.value)) < 150
    assert caught.value.details["supported"] == [known.media_type for known in OUTPUT_FORMATS]


@given(st.text(alphabet="image/webpavifq=;,.*019 \0é", max_size=60))
def test_whatever_the_header_says_there_is_a_format(accept):
    assert AutoOutput(accept=accept).resolve(TRANSPARENT).format in set(OUTPUT_FORMATS)
