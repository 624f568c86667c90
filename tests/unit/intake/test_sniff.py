"""What the first bytes say a file is, in our formats and in words."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from image_processor.intake.sniff import SNIFF_BYTES, describe, sniff
from image_processor.pipeline import ImageFormat


def ftyp(major, *compatible):
    brands = major + bytes(4) + b"".join(compatible)
    return (len(brands) + 8).to_bytes(4, "big") + b"ftyp" + brands + b"\x00\x00\x01\x00meta"


def bmp(header_size):
    return b"BM" + bytes(12) + header_size.to_bytes(4, "little")


OURS = [
    (b"\xff\xd8\xff\xe0\x00\x10JFIF", ImageFormat.JPEG),
    (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", ImageFormat.PNG),
    (b"RIFF\x10\x00\x00\x00WEBPVP8 ", ImageFormat.WEBP),
    (b"GIF87a", ImageFormat.GIF),
    (b"GIF89a\x01\x00", ImageFormat.GIF),
    (b"II*\x00\x08\x00\x00\x00", ImageFormat.TIFF),
    (b"MM\x00*\x00\x00\x00\x08", ImageFormat.TIFF),
    (b"II+\x00\x08\x00\x00\x00", ImageFormat.TIFF),
    (b"MM\x00+\x00\x08\x00\x00", ImageFormat.TIFF),
    (bmp(40), ImageFormat.BMP),
    (bmp(124), ImageFormat.BMP),
    (ftyp(b"avif", b"avif", b"mif1", b"miaf"), ImageFormat.AVIF),
    (ftyp(b"avis", b"msf1"), ImageFormat.AVIF),
    (ftyp(b"mif1", b"mif1", b"miaf", b"avif"), ImageFormat.AVIF),
    (ftyp(b"heic", b"mif1", b"heic"), ImageFormat.HEIC),
    (ftyp(b"mif1", b"mif1", b"heic"), ImageFormat.HEIC),
    (ftyp(b"heix"), ImageFormat.HEIC),
    (ftyp(b"hevc", b"msf1"), ImageFormat.HEIC),
    (b"<svg xmlns='http://www.w3.org/2000/svg'>", ImageFormat.SVG),
    (b"<?xml version='1.0'?>\n<!-- x -->\n<svg width='1'>", ImageFormat.SVG),
    (b"\xef\xbb\xbf  <SVG\n>", ImageFormat.SVG),
    (b"<!DOCTYPE svg PUBLIC '-//W3C//DTD SVG 1.1//EN'>", ImageFormat.SVG),
]

OTHERS = [
    (b"", "an empty file"),
    (b"%PDF-1.7\n", "a PDF document"),
    (b"%!PS-Adobe-3.0 EPSF", "a PostScript document"),
    (b"PK\x03\x04\x14\x00", "a ZIP archive or an office document"),
    (b"\x1f\x8b\x08\x00", "an archive"),
    (bytes(257) + b"ustar\x0000", "an archive"),
    (b"MZ\x90\x00\x03", "an executable program"),
    (b"\x7fELF\x02\x01\x01", "an executable program"),
    (b"#!/bin/sh\nrm -rf /", "an executable script"),
    (b"<!doctype html><html>", "an HTML page"),
    (b"\n <HTML lang='en'>", "an HTML page"),
    (b"<script >alert(1)</script>", "an HTML page"),
    (b"<?xml version='1.0'?><rss>", "an XML document"),
    (ftyp(b"isom", b"iso2", b"mp41"), "a video"),
    (ftyp(b"qt  "), "a video"),
    (b"\x1aE\xdf\xa3\x01\x00", "a video"),
    (b"RIFF\x10\x00\x00\x00AVI LIST", "a video"),
    (b"RIFF\x10\x00\x00\x00WAVEfmt ", "a sound file"),
    (b"ID3\x04\x00", "a sound file"),
    (ftyp(b"mif1", b"mif1", b"jpeg"), "an image of a rare HEIF kind"),
    (ftyp(b"crx ", b"crx ", b"isom"), "a raw camera file"),
    (b"8BPS\x00\x01", "a Photoshop document"),
    (b"\x00\x00\x00\x0cJXL \r\n\x87\n", "a JPEG XL image"),
    (b"BM is how this text begins", "text"),
    ("Příliš žluťoučký kůň".encode(), "text"),
    ("ž".encode() * 300, "text"),
    ("hello".encode("utf-16"), "text"),
    (b"GIF88a is no version", "text"),
    (bytes(100), "data of an unknown kind"),
    (b"\x80\x81\x82\x83", "data of an unknown kind"),
    (b"\xff\xd8", "data of an unknown kind"),
]


@pytest.mark.parametrize(("head", "image_format"), OURS)
def test_knows_its_formats_by_their_magic(head, image_format):
    assert sniff(head) is image_format


@pytest.mark.parametrize(("head", "words"), OTHERS)
def test_says_what_is_none_of_them(head, words):
    assert sniff(head) is None
    assert describe(head[:SNIFF_BYTES]) == words


@pytest.mark.parametrize(("head", "image_format"), OURS)
def test_its_own_formats_have_words_too(head, image_format):
    article = "an" if image_format in (ImageFormat.AVIF, ImageFormat.SVG) else "a"
    assert describe(head) == f"{article} {image_format.label} image"


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"])
def test_knows_what_another_encoder_writes(name):
    file = io.BytesIO()
    Image.new("RGB", (3, 2)).save(file, name)
    assert sniff(file.getvalue()[:SNIFF_BYTES]) is ImageFormat(name.lower())


def test_a_brand_that_lies_beyond_its_box_does_not_count():
    head = b"\x00\x00\x00\x10ftypisom\x00\x00\x00\x00avif"
    assert sniff(head) is None


@given(st.binary(max_size=SNIFF_BYTES))
def test_any_bytes_have_words(head):
    assert describe(head)
    assert sniff(head) is None or "image" in describe(head)


@given(st.sampled_from([head for head, _ in OURS]), st.binary(max_size=40))
def test_what_follows_the_magic_does_not_matter(head, tail):
    assert sniff(head + tail) is sniff(head)


@pytest.mark.slow
def test_knows_the_camera_photos(photos):
    suffixes = {"jpg": "jpeg", "tif": "tiff"}
    paths = [path for path in photos.rglob("*.*") if path.suffix != ".md"]
    assert paths
    for path in paths:
        with path.open("rb") as file:
            suffix = path.suffix[1:]
            assert sniff(file.read(SNIFF_BYTES)) == suffixes.get(suffix, suffix), path.name
