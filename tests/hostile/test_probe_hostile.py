"""Any bytes at all: the probe gives a header or a refusal, soon, whatever the file says."""

import io
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from image_processor.errors import CorruptImageError, ImageProcessorError, RejectedError
from image_processor.intake.probe import PROBED, Header, check_limits, probe
from image_processor.intake.sniff import SNIFF_BYTES, describe, sniff
from image_processor.pipeline import ImageFormat, Limits
from image_processor.testing import sample_images

TEN_MB = 10 * 1024 * 1024
SECONDS = 1.0
FORMATS = sorted(PROBED)


def encoded(name, mode="RGB", **options):
    file = io.BytesIO()
    Image.effect_noise((40, 30), 60).convert(mode).save(file, name, **options)
    return file.getvalue()


def animated(name):
    others = [Image.effect_noise((40, 30), 60).convert("RGB") for _ in range(3)]
    return encoded(name, save_all=True, append_images=others)


REAL = {
    "jpeg": (ImageFormat.JPEG, encoded("JPEG", quality=30)),
    "progressive": (ImageFormat.JPEG, encoded("JPEG", quality=30, progressive=True)),
    "png": (ImageFormat.PNG, encoded("PNG", mode="P")),
    "apng": (ImageFormat.PNG, animated("PNG")),
    "lossy": (ImageFormat.WEBP, encoded("WEBP", quality=20)),
    "lossless": (ImageFormat.WEBP, encoded("WEBP", lossless=True)),
    "extended": (ImageFormat.WEBP, encoded("WEBP", exif=b"Exif\x00\x00II*\x00\x08\x00\x00\x00\x00\x00")),
    "animated_webp": (ImageFormat.WEBP, animated("WEBP")),
    "gif": (ImageFormat.GIF, encoded("GIF")),
    "animated_gif": (ImageFormat.GIF, animated("GIF")),
    "tiff": (ImageFormat.TIFF, encoded("TIFF")),
    "bmp": (ImageFormat.BMP, encoded("BMP")),
    "avif": (ImageFormat.AVIF, encoded("AVIF", quality=30)),
    "animated_avif": (ImageFormat.AVIF, animated("AVIF")),
    "heic": (ImageFormat.HEIC, sample_images.heic(40, 30)),
    "svg": (ImageFormat.SVG, sample_images.svg(size='width="40" height="30"')),
}
ISO_MEDIA = {ImageFormat.AVIF, ImageFormat.HEIC}
"""One container for both; their brands tell them apart, before a reader is chosen."""
MAGIC = {
    ImageFormat.JPEG: b"\xff\xd8",
    ImageFormat.PNG: b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR",
    ImageFormat.WEBP: b"RIFF\x40\x00\x00\x00WEBPVP8X\x0a\x00\x00\x00\x02\x00\x00\x00",
    ImageFormat.GIF: b"GIF89a\x07\x00\x05\x00\x80\x00\x00",
    ImageFormat.TIFF: b"II*\x00\x08\x00\x00\x00",
    ImageFormat.BMP: b"BM" + bytes(8) + b"\x36\x00\x00\x00\x28\x00\x00\x00",
    ImageFormat.AVIF: b"\x00\x00\x00\x10ftypavif\x00\x00\x00\x00",
    ImageFormat.HEIC: b"\x00\x00\x00\x10ftypheic\x00\x00\x00\x00\x00\x00\x01\x00meta\x00\x00\x00\x00",
    ImageFormat.SVG: b"<svg ",
}


def outcome(content, image_format, size_bytes=None):
    """The header, or the class of the refusal; anything else fails the test."""
    try:
        header = probe(io.BytesIO(content), image_format, len(content) if size_bytes is None else size_bytes)
    except RejectedError as refusal:
        return type(refusal)
    assert min(header.width, header.height, header.frames) >= 1
    assert header.frames <= len(content)
    return header


@pytest.mark.parametrize("image_format", FORMATS)
class TestFuzz:
    @given(content=st.binary(max_size=400))
    def test_random_bytes(self, image_format, content):
        outcome(content, image_format)

    @given(content=st.binary(max_size=400))
    def test_random_bytes_behind_the_right_beginning(self, image_format, content):
        outcome(MAGIC[image_format] + content, image_format)

    @given(size_bytes=st.integers(0, 2**63), content=st.binary(max_size=60))
    def test_a_size_that_is_not_the_files(self, image_format, size_bytes, content):
        outcome(MAGIC[image_format] + content, image_format, size_bytes)


@pytest.mark.parametrize("name", sorted(REAL))
class TestMutations:
    def test_the_whole_file_is_accepted(self, name):
        image_format, content = REAL[name]
        header = outcome(content, image_format)
        assert isinstance(header, Header)
        assert (header.width, header.height) == (40, 30)

    def test_every_truncation_ends_well(self, name):
        image_format, content = REAL[name]
        for length in range(len(content)):
            refused = outcome(content[:length], image_format)
            if image_format in {ImageFormat.PNG, ImageFormat.WEBP}:
                assert refused is CorruptImageError, length

    def test_every_single_byte_set_to_its_extremes_ends_well(self, name):
        image_format, content = REAL[name]
        for at in range(min(len(content), 300)):
            for byte in (0x00, 0x01, 0x7F, 0x80, 0xFF, content[at] ^ 0x01):
                outcome(content[:at] + bytes((byte,)) + content[at + 1 :], image_format)

    @settings(max_examples=60, deadline=2000)
    @given(data=st.data())
    def test_many_changes_end_well(self, name, data):
        image_format, content = REAL[name]
        changed = bytearray(content)
        for _ in range(data.draw(st.integers(1, 6))):
            at = data.draw(st.integers(0, min(len(changed), 400) - 1))
            end = at + data.draw(st.integers(0, 6))
            changed[at:end] = data.draw(st.binary(max_size=6))
        outcome(bytes(changed), image_format)

    def test_the_wrong_reader_refuses_it(self, name):
        image_format, content = REAL[name]
        for other in FORMATS:
            if other != image_format and {other, image_format} != ISO_MEDIA:
                assert outcome(content, other) is CorruptImageError


def filled(head, piece, size=TEN_MB):
    return head + piece * ((size - len(head)) // len(piece))


PNG_HEAD = REAL["png"][1][:33]
RIFF_HEAD = b"RIFF" + (TEN_MB - 8).to_bytes(4, "little") + b"WEBP"
ANIMATED_HEAD = RIFF_HEAD + b"VP8X\x0a\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x00\x00"
GIF_HEAD = MAGIC[ImageFormat.GIF] + bytes(6)
GIF_FRAME = b"\x2c" + bytes(4) + b"\x01\x00\x01\x00\x00\x02"
FTYP = MAGIC[ImageFormat.AVIF]


def nested(*heads, content):
    """Boxes in one another, the content in the innermost."""
    for head in reversed(heads):
        content = (len(head) + 4 + len(content)).to_bytes(4, "big") + head + content
    return content


PATHOLOGICAL = {
    "jpeg of empty segments": (ImageFormat.JPEG, filled(b"\xff\xd8", b"\xff\xe0\x00\x02")),
    "jpeg of fill bytes": (ImageFormat.JPEG, filled(b"\xff\xd8", b"\xff")),
    "jpeg of stray bytes": (ImageFormat.JPEG, filled(b"\xff\xd8", b"\x00")),
    "jpeg of stuffed bytes": (ImageFormat.JPEG, filled(b"\xff\xd8", b"\xff\x00")),
    "jpeg of restart markers": (ImageFormat.JPEG, filled(b"\xff\xd8", b"\xff\xd0")),
    "png of empty chunks": (ImageFormat.PNG, filled(PNG_HEAD, b"\x00\x00\x00\x00IDAT\x00\x00\x00\x00")),
    "webp of empty chunks": (ImageFormat.WEBP, filled(ANIMATED_HEAD, b"junk\x00\x00\x00\x00")),
    "webp of empty frames": (ImageFormat.WEBP, filled(ANIMATED_HEAD, b"ANMF\x10\x00\x00\x00" + bytes(16))),
    "still webp of empty chunks": (
        ImageFormat.WEBP,
        filled(ANIMATED_HEAD.replace(b"\x02", b"\x00"), b"junk\x00\x00\x00\x00"),
    ),
    "gif of empty frames": (ImageFormat.GIF, filled(GIF_HEAD, GIF_FRAME + b"\x00")),
    "gif of empty extensions": (ImageFormat.GIF, filled(GIF_HEAD, b"\x21\xfe\x00")),
    "gif of one-byte data blocks": (ImageFormat.GIF, filled(GIF_HEAD + GIF_FRAME, b"\x01\x00")),
    "gif of one-byte extension blocks": (ImageFormat.GIF, filled(GIF_HEAD + b"\x21\xfe", b"\x01x")),
    "gif of a few frames with very many blocks": (
        ImageFormat.GIF,
        filled(GIF_HEAD, GIF_FRAME + b"\x01x" * 300_000 + b"\x00"),
    ),
    "heic of empty boxes": (ImageFormat.HEIC, filled(FTYP, b"\x00\x00\x00\x08free")),
    "heic of empty properties": (
        ImageFormat.HEIC,
        FTYP + nested(b"meta\0\0\0\0", b"iprp", b"ipco", content=b"\x00\x00\x00\x08free" * 1_000_000),
    ),
    "heic of associations": (
        ImageFormat.HEIC,
        FTYP
        + nested(
            b"meta\0\0\0\0",
            b"iprp",
            b"ipma\0\0\0\0\xff\xff\xff\xff",
            content=(b"\x00\x01\xff" + b"\x01" * 255) * 40_000,
        ),
    ),
    "tiff of tags": (ImageFormat.TIFF, filled(MAGIC[ImageFormat.TIFF] + b"\xff\xff", b"\x01\x01\x03\x00")),
    "svg of spaces": (ImageFormat.SVG, filled(b"<svg ", b" ")),
    "svg of comments": (ImageFormat.SVG, filled(b"", b"<!-- -->")),
    "gif of frames with one-byte data": (
        ImageFormat.GIF,
        filled(GIF_HEAD, GIF_FRAME + b"\x01x" * 10 + b"\x00"),
    ),
}


@pytest.mark.parametrize("name", sorted(PATHOLOGICAL))
def test_ten_megabytes_of_the_smallest_pieces_take_no_time(name):
    image_format, content = PATHOLOGICAL[name]
    started = time.process_time()
    refused = outcome(content, image_format)
    seconds = time.process_time() - started
    assert refused is CorruptImageError
    assert seconds < SECONDS


def test_a_long_animation_is_counted_and_refused_by_its_frames():
    content = GIF_HEAD + (GIF_FRAME + b"\x01x\x00") * 50_000
    header = outcome(content, ImageFormat.GIF)
    assert header.frames == 50_000
    with pytest.raises(RejectedError, match="50000 frames"):
        check_limits(header, Limits())


@settings(max_examples=300)
@given(st.binary(max_size=SNIFF_BYTES + 100))
def test_words_come_soon_and_repeat_nothing(head):
    words = describe(head[:SNIFF_BYTES])
    assert words.isascii()
    assert len(words) < 60


@pytest.mark.parametrize(
    "head",
    [
        b"<" * SNIFF_BYTES,
        b" " * SNIFF_BYTES,
        b"<!--" * 128,
        b"<?xml" + b"<svg" * 120,
        b"\xef\xbb\xbf" + b"\n" * 500,
    ],
)
def test_markup_that_nearly_matches_takes_no_time(head):
    started = time.process_time()
    for _ in range(100):
        describe(head)
    assert time.process_time() - started < SECONDS


def test_a_file_that_cannot_be_read_is_not_the_images_fault():
    class Broken(io.BytesIO):
        def read(self, size=-1):
            raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input/output error") as failure:
        probe(Broken(), ImageFormat.PNG, 100)
    assert not isinstance(failure.value, ImageProcessorError)


def test_sniff_never_trusts_more_than_it_was_given():
    assert sniff(b"\x7f\xff\xff\xffftyp") is None
