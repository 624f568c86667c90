"""What of an original's metadata a file is given, seen by Pillow and in the file's bytes."""

import io
from collections.abc import Callable
from pathlib import Path

import pytest
import pyvips
from PIL import Image

from image_processor.engine.vips.attachments import Attachments, attach, jpeg_segments, read_attachments
from image_processor.engine.vips.exif import MAX_EXIF_BYTES, read_exif
from image_processor.engine.vips.geometry import Size
from image_processor.engine.vips.iptc import photoshop_block, read_iptc
from image_processor.engine.vips.picture import Picture
from image_processor.engine.vips.save.avif import save_avif
from image_processor.engine.vips.save.gif import save_gif
from image_processor.engine.vips.save.target import Target
from image_processor.engine.vips.save.tiff import save_tiff
from image_processor.engine.vips.save.webp import save_webp
from image_processor.engine.vips.segments import segments_of, with_segments
from image_processor.engine.vips.xmp import MAX_XMP_BYTES, cleaned_xmp
from image_processor.pipeline import AvifOutput, GifOutput, Metadata, TiffOutput, WebpOutput
from image_processor.testing.sample_images import p3_jpeg, scene

ARTIST, COPYRIGHT, MAKE, ORIENTATION, GPS, PHOTO = 0x013B, 0x8298, 0x010F, 0x0112, 0x8825, 0x8769
SATELLITES = "GPS-of-nobody"
CREATOR = "Ärtist (of nobody)"
OWNER = "(c) 2026 nobody"
RDF = 'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"'
XMP = (
    f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF {RDF}><rdf:Description rdf:about="" '
    'xmlns:tiff="http://ns.adobe.com/tiff/1.0/" xmlns:xmp="http://ns.adobe.com/xap/1.0/" '
    'xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" '
    'xmlns:g="http://ns.google.com/photos/1.0/container/" '
    'tiff:Orientation="6" hdrgm:Version="1.0" xmp:Label="label-of-nobody">'
    "<xmp:Thumbnails>thumbnail-of-nobody</xmp:Thumbnails><g:Directory>gain</g:Directory>"
    "</rdf:Description></rdf:RDF></x:xmpmeta>"
).encode()
IPTC = b"\x1c\x02\x78\x00\x0eiptc-of-nobody"
EVERY_SIGN = (SATELLITES.encode(), b"label-of-nobody", b"thumbnail-of-nobody", b"iptc-of-nobody", b"Make of")
THUMBNAIL = b"\xff\xd8\xff\xe0thumbnail-of-nobody\xff\xd9"


def _exif_block(*, artist: bool = True) -> bytes:
    exif = Image.Exif()
    exif[MAKE] = "Make of nobody"
    exif[ORIENTATION] = 6
    if artist:
        exif[ARTIST], exif[COPYRIGHT] = CREATOR.encode(), OWNER
    exif.get_ifd(PHOTO)[0xA002] = 4000
    exif.get_ifd(GPS)[8] = SATELLITES
    return _with_thumbnail(exif.tobytes().removeprefix(b"Exif\0\0"))


def _with_thumbnail(block: bytes) -> bytes:
    """The block with a second directory, where cameras put a small JPEG."""
    order = "little" if block[:2] == b"II" else "big"
    link = 8 + 2 + 12 * int.from_bytes(block[8:10], order)
    at = len(block)
    rows = ((0x0201, at + 30), (0x0202, len(THUMBNAIL)))
    directory = (2).to_bytes(2, order) + b"".join(
        tag.to_bytes(2, order) + (4).to_bytes(2, order) + (1).to_bytes(4, order) + value.to_bytes(4, order)
        for tag, value in rows
    )
    return block[:link] + at.to_bytes(4, order) + block[link + 4 :] + directory + bytes(4) + THUMBNAIL


def _original(*, artist: bool = True) -> Attachments:
    return Attachments(exif=_exif_block(artist=artist), xmp=XMP, iptc=photoshop_block(IPTC))


def _save_jpeg(picture: Picture, target: Target) -> None:
    image, keep = attach(picture.first, target)
    image.jpegsave(str(target.path), keep=keep)


def _save_png(picture: Picture, target: Target) -> None:
    image, keep = attach(picture.first, target)
    image.pngsave(str(target.path), keep=keep)


def _save_foreign_jpeg(picture: Picture, target: Target) -> None:
    """As an encoder beside libvips writes it."""
    bare = bytes(picture.first.jpegsave_buffer(keep="none"))
    target.path.write_bytes(with_segments(bare, jpeg_segments(target, picture.size)))


SAVERS: dict[str, Callable[[Picture, Target], None]] = {
    "jpeg": _save_jpeg,
    "jpegli": _save_foreign_jpeg,
    "png": _save_png,
    "webp": lambda picture, target: save_webp(picture, WebpOutput(), target),
    "avif": lambda picture, target: save_avif(picture, AvifOutput(speed=9), target),
    "tiff": lambda picture, target: save_tiff(picture, TiffOutput(), target),
    "gif": lambda picture, target: save_gif(picture, GifOutput(), target),
}
WITH_EXIF = sorted(SAVERS.keys() - {"gif"})


def _laden() -> Picture:
    """A picture whose own image still has every field that its original had."""
    jpeg = with_segments(
        bytes(scene(64, 48).jpegsave_buffer(keep="none")),
        jpeg_segments(Target(Path(), metadata=Metadata.ALL, attachments=_original())),
    )
    image = pyvips.Image.jpegload_buffer(jpeg).copy_memory().copy()
    image.set_type(pyvips.GValue.gstr_type, "png-comment-0-Comment", "label-of-nobody")
    image.set_type(pyvips.GValue.gstr_type, "gif-comment", "label-of-nobody")
    image.set_type(pyvips.GValue.gint_type, "page-height", 24)
    return Picture((image,))


def _written(kind: str, folder: Path, policy: Metadata, attachments: Attachments | None = None) -> bytes:
    target = Target(folder / "file", metadata=policy, attachments=attachments or _original())
    SAVERS[kind](_laden(), target)
    return target.path.read_bytes()


def _exif(data: bytes) -> Image.Exif:
    return _opened(data).getexif()


def _opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


@pytest.mark.parametrize("policy", [Metadata.NONE, Metadata.COPYRIGHT])
@pytest.mark.parametrize("kind", SAVERS)
def test_place_and_thumbnails_never_survive(kind, policy, tmp_path):
    data = _written(kind, tmp_path, policy)
    exif = _exif(data)
    assert not exif.get_ifd(GPS)
    assert not exif.get_ifd(1)
    assert not any(sign in data for sign in (*EVERY_SIGN, b"JFXX", b"xpacket", b"xmpmeta", b"hdrgm"))
    assert "XML:com.adobe.xmp" not in _opened(data).info


@pytest.mark.parametrize("kind", SAVERS)
def test_nothing_is_kept_by_default(kind, tmp_path):
    data = _written(kind, tmp_path, Metadata.NONE)
    assert OWNER.encode() not in data
    assert _opened(data).size == (64, 48)
    if kind != "tiff":
        assert not dict(_exif(data))


@pytest.mark.parametrize("kind", WITH_EXIF)
def test_artist_and_copyright_are_kept(kind, tmp_path):
    exif = _exif(_written(kind, tmp_path, Metadata.COPYRIGHT))
    assert exif[ARTIST].encode("latin-1").decode() == CREATOR
    assert exif[COPYRIGHT] == OWNER
    assert MAKE not in exif
    assert exif.get(ORIENTATION, 1) == 1


@pytest.mark.parametrize("kind", WITH_EXIF)
def test_no_exif_is_written_where_there_is_no_copyright(kind, tmp_path):
    data = _written(kind, tmp_path, Metadata.COPYRIGHT, _original(artist=False))
    assert MAKE not in _exif(data)
    if kind != "tiff":
        assert not dict(_exif(data))


@pytest.mark.parametrize("kind", WITH_EXIF)
def test_all_keeps_exif_with_its_place_for_the_upright_picture(kind, tmp_path):
    data = _written(kind, tmp_path, Metadata.ALL)
    exif = _exif(data)
    assert exif[MAKE] == "Make of nobody"
    assert exif[COPYRIGHT] == OWNER
    assert exif[ORIENTATION] == 1
    assert exif.get_ifd(GPS)[8] == SATELLITES
    assert (exif.get_ifd(PHOTO)[0xA002], exif.get_ifd(PHOTO)[0xA003]) == (64, 48)
    assert not exif.get_ifd(1)
    assert THUMBNAIL not in data


@pytest.mark.parametrize("kind", WITH_EXIF)
def test_all_keeps_xmp_without_what_is_true_of_the_original_alone(kind, tmp_path):
    info = _opened(_written(kind, tmp_path, Metadata.ALL)).info
    packet = info.get("xmp") or info["XML:com.adobe.xmp"].encode()
    assert b"label-of-nobody" in packet
    assert not any(sign in packet for sign in (b"Orientation", b"humbnail", b"hdrgm", b"google"))


@pytest.mark.parametrize("kind", ["jpeg", "jpegli"])
def test_all_keeps_iptc_in_jpeg(kind, tmp_path):
    assert IPTC in _written(kind, tmp_path, Metadata.ALL)


def test_a_tiff_has_no_block_that_only_a_jpeg_may_have(tmp_path):
    assert b"8BIM" not in _written("tiff", tmp_path, Metadata.ALL)


@pytest.mark.parametrize("kind", WITH_EXIF)
@pytest.mark.parametrize("policy", Metadata)
def test_a_profile_that_the_pixels_are_in_goes_with_them(kind, policy, tmp_path):
    profile = read_attachments(pyvips.Image.jpegload_buffer(p3_jpeg())).profile
    data = _written(kind, tmp_path, policy, Attachments(profile=profile))
    assert _opened(data).info["icc_profile"] == profile


def test_a_long_profile_is_split_and_put_together_again():
    profile = bytes(range(256)) * 600
    segments = jpeg_segments(Target(Path(), attachments=Attachments(profile=profile)))
    data = with_segments(bytes(scene(8, 8).jpegsave_buffer(keep="none")), segments)
    assert len(segments) == 3
    assert _opened(data).info["icc_profile"] == profile


def test_a_tiff_original_gives_its_tags(tmp_path):
    _written("tiff", tmp_path, Metadata.ALL)
    found = read_attachments(pyvips.Image.tiffload(str(tmp_path / "file")))
    exif = read_exif(found.exif)
    assert exif.main[COPYRIGHT].data == OWNER.encode() + b"\0"
    assert 0x0111 not in exif.main


def test_what_is_too_long_is_left():
    image = scene(8, 8).copy()
    for field in ("icc-profile-data", "exif-data", "xmp-data", "iptc-data"):
        image.set_type(pyvips.GValue.blob_type, field, b"x" * (4 * 1024 * 1024 + 1))
    assert read_attachments(image) == Attachments()


BROKEN = {
    "empty": b"",
    "no block": b"nothing of this kind",
    "cut off": b"II*\0\x08\0",
    "directory outside": b"II*\0\xff\xff\xff\xff",
    "directory of itself": b"II*\0\x08\0\0\0\x01\0" + b"\x69\x87\x04\0\x01\0\0\0\x08\0\0\0" + b"\x08\0\0\0",
    "more tags than bytes": b"II*\0\x08\0\0\0\xff\xff" + b"\x3b\x01\x02\0\x01\0\0\0A\0\0\0",
    "huge count": b"II*\0\x08\0\0\0\x01\0" + b"\x3b\x01\x05\0\xff\xff\xff\xff\x1a\0\0\0",
    "value outside": b"II*\0\x08\0\0\0\x01\0" + b"\x3b\x01\x02\0\x10\0\0\0\xf0\xff\xff\xff",
    "unknown type": b"MM\0*\0\0\0\x08\0\x01" + b"\x01\x3b\0\x63\0\0\0\x04abcd",
    "pointer of another type": b"II*\0\x08\0\0\0\x01\0" + b"\x25\x88\x02\0\x04\0\0\0\x08\0\0\0",
}


@pytest.mark.parametrize("block", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("policy", Metadata)
def test_a_broken_block_is_passed_over(block, policy, tmp_path):
    data = _written("webp", tmp_path, policy, Attachments(exif=block))
    assert ARTIST not in _exif(data) or _exif(data)[ARTIST] == "A"


@pytest.mark.parametrize("length", range(0, len(_exif_block()), 7))
def test_a_block_cut_anywhere_is_read_as_far_as_it_goes(length):
    exif = read_exif(_exif_block()[:length])
    assert exif is None or exif.describing(Size(1, 1)).to_bytes()


def test_many_tags_on_the_same_bytes_stay_within_the_bound():
    rows = b"".join(tag.to_bytes(2, "little") + b"\x07\0\0\x80\0\0\0\x10\0\0" for tag in range(1, 500))
    exif = read_exif(b"II*\0\x08\0\0\0" + (499).to_bytes(2, "little") + rows + bytes(60_000))
    assert 0 < len(exif.to_bytes()) <= MAX_EXIF_BYTES


def test_text_that_is_none_is_no_copyright(tmp_path):
    block = _exif_block().replace(OWNER.encode(), b"\x01\x02" + OWNER.encode()[2:])
    exif = _exif(_written("webp", tmp_path, Metadata.COPYRIGHT, Attachments(exif=block)))
    assert ARTIST in exif
    assert COPYRIGHT not in exif


def test_the_other_byte_order_says_the_same():
    exif = read_exif(_exif_block())
    other = exif.ordered("big" if exif.order == "little" else "little")
    assert other.ordered(exif.order) == exif
    assert read_exif(other.to_bytes()) == other


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"<a>",
        b"no xml",
        b"\xff\xfe<\0a\0/\0>\0",
        XMP + b" " * MAX_XMP_BYTES + b"<!-- -->",
        b'<!DOCTYPE a [<!ENTITY b "c">]>' + XMP,
        b"<a>" * 20_000 + b"</a>" * 20_000,
        XMP.replace(b"thumbnail-of-nobody", b"").replace(b"gain", b"<a>" * 9000 + b"</a>" * 9000)
        .replace(b"g:Directory", b"xmp:Directory"),
    ],
    ids=["empty", "open", "text", "UTF-16", "long", "entities", "deep", "deep inside"],
)  # fmt: skip
def test_a_packet_that_cannot_be_edited_is_dropped(packet):
    assert cleaned_xmp(packet) is None


@pytest.mark.parametrize(
    "block", [b"", b"Photoshop 3.0\0", b"Photoshop 3.0\x008BIM\x04\x04\xff", b"\x1d" + IPTC]
)
def test_no_iptc_is_no_iptc(block):
    assert read_iptc(block) is None


def test_of_a_photoshop_block_the_records_alone_are_kept():
    thumbnail = b"8BIM\x04\x0c\0\0" + len(THUMBNAIL).to_bytes(4) + THUMBNAIL + b"\0" * (len(THUMBNAIL) % 2)
    block = photoshop_block(IPTC)
    assert read_iptc(block[:14] + thumbnail + block[14:]) == IPTC


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["gps/DSCN0010.jpg", "camera/Canon_EOS_5D.jpg", "gainmap/seine_sdr_gainmap_srgb.jpg"]
)
@pytest.mark.parametrize("kind", SAVERS)
def test_of_a_camera_photo_neither_place_nor_thumbnail_survives(photos, kind, name, tmp_path):
    original = pyvips.Image.jpegload(str(photos / name))
    thumbnail = bytes(original.get("jpeg-thumbnail-data"))[:400]
    for policy in Metadata:
        target = Target(tmp_path / "file", metadata=policy, attachments=read_attachments(original))
        SAVERS[kind](Picture((original.resize(0.1).copy_memory(),)), target)
        data = target.path.read_bytes()
        assert thumbnail not in data
        assert bool(_exif(data).get_ifd(GPS)) == (
            policy is Metadata.ALL and kind != "gif" and "Canon" not in name
        )
        if policy is Metadata.ALL and kind != "gif":
            assert _exif(data)[MAKE] == _exif((photos / name).read_bytes())[MAKE]


def test_segments_stand_where_a_jpeg_is_read_from():
    data = with_segments(
        bytes(scene(8, 8).jpegsave_buffer(keep="none")),
        jpeg_segments(Target(Path(), metadata=Metadata.ALL, attachments=_original())),
    )
    assert [found.marker for found in segments_of(data)][:3] == [0xE1, 0xE1, 0xED]
    assert Image.open(io.BytesIO(data)).info["exif"].startswith(b"Exif\0\0")
