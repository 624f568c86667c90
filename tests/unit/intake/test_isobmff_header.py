"""What is read of AVIF and HEIC files, and what is refused: box by box."""

import io

import pytest

from image_processor.errors import CorruptImageError, UnsupportedFormatError
from image_processor.intake.probe import Header, probe
from image_processor.pipeline import ImageFormat
from image_processor.testing import sample_images


def number(value, length=4):
    return value.to_bytes(length, "big")


def box(kind, *parts):
    body = b"".join(parts)
    return number(len(body) + 8) + kind + body


def full(kind, *parts, version=0, flags=0):
    return box(kind, bytes((version,)), number(flags, 3), *parts)


FTYP = box(b"ftyp", b"heic", bytes(4), b"mif1")
PITM = full(b"pitm", number(1, 2))


def size(width, height):
    return full(b"ispe", number(width), number(height))


def aperture(width, height):
    return box(b"clap", number(width), number(1), number(height), number(1), bytes(16))


def turn(quarters):
    return box(b"irot", bytes((quarters,)))


def meta(*properties, items=None, pitm=PITM, wide=False):
    """The boxes of a file whose item 1 has these properties, unless `items` says otherwise."""
    items = {1: range(1, len(properties) + 1)} if items is None else items
    bytes_each = 2 if wide else 1
    associations = b"".join(
        number(item, 2) + number(len(numbers), 1) + b"".join(number(n, bytes_each) for n in numbers)
        for item, numbers in items.items()
    )
    ipma = full(b"ipma", number(len(items)), associations, flags=int(wide))
    return full(b"meta", full(b"hdlr", bytes(20)), pitm, box(b"iprp", box(b"ipco", *properties), ipma))


def probed(*boxes, kind=ImageFormat.HEIC):
    content = b"".join(boxes)
    return probe(io.BytesIO(content), kind, len(content))


@pytest.mark.parametrize(
    ("properties", "expected"),
    [
        ((size(640, 480),), (640, 480)),
        ((box(b"hvcC", bytes(30)), size(640, 480), box(b"pixi", bytes(4))), (640, 480)),
        ((size(640, 480), turn(1)), (480, 640)),
        ((size(640, 480), turn(2)), (640, 480)),
        ((size(640, 480), turn(3)), (480, 640)),
        ((size(640, 480), aperture(630, 470)), (630, 470)),
        ((size(640, 480), aperture(630, 470), turn(1)), (470, 630)),
        ((size(640, 480), aperture(9999, 9999)), (640, 480)),
    ],
)
def test_the_size_is_that_which_is_shown(properties, expected):
    assert probed(FTYP, meta(*properties)) == Header(width=expected[0], height=expected[1])


def test_the_primary_picture_counts_and_not_its_tiles():
    properties = (size(512, 512), size(4032, 3024), turn(1))
    items = {2: [1], 3: [1], 1: [2, 0x80 | 3]}
    assert probed(FTYP, meta(*properties, items=items)) == Header(width=3024, height=4032)


def test_numbers_of_properties_may_take_two_bytes():
    assert probed(FTYP, meta(size(7, 5), items={1: [0x8001]}, wide=True)) == Header(width=7, height=5)


def test_the_number_of_the_primary_picture_may_take_four_bytes():
    pitm = full(b"pitm", number(1), version=1)
    assert probed(FTYP, meta(size(7, 5), pitm=pitm)) == Header(width=7, height=5)


def test_boxes_before_and_behind_are_passed_over():
    large = number(1) + b"free" + number(116, 8) + bytes(100)
    assert probed(FTYP, large, meta(size(7, 5)), box(b"mdat", bytes(9))) == Header(width=7, height=5)


@pytest.mark.parametrize(
    "boxes",
    [
        (),
        (box(b"free"), FTYP, meta(size(7, 5))),
        (FTYP, meta()),
        (FTYP, meta(size(0, 5))),
        (FTYP, meta(size(7, 5), items={1: [9]})),
        (FTYP, meta(size(7, 5), items={2: [1]})),
        (FTYP, number(2**31) + b"meta"),
        (FTYP, number(4) + b"meta"),
        (FTYP, number(1) + b"meta" + number(2**63, 8)),
        (FTYP, meta(size(7, 5))[:-3]),
        (FTYP, full(b"meta", box(b"iprp", number(99) + b"ipco"))),
        (FTYP, full(b"meta", PITM, box(b"iprp", box(b"ipco", box(b"ispe", bytes(6)))))),
        (FTYP, meta(*[box(b"free")] * 10_001, items={})),
        (FTYP, full(b"meta", PITM, box(b"iprp", full(b"ipma", number(2**32 - 1))))),
    ],
)
def test_what_makes_no_sense_is_damaged(boxes):
    with pytest.raises(CorruptImageError, match=r"The HEIC image is (damaged|truncated)"):
        probed(*boxes)


@pytest.mark.parametrize("boxes", [(FTYP,), (FTYP, box(b"moov", bytes(50))), (FTYP, meta(pitm=b""))])
def test_a_film_without_a_picture_is_not_supported(boxes):
    with pytest.raises(UnsupportedFormatError, match="sequence without a still picture"):
        probed(*boxes)


@pytest.mark.parametrize(
    ("content", "kind", "expected"),
    [
        (sample_images.heic(97, 63), ImageFormat.HEIC, (97, 63)),
        (sample_images.heic(96, 64, turns=1), ImageFormat.HEIC, (96, 64)),
        (sample_images.heic(96, 64, alpha=True), ImageFormat.HEIC, (96, 64)),
        (sample_images.avif(97, 63), ImageFormat.AVIF, (97, 63)),
        (sample_images.avif(96, 64, alpha=True), ImageFormat.AVIF, (96, 64)),
        (sample_images.animated_avif(96, 64), ImageFormat.AVIF, (96, 64)),
    ],
)
def test_reads_what_other_encoders_wrote(content, kind, expected):
    assert probed(content, kind=kind) == Header(width=expected[0], height=expected[1])
