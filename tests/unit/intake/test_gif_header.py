"""GIF headers and blocks made by hand: frames, endings that are forgiven, and ones that are not."""

import io

import pytest

from image_processor.errors import CorruptImageError
from image_processor.intake.probe import Header, probe
from image_processor.pipeline import ImageFormat

TRAILER = b"\x3b"
COLOURS = b"\x00\x00\x00\xff\xff\xff"


def numbers(*values):
    return b"".join(value.to_bytes(2, "little") for value in values)


def screen(width=7, height=5, version=b"89a", flags=0x80):
    return (
        b"GIF" + version + numbers(width, height) + bytes((flags, 0, 0)) + (COLOURS if flags & 0x80 else b"")
    )


def data(*blocks):
    return b"".join(bytes((len(block),)) + block for block in blocks) + b"\x00"


def frame(left=0, top=0, width=7, height=5, flags=0):
    table = COLOURS if flags & 0x80 else b""
    return (
        b"\x2c"
        + numbers(left, top, width, height)
        + bytes((flags,))
        + table
        + b"\x02"
        + data(b"\x8c\x2d\x99")
    )


CONTROL = b"\x21\xf9" + data(b"\x00\x0a\x00\x00")
COMMENT = b"\x21\xfe" + data(b"x" * 255, b"y")


def probed(content):
    return probe(io.BytesIO(content), ImageFormat.GIF, len(content))


@pytest.mark.parametrize(
    "content",
    [
        screen() + frame() + TRAILER,
        screen(version=b"87a") + frame() + TRAILER,
        screen(flags=0) + frame(flags=0x80) + TRAILER,
        screen() + COMMENT + CONTROL + frame() + COMMENT + TRAILER,
        screen() + frame(2, 2, 3, 3) + TRAILER,
        screen() + frame() + TRAILER + b"trailing data",
        screen() + frame(),
        screen() + frame() + bytes(20),
        screen() + frame() + COMMENT,
    ],
)
def test_reads_the_screen_and_forgives_a_missing_trailer(content):
    assert probed(content) == Header(width=7, height=5)


@pytest.mark.parametrize("count", [1, 2, 300])
def test_counts_the_frames(count):
    assert probed(screen() + (CONTROL + frame()) * count + TRAILER).frames == count


def test_tells_interlaced_files():
    assert probed(screen() + frame(flags=0x40) + TRAILER).interlaced
    assert probed(screen() + frame() + frame(flags=0x40) + TRAILER).interlaced


def test_the_image_is_as_large_as_its_frames_reach():
    header = probed(screen(7, 5) + frame() + frame(65535, 10, 65535, 20) + TRAILER)
    assert (header.width, header.height) == (131070, 30)
    assert (probed(screen(0, 0) + frame() + TRAILER)).width == 7


WHOLE = screen() + CONTROL + frame() + CONTROL + frame()
BETWEEN_BLOCKS = {len(screen() + CONTROL + frame()), len(screen() + CONTROL + frame() + CONTROL)}


@pytest.mark.parametrize("length", sorted(set(range(6, len(WHOLE))) - BETWEEN_BLOCKS))
def test_a_file_that_ends_inside_a_block_is_truncated(length):
    with pytest.raises(CorruptImageError, match="truncated"):
        probed(WHOLE[:length])


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (screen(version=b"88a") + frame(), "does not begin as one"),
        (screen() + TRAILER, "no picture data"),
        (screen() + COMMENT + TRAILER, "no picture data"),
        (screen() + b"\x00" + frame(), "no picture data"),
        (screen() + frame(width=0), "no size"),
        (screen() + frame() + frame(height=0), "no size"),
    ],
)
def test_headers_that_make_no_sense_are_damaged(content, sentence):
    with pytest.raises(CorruptImageError, match=f"The GIF image is damaged: .*{sentence}"):
        probed(content)
