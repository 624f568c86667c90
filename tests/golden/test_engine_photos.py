"""The engine on real camera files, held against Pillow's decoders, its Lanczos and LittleCMS."""

import struct
import tempfile
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from image_processor.errors import UnsupportedFormatError
from image_processor.pipeline import (
    BUILTIN_PRESETS,
    JpegOutput,
    Pipeline,
    PngOutput,
    Resize,
    SourceOutput,
    Variant,
    WebpOutput,
)
from pictures import differences, in_srgb, opened, picture, pipeline_of, render, upright

CLOSE = 1.5
"""Mean difference per channel, of 255: two decoders, two resamplers, one picture."""
COMPARED_WIDTH = 1200
"""Pixels; wider pictures are brought to it before they are compared."""
WEB = BUILTIN_PRESETS["web"].pipeline
WEB_WIDTHS = {variant.name: variant.operations[0].width for variant in WEB.variants}
CAMERAS = (
    "Apple_iPhone_6",
    "Canon_EOS_450D",
    "Canon_EOS_5D",
    "Issue_266",
    "Kodak_PIXPRO_AZ521",
    "Nikon_D40",
    "Nikon_D90",
    "Oppo_R7_Plus",
    "Panasonic_LZ2",
    "Samsung_SM-G935L_Galaxy_S7_Edge_",
    "Sony_DSC-H9",
)


def camera_file(photos: Path, name: str) -> Path:
    return photos / "camera" / f"{name}.jpg"


def shrunk(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    return image.resize(size, Image.Resampling.LANCZOS)


def comparable(image: Image.Image) -> Image.Image:
    if image.width <= COMPARED_WIDTH:
        return image
    return shrunk(image, (COMPARED_WIDTH, round(image.height * COMPARED_WIDTH / image.width)))


def luma(image: Image.Image):
    return np.asarray(image.convert("L"), dtype=np.int16)


def luma_distance(one: Image.Image, other: Image.Image) -> float:
    """Of what is coded with losses: JPEG and WebP keep colour coarsely, brightness finely."""
    return float(np.abs(luma(one) - luma(other)).mean())


@cache
def web_pngs(path: Path) -> Mapping[str, Image.Image]:
    """The preset `web` from one decode, as PNG: what is seen is what was worked out."""
    png = PngOutput(compression=1)
    pipeline = Pipeline(variants=tuple(v.model_copy(update={"output": png}) for v in WEB.variants))
    with tempfile.TemporaryDirectory() as folder:
        rendering = render(Path(folder), path.read_bytes(), pipeline)
        return {made.name: comparable(opened(made.path.read_bytes())) for made in rendering.variants}


@cache
def pillow_sizes(path: Path) -> Mapping[str, Image.Image]:
    """What Pillow shows in the sizes of `web_pngs`, each made from the whole picture."""
    whole = upright(path.read_bytes())
    sizes = {name: image.size for name, image in web_pngs(path).items()}
    found = {size: shrunk(whole, size) for size in set(sizes.values())}
    return {name: found[size] for name, size in sizes.items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", CAMERAS)
def test_every_camera_file_gives_the_picture_that_pillow_shows(photos, name):
    path = camera_file(photos, name)
    wanted = pillow_sizes(path)
    for variant, shown in web_pngs(path).items():
        assert shown.width == min(WEB_WIDTHS[variant], COMPARED_WIDTH)
        assert max(differences(shown, wanted[variant])) < CLOSE, variant


def test_no_camera_file_is_forgotten(photos):
    assert {path.stem for path in (photos / "camera").glob("*.jpg")} == set(CAMERAS)


@pytest.mark.slow
def test_all_eight_orientations_are_one_picture(photos, tmp_path):
    """Each was coded on its own, so they differ a little; a wrong turn would be tens of levels."""
    originals = [(photos / "orientation" / f"Landscape_{n}.jpg").read_bytes() for n in range(1, 9)]
    straight, *turned = [picture(tmp_path, original, Resize(width=600)) for original in originals]
    assert straight.size == (600, 400)
    for shown, original in zip(turned, originals[1:], strict=True):
        assert max(differences(shown, straight)) < 3
        assert max(differences(shown, shrunk(upright(original), shown.size))) < CLOSE
    for wrong in (Image.Transpose.ROTATE_180, Image.Transpose.FLIP_LEFT_RIGHT):
        assert min(differences(straight.transpose(wrong), straight)) > 30


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "ignored"),
    [
        ("widegamut/p3_Nikon_D90.jpg", 2.0),
        ("widegamut/jpg-24bit-icc-adobe-rgb.jpg", 10.0),
        ("cmyk/dog_and_lake_cmyk_with_icc_profile.jpg", 10.0),
        ("camera/Issue_266.jpg", None),
        ("grey/gray.jpg", 0.2),
    ],
)
def test_profiles_are_heeded(photos, tmp_path, name, ignored):
    """`ignored`: how far away the picture is at least when its profile is not read; None for sRGB."""
    original = (photos / name).read_bytes()
    shown = picture(tmp_path, original, Resize(width=COMPARED_WIDTH))
    wanted = shrunk(in_srgb(original), shown.size)
    distance = max(differences(shown, wanted))
    assert distance < CLOSE
    if ignored is not None:
        careless = shrunk(opened(original).convert("RGB"), shown.size)
        assert max(differences(careless, wanted)) > max(ignored, 4 * distance)


def test_cmyk_without_a_profile_looks_like_a_photo(photos, tmp_path):
    original = (photos / "cmyk" / "Channel_digital_image_CMYK_color_no_profile.jpg").read_bytes()
    inks = opened(original)
    assert (inks.mode, inks.info.get("icc_profile")) == ("CMYK", None)
    shown = np.asarray(picture(tmp_path, original), dtype=np.float64)
    assert all(60 < level < 200 for level in shown.mean(axis=(0, 1)))
    assert all(30 < level < 90 for level in shown.std(axis=(0, 1)))
    naive = np.asarray(inks.convert("RGB"))
    assert all(alike(shown[..., band], naive[..., band]) > 0.95 for band in range(3))
    assert alike(shown.mean(axis=2), 255 - np.asarray(inks)[..., 3]) > 0.75


def alike(one, other) -> float:
    """The correlation: 1 is the same order of brightness, -1 a negative."""
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["png_16bit/weld_16bit.png", "png_photo/clic_0369d229ba4c.png"])
def test_png_photos(photos, tmp_path, name):
    original = (photos / name).read_bytes()
    wanted = opened(original).convert("RGB")
    output = PngOutput(compression=1)
    whole = Variant(name="whole", output=output)
    small = Variant(name="small", operations=(Resize(width=600),), output=output)
    made = render(tmp_path, original, Pipeline(variants=(whole, small)), "png").variants
    at_full_size, at_600 = (opened(variant.path.read_bytes()) for variant in made)
    assert max(differences(at_full_size, wanted)) < 0.5
    assert max(differences(at_600, shrunk(wanted, at_600.size))) < CLOSE


def test_transparent_pictures_are_not_darkened(photos, tmp_path):
    """Fractions that are cut off and not rounded make every pixel half a level darker."""
    original = (photos / "png_graphics" / "demo-device-screen.png").read_bytes()
    shown = picture(tmp_path, original, Resize(width=300), kind="png")
    wanted = shrunk(opened(original).convert("RGBa"), shown.size).convert("RGBA")
    ours, theirs = (np.asarray(image, dtype=np.int16) for image in (shown, wanted))
    opaque = (ours[..., 3] == 255) & (theirs[..., 3] == 255)
    assert opaque.mean() > 0.9
    assert np.abs((ours - theirs)[opaque].mean(axis=0)).max() < 0.15


EXIF, XMP, ICC = b"Exif\0\0", b"http://ns.adobe.com", b"ICC_PROFILE"
GAIN_MAP = (b"MPF\0", b"hdrgm")
CHUNKS = (b"eXIf", b"iCCP", b"tEXt", b"iTXt", b"zTXt", b"EXIF", b"XMP ", b"ICCP")
JPEG_START = b"\xff\xd8\xff"
SMALL = (Resize(width=600),)
EVERY_FORMAT = Pipeline(
    variants=(
        Variant(name="kept", output=SourceOutput(), never_larger=True),
        Variant(name="jpeg", output=JpegOutput()),
        Variant(name="thumb", operations=(Resize(width=64),), output=JpegOutput()),
        Variant(name="png", operations=SMALL, output=PngOutput()),
        Variant(name="webp", operations=SMALL, output=WebpOutput()),
        Variant(name="lossless", operations=SMALL, output=WebpOutput(lossless=True)),
    )
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "traces"),
    [
        ("gps/DSCN0010.jpg", (EXIF, XMP, b"NIKON", b"COOLPIX")),
        ("gps/DSCN0021.jpg", (EXIF, XMP, b"NIKON", b"COOLPIX")),
        ("gainmap/seine_sdr_gainmap_srgb.jpg", (EXIF, XMP, ICC, b"acsp", b"8BIM", b"Google", *GAIN_MAP)),
        ("camera/Apple_iPhone_6.jpg", (EXIF, b"Apple", b"iPhone 6")),
    ],
)
def test_nothing_of_the_metadata_is_left(photos, tmp_path, name, traces):
    original = (photos / name).read_bytes()
    traces = (*traces, place(original))
    assert [trace for trace in traces if trace not in original] == []
    for variant in render(tmp_path, original, EVERY_FORMAT).variants:
        content = variant.path.read_bytes()
        assert [trace for trace in (*traces, XMP, ICC) if trace in content] == [], variant.name
        if variant.format == "jpeg":
            assert content.count(JPEG_START) == 1, "neither a thumbnail nor a gain map"
        else:
            assert [chunk for chunk in CHUNKS if chunk in content] == [], variant.name
        shown = opened(content)
        assert not shown.getexif()
        assert not {"exif", "xmp", "icc_profile", "mpf", "comment"} & set(shown.info), variant.name


def place(jpeg: bytes) -> bytes:
    """The latitude as it lies in the EXIF: three fractions of two numbers each."""
    exif = opened(jpeg).getexif()
    fractions = exif.get_ifd(0x8825)[2]
    numbers = [number for part in fractions for number in (part.numerator, part.denominator)]
    return struct.pack(f"{exif.endian}6I", *numbers)


def test_a_gain_map_is_a_second_picture_in_the_original(photos):
    """Else its absence says nothing."""
    assert (photos / "gainmap" / "seine_sdr_gainmap_srgb.jpg").read_bytes().count(JPEG_START) > 1


MOVING_AND_STILL = Pipeline(
    variants=tuple(
        Variant(name=output.format, operations=(Resize(width=160),), output=output)
        for output in (WebpOutput(), JpegOutput(quality=95), PngOutput())
    )
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "frames"),
    [
        ("webp_anim/Animation_Lossy.webp", 101),
        ("gif_anim/Rotating_earth__large_.gif", 44),
        ("gif_anim/dancing-banana.gif", 8),
    ],
)
def test_animations_move(photos, tmp_path, name, frames):
    original = (photos / name).read_bytes()
    rendering = render(tmp_path, original, MOVING_AND_STILL, Path(name).suffix[1:])
    source, moving, *stills = (
        opened(data) for data in (original, *(made.path.read_bytes() for made in rendering.variants))
    )
    assert [variant.frames for variant in rendering.variants] == [frames, 1, 1]
    assert moving.n_frames == source.n_frames == rendering.frames == frames
    assert delays(moving) == delays(source)
    assert moving.info["loop"] == source.info["loop"]
    check_frames(source, moving, stills, middle=frames // 2)


def check_frames(source, moving, stills, middle):
    """Every picture is the frame that it should be, and clearly not the other one."""
    first, later = (on_white(source, at, moving.size) for at in (0, middle))
    for made, wanted, other in (
        *((on_white(still, 0, moving.size), first, later) for still in stills),
        (on_white(moving, 0, moving.size), first, later),
        (on_white(moving, middle, moving.size), later, first),
    ):
        assert luma_distance(made, wanted) < min(2, luma_distance(made, other) / 1.3)


def delays(image: Image.Image) -> list[int]:
    """Milliseconds for which each frame is shown."""
    found = []
    for at in range(image.n_frames):
        image.seek(at)
        image.load()  # WebP's delay is known only then
        found.append(image.info["duration"])
    return found


def on_white(image: Image.Image, at: int, size: tuple[int, int]) -> Image.Image:
    """One frame, laid on white, in that size."""
    image.seek(at)
    frame = image.convert("RGBA")
    white = Image.new("RGBA", frame.size, "white")
    return shrunk(Image.alpha_composite(white, frame).convert("RGB"), size)


def test_heic_is_not_taken_for_avif(photos, tmp_path):
    files = sorted((photos / "heic").glob("*.heic"))
    assert len(files) == 3
    for path in files:
        with pytest.raises(UnsupportedFormatError, match="not AVIF"):
            render(tmp_path, path.read_bytes(), pipeline_of(), "avif")
    assert [left.name for left in tmp_path.iterdir()] == ["original"]


@pytest.mark.slow
@pytest.mark.parametrize("width", [150, 600, 1200])
def test_a_size_made_from_a_larger_one_is_as_good_as_from_the_file(photos, tmp_path, width):
    """Of this photo, 600 is made from the file and 150 from 600; alone, each comes from a shrunk decode."""
    path = camera_file(photos, "Nikon_D90")
    (name,) = (name for name, known in WEB_WIDTHS.items() if known == width)
    derived, wanted = web_pngs(path)[name], pillow_sizes(path)[name]
    alone = picture(tmp_path, path.read_bytes(), Resize(width=width))
    assert max(differences(derived, alone)) < CLOSE
    assert max(differences(derived, wanted)) < max(differences(alone, wanted)) + 0.6


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Apple_iPhone_6", "Issue_266", "Nikon_D40"])
def test_the_luma_of_the_web_preset_is_near_what_it_was_made_from(photos, tmp_path, name):
    path = camera_file(photos, name)
    for variant in render(tmp_path, path.read_bytes(), WEB).variants:
        shown, wanted = comparable(opened(variant.path.read_bytes())), pillow_sizes(path)[variant.name]
        assert luma_distance(shown, wanted) < 3, variant.name
        assert abs((luma(shown) - luma(wanted)).mean()) < 1, variant.name


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["web", "thumbnails"])
def test_a_camera_photo_takes_seconds_and_not_minutes(photos, tmp_path, preset):
    """Processor time, so that a busy machine does not count; 12 megapixels take about one second."""
    original = camera_file(photos, "Samsung_SM-G935L_Galaxy_S7_Edge_").read_bytes()
    started = time.process_time()
    rendering = render(tmp_path, original, BUILTIN_PRESETS[preset].pipeline)
    assert time.process_time() - started < 5
    assert len(rendering.variants) == len(BUILTIN_PRESETS[preset].pipeline.variants)
