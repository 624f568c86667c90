"""WebP headers made by hand: lossy, lossless, extended, animated; damaged and truncated."""

import io

import pytest

from image_processor.errors import CorruptImageError
from image_processor.intake.probe import Header, probe
from image_processor.pipeline import ImageFormat


def little(number, count):
    return number.to_bytes(count, "little")


def chunk(kind, body):
    return kind + little(len(body), 4) + body + b"\x00" * (len(body) % 2)


def riff(*chunks):
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + little(len(body), 4) + body


def lossy(width=7, height=5, tag=0x10, start=b"\x9d\x01\x2a"):
    return chunk(b"VP8 ", little(tag, 3) + start + little(width, 2) + little(height, 2) + b"data!")


def lossless(width=7, height=5, signature=0x2F, version=0):
    bits = (width - 1) | (height - 1) << 14 | version << 29
    return chunk(b"VP8L", bytes((signature,)) + little(bits, 4) + b"data!")


def extended(width=7, height=5, flags=0):
    return chunk(b"VP8X", bytes((flags, 0, 0, 0)) + little(width - 1, 3) + little(height - 1, 3))


def frame(left=0, top=0, width=7, height=5):
    place = b"".join(little(number, 3) for number in (left // 2, top // 2, width - 1, height - 1))
    return chunk(b"ANMF", place + bytes(4) + lossy(width, height))


ANIMATED = 0x02
ANIMATION = chunk(b"ANIM", bytes(6))


def probed(content):
    return probe(io.BytesIO(content), ImageFormat.WEBP, len(content))


@pytest.mark.parametrize(
    "content",
    [
        riff(lossy()),
        riff(lossless()),
        riff(lossy(7 | 0x4000, 5 | 0xC000)),
        riff(extended(), lossy()),
        riff(
            extended(flags=0x10),
            chunk(b"ICCP", b"x" * 99),
            chunk(b"ALPH", b"xxx"),
            lossy(),
            chunk(b"EXIF", b"x"),
        ),
        riff(extended(), lossless(), chunk(b"XMP ", b"")),
        riff(extended(flags=ANIMATED), ANIMATION, frame()),
        riff(lossy()) + b"trailing data",
    ],
)
def test_reads_the_size_of_every_kind(content):
    assert probed(content) == Header(width=7, height=5)


def test_reads_the_largest_sizes():
    assert probed(riff(lossless(16384, 16384))) == Header(width=16384, height=16384)
    content = riff(extended(2**24, 2**24, ANIMATED), ANIMATION, frame())
    assert probed(content) == Header(width=2**24, height=2**24)


@pytest.mark.parametrize("count", [1, 2, 500])
def test_counts_the_frames_of_an_animation(count):
    frames = (frame(2, 2, 3, 3) for _ in range(count))
    assert probed(riff(extended(flags=ANIMATED), ANIMATION, chunk(b"junk", b"x"), *frames)).frames == count


def test_frames_behind_a_length_that_is_too_long_are_counted_as_decoders_do():
    frames = bytearray(frame() * 3)
    frames[4:8] = little(len(frames) - 8, 4)
    assert probed(riff(extended(flags=ANIMATED), ANIMATION, bytes(frames))).frames == 3


WHOLE = riff(extended(flags=ANIMATED), ANIMATION, frame(), frame())


@pytest.mark.parametrize("length", range(12, len(WHOLE)))
def test_a_file_shorter_than_its_container_says_is_truncated(length):
    with pytest.raises(CorruptImageError, match="truncated"):
        probed(WHOLE[:length])


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"RIFX" + WHOLE[4:], "does not begin as one"),
        (riff(lossy()).replace(b"WEBP", b"WAVE"), "does not begin as one"),
        (b"RIFF\x00\x00\x00\x00WEBP" + lossy(), "does not begin as one"),
        (riff(chunk(b"EXIF", b"x" * 10), lossy()), "does not begin with a picture"),
        (riff(chunk(b"VP8X", b"x" * 9)), "does not begin with a picture"),
        (riff(b"VP8 " + little(100, 4) + b"x" * 50), "longer than its container"),
        (riff(extended(), b"VP8 \xff\xff\xff\xff"), "longer than its container"),
        (riff(chunk(b"VP8 ", b"x" * 9)), "too short"),
        (riff(lossy(tag=0x11)), "key frame"),
        (riff(lossy(start=b"\x9d\x01\x2b")), "key frame"),
        (riff(lossy(width=0)), "key frame"),
        (riff(lossy(height=0x4000)), "key frame"),
        (riff(lossless(signature=0x2E)), "lossless picture data"),
        (riff(lossless(version=1)), "lossless picture data"),
        (riff(extended()), "no picture data"),
        (riff(extended(), frame()), "no picture data"),
        (riff(extended(7, 5), lossy(7, 6)), "different sizes"),
        (riff(extended(7, 5), lossless(8, 5)), "different sizes"),
        (riff(extended(flags=ANIMATED), ANIMATION), "without a frame"),
        (riff(extended(flags=ANIMATED), chunk(b"ANMF", b"x" * 15)), "frame is too short"),
        (riff(extended(flags=ANIMATED), frame(2, 0)), "larger than the image"),
        (riff(extended(flags=ANIMATED), frame(0, 2)), "larger than the image"),
        (riff(extended(flags=ANIMATED), frame(), frame(0, 0, 8, 5)), "larger than the image"),
    ],
)
def test_headers_that_make_no_sense_are_damaged(content, sentence):
    with pytest.raises(CorruptImageError, match=f"The WebP image is damaged: .*{sentence}"):
        probed(content)
