"""What inspect tells: of every format, of what cameras write, and of what strangers write to hurt."""

import base64
import random
import struct
import time

import pytest
from PIL import ExifTags, Image, ImageCms, TiffImagePlugin

from image_processor.engine.base import ColorSpace, ExifSummary, Facts, InspectRequest
from image_processor.engine.claims import FalseClaimError
from image_processor.engine.fact_claims import check_facts
from image_processor.engine.vips.engine import VipsEngine
from image_processor.engine.vips.exif_facts import read_exif, read_orientation, within
from image_processor.engine.vips.icc_name import profile_name
from image_processor.errors import CorruptImageError
from image_processor.intake.sniff import sniff
from image_processor.pipeline import ImageFormat, Limits
from image_processor.testing import sample_images

GENEROUS = Limits(max_bytes=10**9)
EVERYTHING = {"dominant_color": True, "palette": 5, "blurhash": True, "thumbhash": True}
CAMERA = {
    ExifTags.Base.Make: "Nikon",
    ExifTags.Base.Model: "D90",
    ExifTags.Base.Artist: "Phil Askey",
    ExifTags.Base.Copyright: "Z 2024",
}
PHOTO = {
    ExifTags.Base.ExposureTime: TiffImagePlugin.IFDRational(1, 250),
    ExifTags.Base.FNumber: TiffImagePlugin.IFDRational(28, 10),
    ExifTags.Base.ISOSpeedRatings: 400,
    ExifTags.Base.FocalLength: TiffImagePlugin.IFDRational(35, 1),
    ExifTags.Base.FocalLengthIn35mmFilm: 52,
    ExifTags.Base.LensModel: "35mm f/1.8",
    ExifTags.Base.DateTimeOriginal: "2024:02:29 23:59:58",
    ExifTags.Base.OffsetTimeOriginal: "+05:30",
}
PLACE = {1: "S", 2: (33.0, 51.0, 24.5), 3: "W", 4: (151.0, 12.0, 54.0)}


def inspect(folder, data, **wanted):
    source = folder / "original"
    source.write_bytes(data)
    request = InspectRequest(source=source, source_format=sniff(data[:512]), limits=GENEROUS, **wanted)
    return VipsEngine().inspect(request, deadline_seconds=60)


def exif_block(camera=CAMERA, photo=PHOTO, place=PLACE):
    exif = Image.Exif()
    exif.update(camera)
    exif.get_ifd(ExifTags.IFD.Exif).update(photo)
    exif.get_ifd(ExifTags.IFD.GPSInfo).update(place)
    return exif.tobytes()


def saved(folder, kind, **options):
    path = folder / f"saved.{kind}"
    Image.new("RGB", (40, 30), (200, 30, 40)).save(path, **options)
    return path.read_bytes()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (sample_images.photo(64, 48, orientation=8), {"width": 64, "height": 48, "orientation": 8}),
        (sample_images.grey_jpeg(64, 48), {"color_space": ColorSpace.GRAY}),
        (sample_images.cmyk_jpeg(64, 48, with_profile=False), {"color_space": ColorSpace.CMYK}),
        (sample_images.png_16bit(64, 48), {"bits_per_channel": 16, "color_space": ColorSpace.RGB}),
        (
            sample_images.png_16bit(64, 48, grey=True),
            {"bits_per_channel": 16, "color_space": ColorSpace.GRAY},
        ),
        (sample_images.png_with_alpha(64, 48), {"has_alpha": True, "frames": 1, "duration_ms": None}),
        (sample_images.animated_webp(), {"frames": 3, "duration_ms": 400, "format": ImageFormat.WEBP}),
        (sample_images.animated_gif(), {"frames": 3, "duration_ms": 400, "format": ImageFormat.GIF}),
        (sample_images.tiff(64, 48, lab=True), {"color_space": ColorSpace.LAB}),
        (sample_images.avif(64, 48), {"media_type": "image/avif", "width": 64, "height": 48}),
        (sample_images.p3_jpeg(64, 48), {"icc_profile": "sP3C"}),
        (sample_images.jpeg_with_broken_profile(64, 48), {"icc_profile": "unnamed"}),
        (sample_images.one_pixel(), {"width": 1, "height": 1, "icc_profile": None, "exif": None}),
    ],
)
def test_the_header_of_a_file(tmp_path, data, expected):
    facts = inspect(tmp_path, data)
    assert {name: getattr(facts, name) for name in expected} == expected
    assert facts.size_bytes == len(data)
    assert (facts.dominant_color, facts.palette, facts.blurhash, facts.thumbhash) == (None, (), None, None)


@pytest.mark.parametrize("kind", ["jpg", "png", "webp", "tif"])
def test_what_the_camera_wrote(tmp_path, kind):
    facts = inspect(tmp_path, saved(tmp_path, kind, exif=exif_block()), gps=True)
    told = facts.exif.model_dump()
    gps = told.pop("gps")
    assert told == {
        "camera_make": "Nikon",
        "camera_model": "D90",
        "lens": "35mm f/1.8",
        "software": None,
        "taken_at": "2024-02-29T23:59:58+05:30",
        "exposure_seconds": 0.004,
        "f_number": 2.8,
        "iso": 400,
        "focal_length_mm": 35.0,
        "focal_length_35mm": 52,
        "artist": "Phil Askey",
        "copyright": "Z 2024",
        "has_gps": True,
    }
    assert (round(gps["latitude"], 4), round(gps["longitude"], 4)) == (-33.8568, -151.215)


def test_the_place_is_told_on_request_alone(tmp_path):
    facts = inspect(tmp_path, saved(tmp_path, "jpg", exif=exif_block()))
    assert (facts.exif.has_gps, facts.exif.gps) == (True, None)


@pytest.mark.parametrize(
    ("photo", "expected"),
    [
        ({ExifTags.Base.DateTimeOriginal: "2023:02:29 12:00:00"}, None),
        ({ExifTags.Base.DateTimeOriginal: "0000:00:00 00:00:00"}, None),
        ({ExifTags.Base.DateTimeOriginal: "    :  :     :  :  "}, None),
        ({ExifTags.Base.DateTimeOriginal: "2024:02:29 12:00:00"}, "2024-02-29T12:00:00"),
        ({ExifTags.Base.DateTimeDigitized: "2024:02:29 12:00:00"}, "2024-02-29T12:00:00"),
        (
            {
                ExifTags.Base.DateTimeOriginal: "2024:02:29 12:00:00",
                ExifTags.Base.OffsetTimeOriginal: "+99:00",
            },
            "2024-02-29T12:00:00",
        ),
    ],
)
def test_a_time_that_cannot_be_is_not_told(photo, expected):
    block = exif_block(photo=photo)
    assert read_exif(within(block)).taken_at == expected


@pytest.mark.parametrize(
    "place",
    [
        {1: "N", 2: (91.0, 0.0, 0.0), 3: "E", 4: (0.0, 0.0, 0.0)},
        {1: "N", 2: (0.0, 0.0, 0.0), 3: "E", 4: (180.0, 1.0, 0.0)},
        {1: "Q", 2: (1.0, 0.0, 0.0), 3: "E", 4: (1.0, 0.0, 0.0)},
        {1: "N", 2: (1.0, 0.0), 3: "E", 4: (1.0, 0.0, 0.0)},
        {2: (1.0, 0.0, 0.0), 4: (1.0, 0.0, 0.0)},
    ],
)
def test_a_place_that_cannot_be_is_there_but_not_told(place):
    told = read_exif(within(exif_block(place=place)), with_gps=True)
    assert (told.has_gps, told.gps) == (True, None)


def entry(tag, kind, count, value):
    return struct.pack("<HHI4s", tag, kind, count, value)


def block_of(*entries, after=b""):
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4) + after


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"II*\0",
        b"II*\0\xff\xff\xff\xff",
        b"MM\0*\0\0\0\x08\xff\xff",
        block_of(entry(0x8769, 4, 1, struct.pack("<I", 8)), entry(0x8825, 4, 1, b"\xff" * 4)),
        block_of(entry(0x010F, 2, 0xFFFFFFFF, struct.pack("<I", 20))),
        block_of(entry(0x010F, 12, 1, b"abcd"), entry(0x0110, 0, 4, b"abcd")),
        block_of(entry(0x010F, 2, 4, b"\0\0\0\0"), entry(0x0110, 2, 4, b" \x1b\x07\n")),
        block_of(entry(0x8769, 2, 4, b"abcd"), entry(0x8825, 3, 1, b"\x08\0\0\0")),
        block_of(entry(0x010F, 2, 900, b"\xfe\xff\xff\xff")),
    ],
)
def test_what_makes_no_sense_is_as_if_it_were_not_there(block):
    told = read_exif(within(block), with_gps=True) or ExifSummary()
    assert told.model_copy(update={"camera_make": None}) == ExifSummary()
    assert read_orientation(within(block)) == 1


def test_a_quotient_by_zero_and_a_negative_number_are_not_told():
    values = struct.pack("<IIii", 1, 0, -1, 3)
    at = 8 + 2 + 12 + 4
    inner = struct.pack("<H", 2)
    inner += entry(0x829A, 5, 1, struct.pack("<I", at + 30)) + entry(
        0x829D, 10, 1, struct.pack("<I", at + 38)
    )
    block = block_of(entry(0x8769, 4, 1, struct.pack("<I", at)), after=inner + bytes(4) + values)
    assert read_exif(within(block)) is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"Nikon\0garbage", "Nikon"),
        (b" \0Editor\0", "Editor"),
        (b"a\n\x1b[31mb", "a [31mb"),
        ("Zo\u202eë".encode(), "Zo ë"),
        ("Zoë Zoë".encode("latin-1"), "Zoë Zoë"),
        ("Zoë 写真".encode(), "Zoë 写真"),
        (b"x" * 700, "x" * 200),
        (b"\xff\xfe\x00\x00\x00", "ÿþ"),
    ],
)
def test_text_is_one_printable_line(text, told):
    block = block_of(entry(0x010F, 2, len(text), struct.pack("<I", 26)), after=text)
    assert read_exif(within(block)).camera_make == told


def test_mutilated_exif_never_raises_and_is_read_at_once():
    source, whole = random.Random(11), exif_block()
    began = time.process_time()
    for _ in range(400):
        block = bytearray(whole)
        for _ in range(source.randrange(1, 12)):
            block[source.randrange(len(block))] = source.randrange(256)
        read_exif(within(bytes(block[: source.randrange(1, len(block))])), with_gps=True)
    assert time.process_time() - began < 4


def profile_of(description, offset=144):
    table = struct.pack(">I4sII", 1, b"desc", offset, len(description))
    return bytes(36) + b"acsp" + bytes(88) + table + description


def names_of(*names):
    """An mluc of languages and names."""
    records, texts, at = b"", b"", 16 + 12 * len(names)
    for language, name in names:
        text = name.encode("utf-16-be")
        records += struct.pack(">2s2sII", language, b"XX", len(text), at + len(texts))
        texts += text
    return b"mluc" + bytes(4) + struct.pack(">II", len(names), 12) + records + texts


@pytest.mark.parametrize(
    ("profile", "name"),
    [
        (profile_of(b"desc" + bytes(4) + struct.pack(">I", 10) + b"Adobe RGB\0 and more"), "Adobe RGB"),
        (profile_of(names_of((b"de", "Anzeige"), (b"en", "Display P3"))), "Display P3"),
        (profile_of(names_of((b"ja", "画面"))), "画面"),
        (profile_of(names_of((b"en", "\x07\x1b"))), "unnamed"),
        (profile_of(names_of()), "unnamed"),
        (profile_of(b"desc"), "unnamed"),
        (profile_of(b"desc" + bytes(4) + b"\xff" * 4 + b"x" * 5000), "x" * 200),
        (profile_of(b"text" + bytes(20)), "unnamed"),
        (profile_of(b"", offset=0xFFFFFFF0), "unnamed"),
        (profile_of(b"mluc" + bytes(4) + b"\xff" * 4 + b"\xff" * 4000), "unnamed"),
        (b"", "unnamed"),
        (b"\xff" * 500, "unnamed"),
    ],
)
def test_the_name_of_a_profile(profile, name):
    assert profile_name(profile) == name


def test_the_name_of_a_profile_of_another_maker():
    made = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    assert profile_name(made.tobytes()) == ImageCms.getProfileDescription(made).strip()


@pytest.mark.parametrize(
    "data",
    [
        sample_images.photo(300, 200),
        sample_images.grey_jpeg(64, 48),
        sample_images.cmyk_jpeg(64, 48),
        sample_images.png_with_alpha(300, 200),
        sample_images.transparent_png(),
        sample_images.one_pixel(),
        sample_images.png(1, 3000),
        sample_images.png(3000, 1),
        sample_images.animated_gif(),
        sample_images.tiff(64, 48, lab=True),
        sample_images.avif(64, 48),
    ],
)
def test_every_kind_of_picture_has_colors_and_hashes(tmp_path, data):
    facts = inspect(tmp_path, data, **EVERYTHING)
    # What the parent of a child would make of it.
    assert Facts.model_validate_json(facts.model_dump_json()) == facts
    assert None not in (facts.dominant_color, facts.blurhash, facts.thumbhash)


def test_the_colors_are_those_of_the_upright_picture_in_srgb(tmp_path):
    facts = inspect(tmp_path, saved(tmp_path, "png"), **EVERYTHING)
    assert facts.dominant_color == "#C81E28"
    assert [(color.color, color.share) for color in facts.palette] == [("#C81E28", 1.0)]


def test_orientation_does_not_change_the_hashes(tmp_path):
    plain, turned = (
        inspect(tmp_path, sample_images.photo(320, 240, orientation=number, quality=95), **EVERYTHING)
        for number in (1, 6)
    )
    assert plain.blurhash[:6] == turned.blurhash[:6]
    assert plain.thumbhash[:6] == turned.thumbhash[:6]


@pytest.mark.parametrize(
    ("width", "height", "shape"), [(600, 300, (7, 4)), (300, 600, (4, 7)), (300, 300, (7, 7))]
)
def test_a_thumbhash_has_the_shape_of_its_picture(tmp_path, width, height, shape):
    """Bits 16-18 of its header: terms along the shorter side, and whether that is the height."""
    facts = inspect(tmp_path, sample_images.photo(width, height), thumbhash=True)
    header = int.from_bytes(base64.b64decode(facts.thumbhash)[3:5], "little")
    shorter, is_landscape = header & 7, header >> 15
    assert ((7, shorter) if is_landscape else (shorter, 7)) == shape


def test_pixels_that_are_cut_off_are_corrupt(tmp_path):
    with pytest.raises(CorruptImageError):
        inspect(tmp_path, sample_images.truncated_jpeg(), blurhash=True)


@pytest.fixture
def asked(tmp_path):
    source = tmp_path / "original"
    source.write_bytes(sample_images.photo(64, 48, with_metadata=True))
    return InspectRequest(
        source=source, source_format=ImageFormat.JPEG, limits=Limits(), gps=True, **EVERYTHING
    )


def test_the_truth_is_believed(asked):
    check_facts(VipsEngine().inspect(asked, deadline_seconds=60), asked)


@pytest.mark.parametrize(
    "changes",
    [
        {"format": ImageFormat.PNG},
        {"media_type": "text/html"},
        {"width": 30_001},
        {"width": 20_000, "height": 20_000},
        {"frames": 301},
        {"size_bytes": 1},
        {"dominant_color": None},
        {"blurhash": None},
        {"thumbhash": None},
    ],
)
def test_facts_that_cannot_be_are_not_believed(asked, changes):
    facts = VipsEngine().inspect(asked, deadline_seconds=60)
    with pytest.raises(FalseClaimError):
        check_facts(facts.model_copy(update=changes), asked)


@pytest.mark.parametrize(
    "changes", [{"gps": False}, {"palette": 1}, {"blurhash": False}, {"dominant_color": False}]
)
def test_more_than_was_asked_is_not_believed(asked, changes):
    facts = VipsEngine().inspect(asked, deadline_seconds=60)
    with pytest.raises(FalseClaimError):
        check_facts(facts, asked.model_copy(update=changes))


def test_a_file_that_is_gone_is_not_believed(asked):
    facts = VipsEngine().inspect(asked, deadline_seconds=60)
    asked.source.unlink()
    with pytest.raises(FalseClaimError, match="not there"):
        check_facts(facts, asked)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("camera/Apple_iPhone_6.jpg", {"lens": "iPhone 6 back camera 4.15mm f/2.2", "has_gps": True}),
        ("camera/Nikon_D40.jpg", {"artist": "Phil Askey", "focal_length_35mm": 39, "has_gps": False}),
        ("avif/Issue_649.avif", {"camera_model": "Canon EOS 70D", "iso": 400}),
        ("heic/pug.heic", {"camera_model": "iPhone 13 Pro", "taken_at": "2023-02-21T14:33:08+03:00"}),
    ],
)
def test_camera_files(photos, name, expected):
    facts = inspect_photo(photos / name)
    assert {field: getattr(facts.exif, field) for field in expected} == expected


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "has_gain_map"),
    [
        ("gainmap/seine_sdr_gainmap_srgb.jpg", True),
        ("heic/pug.heic", True),
        ("heic/Issue_263_dotnet.heic", False),
        ("camera/Apple_iPhone_6.jpg", False),
        ("avif/Issue_649.avif", False),
    ],
)
def test_gain_maps_are_seen(photos, name, has_gain_map):
    assert inspect_photo(photos / name).has_gain_map is has_gain_map


@pytest.mark.slow
def test_the_header_of_a_large_photo_is_read_without_its_pixels(photos):
    """A decode of these 22 megapixels takes a quarter of a second."""
    inspect_photo(photos / "camera/Issue_266.jpg")
    began = time.process_time()
    for _ in range(10):
        assert inspect_photo(photos / "camera/Issue_266.jpg").width == 5760
    assert time.process_time() - began < 2


def inspect_photo(path):
    with path.open("rb") as file:
        image_format = sniff(file.read(512))
    request = InspectRequest(source=path, source_format=image_format, limits=GENEROUS)
    return VipsEngine().inspect(request, deadline_seconds=60)
