"""HDR gain maps: found, carried through steps, written so that libultrahdr and Pillow find them, or gone."""

import io
from pathlib import Path

import numpy as np
import pytest
import pyvips
from PIL import Image

from image_processor import ImageProcessor, JpegOutput
from image_processor.engine.vips.attachments import attach, read_attachments
from image_processor.engine.vips.gain_map import (
    add_gain_map,
    dropped_note,
    read_gain_map,
    transformed_gain_map,
)
from image_processor.engine.vips.geometry import Cut, Mirror, Pad, Paint, Scale, Seek, Size, Spin, Turn
from image_processor.engine.vips.save.target import Target
from image_processor.engine.vips.segments import APP1, segment, segments_of, with_segments
from image_processor.errors import CorruptImageError, InvalidOperationError
from image_processor.pipeline import Metadata, Smart
from image_processor.pipeline.operations import Blur, Grayscale, Sharpen
from image_processor.testing.sample_images import photo, scene

ORIGINAL = Size(320, 240)
BOOSTS = {
    "max-content-boost": 4.0,
    "min-content-boost": 1.0,
    "gamma": 1.5,
    "offset-sdr": 1 / 64,
    "offset-hdr": 1 / 64,
}
XMP = b"http://ns.adobe.com/xap/1.0/\0"
HDRGM = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description rdf:about="" xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" '
    b'xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:Label="secret-of-nobody" '
    b'hdrgm:Version="1.0" hdrgm:HDRCapacityMax="1.5" hdrgm:OffsetSDR="1e-07">'
    b"<hdrgm:GainMapMax><rdf:Seq><rdf:li>1.25</rdf:li><rdf:li>1.5</rdf:li><rdf:li>2</rdf:li></rdf:Seq>"
    b"</hdrgm:GainMapMax></rdf:Description></rdf:RDF></x:xmpmeta>"
)


def _map() -> pyvips.Image:
    """A gain map of a slope in both directions, a quarter of its picture."""
    xyz = pyvips.Image.xyz(80, 60)
    return (xyz[0] * 2 + xyz[1]).cast("uchar").copy(interpretation="b-w")


def _ultra_hdr(folder: Path) -> Path:
    """A file as libultrahdr makes them, its numbers after ISO 21496-1."""
    image = scene(ORIGINAL.width, ORIGINAL.height).copy()
    for name, value in BOOSTS.items():
        image.set_type(pyvips.GValue.array_double_type, f"gainmap-{name}", [value] * 3)
    image.set_type(pyvips.GValue.gdouble_type, "gainmap-hdr-capacity-min", 1.0)
    image.set_type(pyvips.GValue.gdouble_type, "gainmap-hdr-capacity-max", 4.0)
    image.set_type(pyvips.GValue.gint_type, "gainmap-use-base-cg", 1)
    jpeg = _map().jpegsave_buffer(Q=95, keep="none")
    image.set_type(pyvips.GValue.blob_type, "gainmap-data", jpeg)
    path = folder / "ultra-hdr.jpg"
    image.uhdrsave(str(path), Q=85)
    return path


def _adobe(folder: Path) -> Path:
    """A file as Adobe's makes them, its numbers in XMP: three channels have three."""
    path = _ultra_hdr(folder)
    found = read_gain_map(path, ORIGINAL, 1)
    data = bytes(scene(ORIGINAL.width, ORIGINAL.height).jpegsave_buffer(keep="none"))
    path.write_bytes(with_segments(data, [segment(APP1, XMP + HDRGM)]))
    add_gain_map(path, type(found)(found.picture, ((APP1, XMP + HDRGM),)))
    return path


MAKERS = {"libultrahdr": _ultra_hdr, "Adobe": _adobe}


def _second(data: bytes) -> Image.Image:
    """The picture behind the first, found by its start: not by the index that is tested."""
    return _opened(data[data.index(b"\xff\xd9\xff\xd8") + 2 :])


def _opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_a_gain_map_is_found(make, tmp_path):
    found = read_gain_map(make(tmp_path), ORIGINAL, 6)
    assert _opened(found.picture).size == (80, 60)
    assert found.orientation == 6


def test_of_its_metadata_the_numbers_alone_are_carried(tmp_path):
    ((_, packet),) = read_gain_map(_adobe(tmp_path), ORIGINAL, 1).meaning
    assert b"secret-of-nobody" not in packet
    assert b'hdrgm:OffsetSDR="1e-07"' in packet
    assert b"<rdf:li>1.25</rdf:li><rdf:li>1.5</rdf:li><rdf:li>2</rdf:li>" in packet


def test_what_was_written_is_read_by_libultrahdr_with_the_same_numbers(tmp_path):
    path = _ultra_hdr(tmp_path)
    before = pyvips.Image.uhdrload(str(path))
    fitted = transformed_gain_map(read_gain_map(path, ORIGINAL, 1), ORIGINAL, (Cut(40, 20, Size(200, 160)),))
    written = tmp_path / "cut.jpg"
    scene(320, 240).crop(40, 20, 200, 160).jpegsave(str(written), keep="none")
    add_gain_map(written, fitted)
    after = pyvips.Image.uhdrload(str(written))
    numbers = [name for name in before.get_fields() if name.startswith("gainmap-") and name != "gainmap-data"]
    assert len(numbers) > len(BOOSTS)
    assert [after.get(name) for name in numbers] == [before.get(name) for name in numbers]
    kept = pyvips.Image.jpegload_buffer(after.get("gainmap-data"))
    assert (kept.width, kept.height) == (50, 40)
    assert (kept - _map().crop(10, 5, 50, 40)).abs().max() < 6


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_pillow_opens_the_picture_and_its_index_leads_to_the_gain_map(make, tmp_path):
    path = make(tmp_path)
    found = read_gain_map(path, ORIGINAL, 1)
    scene(320, 240).jpegsave(str(path), keep="none")
    add_gain_map(path, found)
    data = path.read_bytes()
    image = _opened(data)
    assert image.size == (320, 240)
    first, second = image._getmp()[0xB002]
    assert first["Size"] == data.index(b"\xff\xd9\xff\xd8") + 2
    start = second["DataOffset"] + data.index(b"MPF\0") + 4
    assert _opened(data[start : start + second["Size"]]).size == (80, 60)
    assert start + second["Size"] == len(data)


STEPS = {
    "nothing": (),
    "smaller": (Scale(Size(160, 120)),),
    "larger": (Scale(Size(640, 480)),),
    "cut": (Cut(80, 40, Size(160, 120)),),
    "cut between pixels": (Cut(81, 43, Size(155, 117)),),
    "turned": (Turn(90),),
    "upside down": (Turn(180),),
    "mirrored": (Mirror(upside_down=False),),
    "turned, cut and mirrored": (Turn(270), Cut(20, 30, Size(100, 200)), Mirror(upside_down=True)),
    "all at once": (Scale(Size(200, 150)), Cut(31, 11, Size(101, 77)), Turn(90), Mirror(upside_down=False)),
}


def _stretched(image: pyvips.Image, width: int, height: int) -> pyvips.Image:
    """As a screen lays a gain map over its picture: corner on corner."""
    shares = [image.width / width, image.height / height]
    index = pyvips.Image.xyz(width, height).linear(shares, [share / 2 - 0.5 for share in shares])
    return image.cast("float").mapim(index, interpolate=pyvips.Interpolate.new("bilinear"), extend="copy")


def _followed(steps) -> pyvips.Image:
    """The gain map at the full size of its picture, through the same steps: what it stands for."""
    image = _stretched(_map(), ORIGINAL.width, ORIGINAL.height)
    for step in steps:
        if isinstance(step, Scale):
            image = _stretched(image, step.size.width, step.size.height)
        if isinstance(step, Cut):
            image = image.crop(step.x, step.y, step.size.width, step.size.height)
        if isinstance(step, Turn):
            image = image.rot(f"d{step.degrees}")
        if isinstance(step, Mirror):
            image = image.flip("vertical" if step.upside_down else "horizontal")
    return image


@pytest.mark.parametrize("steps", STEPS.values(), ids=STEPS)
def test_it_lies_where_its_picture_lies(steps, tmp_path):
    fitted = transformed_gain_map(read_gain_map(_ultra_hdr(tmp_path), ORIGINAL, 1), ORIGINAL, steps)
    kept = pyvips.Image.jpegload_buffer(fitted.picture)
    expected = _followed(steps)
    assert kept.width <= expected.width // 2
    assert kept.height <= expected.height // 2
    stretched = _stretched(kept, expected.width, expected.height)
    difference = (stretched - expected).crop(8, 8, expected.width - 16, expected.height - 16)
    # Half a pixel of the picture is a difference of 0.25 or more here; means of levels are rounded.
    assert abs(difference.avg()) < (0.6 if any(isinstance(step, Scale) for step in steps) else 0.2)
    assert difference.abs().max() < 8


@pytest.mark.parametrize("orientation", range(1, 9))
def test_it_is_upright_as_its_picture_is(orientation, tmp_path):
    upright = ORIGINAL.turned() if orientation > 4 else ORIGINAL
    found = read_gain_map(_ultra_hdr(tmp_path), ORIGINAL, orientation)
    fitted = transformed_gain_map(found, upright, ())
    turned = _map().copy()
    turned.set_type(pyvips.GValue.gint_type, "orientation", orientation)
    assert (pyvips.Image.jpegload_buffer(fitted.picture) - turned.autorot()).abs().avg() < 2


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (Seek(Size(100, 100), Smart.ATTENTION), "looked for"),
        (Pad(0, 0, Size(400, 400), "#ffffff"), "canvas"),
        (Spin(10, Size(400, 400), "#ffffff"), "rotation"),
        (Paint(Blur(sigma=2)), "blur"),
        (Paint(Grayscale()), "grayscale"),
    ],
)
def test_what_it_cannot_follow_is_said(step, said, tmp_path):
    note = dropped_note((Turn(90), step))
    assert said in note
    assert note.endswith(".")
    found = read_gain_map(_ultra_hdr(tmp_path), ORIGINAL, 1)
    with pytest.raises(InvalidOperationError, match=said):
        transformed_gain_map(found, ORIGINAL, (step,))


def test_what_leaves_brightness_alone_is_no_obstacle():
    assert dropped_note((Scale(Size(10, 10)), Paint(Sharpen()))) is None


@pytest.mark.parametrize("policy", Metadata)
@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_unless_asked_for_it_is_gone(make, policy, tmp_path):
    original = pyvips.Image.jpegload(str(make(tmp_path)))
    target = Target(tmp_path / "file", metadata=policy, attachments=read_attachments(original))
    image, keep = attach(original, target)
    image.jpegsave(str(target.path), keep=keep)
    data = target.path.read_bytes()
    assert not any(
        sign in data for sign in (b"MPF\0", b"hdrgm", b"iso:ts:21496", b"\xff\xd9\xff\xd8", b"photos/1.0")
    )
    assert data.endswith(b"\xff\xd9")


def test_the_packet_of_the_picture_is_joined_and_stays_the_only_one(tmp_path):
    path = _adobe(tmp_path)
    packets = [found.body for found in segments_of(path.read_bytes()) if found.body.startswith(XMP)]
    assert len(packets) == 1
    assert b"secret-of-nobody" in packets[0]
    length = len(path.read_bytes()) - path.read_bytes().index(b"\xff\xd9\xff\xd8") - 2
    assert f'Item:Length="{length}"'.encode() in packets[0]


def test_a_photo_without_one_has_none(tmp_path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(photo(with_metadata=True))
    assert read_gain_map(path, Size(640, 480), 1) is None


def test_one_that_is_larger_than_its_picture_is_none(tmp_path):
    assert read_gain_map(_ultra_hdr(tmp_path), Size(79, 60), 1) is None


@pytest.mark.parametrize("change", range(0, 80, 3))
def test_an_index_that_lies_leads_nowhere(change, tmp_path):
    path = _ultra_hdr(tmp_path)
    data = bytearray(path.read_bytes())
    at = data.index(b"MPF\0") + 4 + change
    data[at] ^= 0xFF
    path.write_bytes(data)
    found = read_gain_map(path, ORIGINAL, 1)
    assert found is None or _opened(found.picture).size == (80, 60)


@pytest.mark.parametrize("length", [0.02, 0.1, 0.5, 0.99])
def test_of_half_a_file_there_is_no_gain_map(length, tmp_path):
    path = _ultra_hdr(tmp_path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * length)])
    assert read_gain_map(path, ORIGINAL, 1) is None


def test_a_damaged_gain_map_is_an_error_of_ours(tmp_path):
    found = read_gain_map(_ultra_hdr(tmp_path), ORIGINAL, 1)
    broken = type(found)(found.picture[: len(found.picture) // 2], found.meaning)
    with pytest.raises(CorruptImageError):
        transformed_gain_map(broken, ORIGINAL, ())


@pytest.mark.slow
def test_a_photo_of_adobe_s_keeps_the_gains_of_its_three_channels(photos, tmp_path):
    source = photos / "gainmap" / "seine_sdr_gainmap_srgb.jpg"
    path = tmp_path / "file.jpg"
    found = read_gain_map(source, Size(400, 300), 1)
    pyvips.Image.jpegload(str(source)).resize(0.5).jpegsave(str(path), keep="none")
    add_gain_map(path, transformed_gain_map(found, Size(400, 300), (Scale(Size(200, 150)),)))
    second = _second(path.read_bytes())
    assert (second.size, second.mode) == ((200, 150), "RGB")
    assert b"<rdf:li>1.277177</rdf:li><rdf:li>1.277203</rdf:li>" in second.info["xmp"]
    before, after = (np.asarray(image).astype(float) for image in (_opened(found.picture), second))
    halved = before.reshape(150, 2, 200, 2, 3).mean(axis=(1, 3))
    assert np.abs(after - halved).mean() < 6


def test_the_library_keeps_it_where_it_is_asked_for_and_says_where_it_cannot(tmp_path):
    original, processor = _ultra_hdr(tmp_path), ImageProcessor()
    kept = processor.resize(original, percent=50, output=JpegOutput(gain_map=True))
    assert _second(kept.data).size[0] > 1
    assert kept.notes == ()
    turned = processor.rotate(original, 5, output=JpegOutput(gain_map=True))
    assert "gain map was dropped" in turned.notes[0]
    plain = processor.resize(original, percent=50)
    assert plain.notes == ()
    for without in (turned, plain):
        assert without.data.count(b"\xff\xd8\xff") == 1
