"""Real photos, by the service and by the field: upright, in their colours, padded to the pixel, bare."""

import io
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from PIL import Image, ImageCms, ImageDraw, ImageOps

from contrib_django.gallery.models import Profile
from image_processor.contrib.django.conf import Conf
from image_processor.contrib.django.profile_pictures import ImageStorageService

pytestmark = pytest.mark.django_db

BASE = "https://gallery.example"
SRGB = ImageCms.createProfile("sRGB")
SIDES = {"original": None, "resized": 512, "thumbnail": 128}
COMPARED_SIDE = 600
"""Twelve megapixels tell no more of colour and orientation than a third of one does."""
EXCESS = 1.0
"""
How much farther from Pillow's decode we may be than Pillow's own JPEG of that decode, per channel, of 255.

Measured: 0.43 at most. In pictures that are not resized it is below 0: our JPEG is the finer one.
"""
BIAS = 1.25
"""How far the mean of a channel may be off, of 255; measured: 1.07. A missing conversion is off by more."""
NO_TRUTH = "Channel_digital_image_CMYK_color_no_profile.jpg"
"""CMYK without a profile: Pillow inverts the inks, we take a press's profile. Only the shapes are alike."""
BLOCK = 16
"""Pixels: as far as a JPEG of half the colours smears an edge."""
PHOTOS = [
    pytest.param("heic/Issue_263_dotnet.heic", marks=pytest.mark.slow, id="iPhone-XR"),
    pytest.param("heic/pug.heic", marks=pytest.mark.slow, id="iPhone-13"),
    pytest.param("heic/Issue_437_dotnet_.heic", marks=pytest.mark.slow, id="Galaxy-S24"),
    pytest.param("widegamut/p3_Nikon_D90.jpg", marks=pytest.mark.slow, id="Display-P3"),
    pytest.param("widegamut/jpg-24bit-icc-adobe-rgb.jpg", marks=pytest.mark.slow, id="Adobe-RGB"),
    pytest.param("png_16bit/weld_16bit.png", marks=pytest.mark.slow, id="PNG-16-bit"),
    pytest.param("png_graphics/demo-device-screen.png", marks=pytest.mark.slow, id="transparent"),
    pytest.param("png_graphics/Issue_280_dotnet_.png", marks=pytest.mark.slow, id="opaque-with-alpha"),
    pytest.param("grey/gamma_dalai_lama_gray.jpg", marks=pytest.mark.slow, id="gamma"),
    pytest.param("gainmap/seine_sdr_gainmap_srgb.jpg", marks=pytest.mark.slow, id="gain-map"),
    pytest.param("cmyk/dog_and_lake_cmyk_with_icc_profile.jpg", id="CMYK"),
    pytest.param(f"cmyk/{NO_TRUTH}", marks=pytest.mark.slow, id="CMYK-without-profile"),
    pytest.param("png_16bit/16-bit-grey-alpha.png", id="grey-alpha-16-bit"),
    pytest.param("grey/gray.jpg", id="grey"),
    pytest.param("gps/DSCN0010.jpg", id="GPS"),
]
TELLTALE = (b"Exif", b"GPS", b"http://ns.adobe.com", b"Photoshop", b"Apple", b"NIKON", b"samsung", b"Pixel")


@pytest.fixture(scope="module", autouse=True)
def heif() -> None:
    """The tests' own decoder reads HEIC too."""
    pillow_heif.register_heif_opener()


def stored_by_service(media: Path, data: bytes, background: str = "#ffffff") -> dict[str, bytes]:
    """The bytes of the three files, by their variants."""
    service = ImageStorageService(base_url=BASE, conf=Conf(background=background))
    names = service.upload(7, data).names._asdict()
    return {variant: (media / name).read_bytes() for variant, name in names.items()}


def stored_by_field(media: Path, data: bytes, user) -> dict[str, bytes]:
    """The same of an ImageField with the preset `avatar`; the name and the type that are given are lies."""
    lies = SimpleUploadedFile("IMG_0815.gif", data, content_type="text/plain")
    row = Profile.objects.get(pk=Profile.objects.create(user=user, picture=lies).pk)
    return {variant: (media / stored.name).read_bytes() for variant, stored in row.picture.variants.items()}


# What the pictures are compared with: another decoder, another colour library, another scaler.


def upright_srgb(data: bytes) -> Image.Image:
    """As Pillow sees it: upright, sRGB, with alpha."""
    image = Image.open(io.BytesIO(data))
    profile = image.info.get("icc_profile")
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) / 257).round().astype("uint8"))
    alpha = image.convert("RGBA").getchannel("A")
    if profile:
        image = through_profile(image, ImageCms.ImageCmsProfile(io.BytesIO(profile)))
    image = image.convert("RGBA")
    image.putalpha(alpha)
    return image


def through_profile(image: Image.Image, profile: ImageCms.ImageCmsProfile) -> Image.Image:
    mode = {"RGB": "RGB", "CMYK": "CMYK", "GRAY": "L"}[profile.profile.xcolor_space.strip()]
    return ImageCms.profileToProfile(image.convert(mode), profile, SRGB, outputMode="RGB")


def on_background(image: Image.Image, background: str = "#ffffff") -> Image.Image:
    canvas = Image.new("RGBA", image.size, background)
    return Image.alpha_composite(canvas, image.convert("RGBA")).convert("RGB")


def box_within(size: tuple[int, int], side: int) -> tuple[int, int, int, int]:
    """Where a picture lies in a square: never enlarged, centred, an odd pixel at the right or the bottom."""
    factor = min(1, side / max(size))
    width, height = (max(1, int(length * factor + 0.5)) for length in size)
    left, top = (side - width) // 2, (side - height) // 2
    return left, top, left + width, top + height


def padded(image: Image.Image, side: int, background: str = "#ffffff") -> Image.Image:
    left, top, right, bottom = box_within(image.size, side)
    canvas = Image.new("RGB", (side, side), background)
    canvas.paste(image.resize((right - left, bottom - top), Image.Resampling.LANCZOS), (left, top))
    return canvas


def reduced(image: Image.Image) -> Image.Image:
    width, height = image.size
    factor = min(1, COMPARED_SIDE / max(width, height))
    return image.resize((round(width * factor), round(height * factor)), Image.Resampling.LANCZOS)


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB"), dtype=np.float64)


def distance(ours: Image.Image, reference: Image.Image) -> np.ndarray:
    """The mean absolute difference per channel, of 255."""
    return np.abs(pixels(ours) - pixels(reference)).mean(axis=(0, 1))


def jpeg_by_pillow(image: Image.Image) -> Image.Image:
    content = io.BytesIO()
    image.save(content, "jpeg", quality=85)
    return Image.open(content)


def opened(content: bytes) -> Image.Image:
    """A stored file; it is a JPEG by its bytes, and nothing but its pixels is in it."""
    image = Image.open(io.BytesIO(content))
    assert image.format == "JPEG"
    assert image.mode in {"RGB", "L"}
    assert content.startswith(b"\xff\xd8\xff")
    assert content.endswith(b"\xff\xd9")
    assert set(segments(content)) <= {0xE0, 0xDB, 0xC0, 0xC2, 0xC4, 0xDA, 0xDD}
    assert not any(word in content for word in TELLTALE)
    return image


def segments(content: bytes) -> Iterator[int]:
    """The markers before the first scan: APP0 (JFIF), tables, the frame; no other APPn, no comment."""
    offset = 2
    while content[offset + 1] != 0xDA:
        assert content[offset] == 0xFF
        yield content[offset + 1]
        offset += 2 + int.from_bytes(content[offset + 2 : offset + 4], "big")


def compared(ours: Image.Image, reference: Image.Image) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Per channel: the distance, what of it a JPEG of the reference does not explain, and the bias."""
    ours, reference = reduced(ours), reduced(reference)
    apart = distance(ours, reference)
    bias = np.abs((pixels(ours) - pixels(reference)).mean(axis=(0, 1)))
    return apart, apart - distance(jpeg_by_pillow(reference), reference), bias


def shapes_are_alike(ours: Image.Image, reference: Image.Image) -> bool:
    grey = [pixels(reduced(image).convert("L")).ravel() for image in (ours, reference)]
    return np.corrcoef(*grey)[0, 1] > 0.9


def line(name: str, *figures: np.ndarray) -> str:
    return f"{name[-44:]:44}" + "".join(
        "  |" + "".join(f"{value:6.2f}" for value in figure) for figure in figures
    )


@pytest.mark.parametrize("name", PHOTOS)
def test_a_photo_is_stored_upright_in_its_colours_without_its_data(name, photos, media, user):
    data = (photos / name).read_bytes()
    whole = on_background(upright_srgb(data))
    stored = stored_by_service(media, data)

    for (variant, side), content in zip(SIDES.items(), stored.values(), strict=True):
        ours, reference = opened(content), padded(whole, side) if side else whole
        assert ours.size == reference.size
        figures = compared(ours, reference)
        print(line(f"{name} {variant}", *figures))
        if NO_TRUTH in name:
            assert shapes_are_alike(ours, reference)
        else:
            assert max(figures[1]) < EXCESS, variant
            assert max(figures[2]) < BIAS, variant
    assert list(stored_by_field(media, data, user).values()) == list(stored.values())


@pytest.mark.slow
def test_the_eight_orientations_are_one_picture(photos, media, user):
    first = None
    for number in range(1, 9):
        data = (photos / "orientation" / f"Landscape_{number}.jpg").read_bytes()
        stored = stored_by_service(media, data)
        original = reduced(opened(stored["original"]))
        assert opened(stored["original"]).size == (1800, 1200)
        first = first or original
        assert max(distance(original, first)) < 3.5, "beyond what JPEG makes of the eight"
        assert max(distance(original, reduced(on_background(upright_srgb(data))))) < 2
        if number in {1, 6}:
            assert list(stored_by_field(media, data, user).values()) == list(stored.values())
            user.profile.delete()


# Padding, to the pixel

DARK = (24, 40, 56)
SIZES = [(320, 240), (241, 300), (1000, 333), (333, 1001), (1025, 1024), (40, 31), (512, 512)]


def framed(size: tuple[int, int]) -> bytes:
    """A dark picture with its middle marked, without loss."""
    image, content = Image.new("RGB", size, DARK), io.BytesIO()
    width, height = size
    ImageDraw.Draw(image).rectangle((width // 3, height // 3, width // 2, height // 2), fill=(90, 90, 90))
    image.save(content, "png")
    return content.getvalue()


def box_seen(image: Image.Image, background: tuple[int, ...]) -> tuple[int, int, int, int]:
    """What is nearer the picture's colour than the background's: left, top, right, bottom."""
    grey = pixels(image) @ (0.299, 0.587, 0.114)
    dark, bright = np.dot(DARK, (0.299, 0.587, 0.114)), np.dot(background, (0.299, 0.587, 0.114))
    is_picture = grey < (dark + bright) / 2
    rows, columns = np.flatnonzero(is_picture.any(axis=1)), np.flatnonzero(is_picture.any(axis=0))
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1


def padding(image: Image.Image, box: tuple[int, int, int, int], gap: int) -> np.ndarray:
    """All pixels that are at least `gap` outside of a box."""
    left, top, right, bottom = box
    outside = np.ones((image.height, image.width), dtype=bool)
    outside[max(0, top - gap) : bottom + gap, max(0, left - gap) : right + gap] = False
    return pixels(image)[outside]


@pytest.mark.parametrize("background", ["#3cb4f0", pytest.param("#ffffff", marks=pytest.mark.slow)])
def test_the_picture_lies_in_the_middle_and_all_around_is_the_background(background, media):
    color = tuple(bytes.fromhex(background[1:]))
    for size, side in itertools.product(SIZES, (512, 128)):
        service = ImageStorageService(conf=Conf(background=background))
        image = opened(service.resize(framed(size), (side, side)).read())
        box = box_within(size, side)
        assert image.size == (side, side)
        assert box_seen(image, color) == box, (size, side)
        far, near = padding(image, box, BLOCK), padding(image, box, 0)
        assert np.abs(far - color).max(initial=0) <= 1, (size, side)
        assert len(near) == side**2 - (box[2] - box[0]) * (box[3] - box[1])
        assert np.abs(near - color).sum() <= 4 * near.size, (size, side)


def test_the_three_files_of_an_upload_have_the_chosen_background(media):
    color = (60, 180, 240)
    stored = stored_by_service(media, framed((1000, 333)), "#3cb4f0")
    for variant, side in (("resized", 512), ("thumbnail", 128)):
        image = opened(stored[variant])
        assert image.size == (side, side)
        assert box_seen(image, color) == box_within((1000, 333), side)
    assert opened(stored["original"]).size == (1000, 333)


def test_a_grey_picture_has_a_background_in_color(media):
    content = io.BytesIO()
    Image.new("L", (300, 200), 40).save(content, "jpeg")
    resized = opened(stored_by_service(media, content.getvalue(), "#ff8000")["resized"])
    assert distance(resized.crop((0, 0, 512, 100)), Image.new("RGB", (512, 100), "#ff8000")).max() <= 1
    assert distance(resized.crop((120, 170, 390, 340)), Image.new("RGB", (270, 170), (40, 40, 40))).max() <= 2


def test_what_is_transparent_shows_the_background(media):
    image, content = Image.new("RGBA", (300, 200), (*DARK, 0)), io.BytesIO()
    image.paste((*DARK, 255), (0, 0, 150, 200))
    image.paste((*DARK, 128), (150, 100, 300, 200))
    image.save(content, "png")
    for stored in stored_by_service(media, content.getvalue(), "#ff8000").values():
        ours = opened(stored)
        expected = on_background(image, "#ff8000")
        reference = expected if ours.size == image.size else padded(expected, ours.width, "#ff8000")
        assert max(compared(ours, reference)[1]) < EXCESS
