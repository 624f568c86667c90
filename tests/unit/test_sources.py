"""Sources: whatever a caller has becomes a file for the engine, or a sentence that says why not."""

import io
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image, ImageCms

from image_processor.errors import (
    CorruptImageError,
    FileTooLargeError,
    ImageTooLargeError,
    InvalidRequestError,
    NotFoundError,
    UnsupportedFormatError,
)
from image_processor.pipeline import ImageFormat, Limits
from image_processor.processor import LIBRARY_LIMITS, ImageProcessor
from image_processor.sources import CHUNK_BYTES, stage
from image_processor.testing import sample_images

SMALL = Limits(max_bytes=1000, max_pixels=100)


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "staged"
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
def jpeg():
    return sample_images.photo(64, 48)


def pixels(source):
    """What the library sees of a source, without loss."""
    return ImageProcessor().convert(source, "png").to_numpy()


def test_a_file_is_read_where_it_lies(tmp_path, folder, jpeg):
    path = tmp_path / "really.png"
    path.write_bytes(jpeg)
    staged = stage(str(path), folder, LIBRARY_LIMITS)
    assert (staged.path, staged.format) == (path, ImageFormat.JPEG)
    assert not list(folder.iterdir())
    assert stage(path, folder, LIBRARY_LIMITS, in_place=False).path.read_bytes() == jpeg
    assert len(list(folder.iterdir())) == 1


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, io.BytesIO])
def test_bytes_and_open_files_are_copied_as_they_are(folder, jpeg, kind):
    staged = stage(kind(jpeg), folder, LIBRARY_LIMITS)
    assert staged.path.read_bytes() == jpeg
    assert (staged.format, staged.own_format) == (ImageFormat.JPEG, ImageFormat.JPEG)


def test_an_open_file_is_read_from_where_it_stands(folder, jpeg):
    file = io.BytesIO(b"before" + jpeg)
    file.seek(6)
    assert stage(file, folder, LIBRARY_LIMITS).path.read_bytes() == jpeg
    assert file.tell() == 6 + len(jpeg)


def test_a_memoryview_of_wider_items_is_still_its_bytes(folder):
    png = sample_images.one_pixel()
    padded = png + b"\0" * (-len(png) % 4)
    assert stage(memoryview(padded).cast("I"), folder, LIBRARY_LIMITS).path.read_bytes() == padded


def test_a_memoryview_may_skip_bytes(folder):
    png = sample_images.one_pixel()
    doubled = bytes(byte for byte in png for _ in range(2))
    assert stage(memoryview(doubled)[::2], folder, LIBRARY_LIMITS).path.read_bytes() == png


class Endless:
    """A file that never ends, and counts what is asked of it."""

    def __init__(self, start):
        self.start, self.given = start, 0

    def read(self, size):
        self.given += size
        chunk, self.start = self.start, b""
        return chunk or b"\0" * size


def test_a_file_that_never_ends_is_read_up_to_the_limit(folder, jpeg):
    endless = Endless(jpeg)
    with pytest.raises(FileTooLargeError, match="larger than"):
        stage(endless, folder, Limits(max_bytes=3 * CHUNK_BYTES))
    assert endless.given <= 5 * CHUNK_BYTES


def test_what_is_no_picture_is_not_read_to_its_end(folder):
    endless = Endless(b"%PDF-1.7")
    with pytest.raises(UnsupportedFormatError, match="a PDF document"):
        stage(endless, folder, LIBRARY_LIMITS)
    assert endless.given <= 3 * CHUNK_BYTES


def test_what_is_larger_than_allowed_is_not_copied(tmp_path, folder, jpeg):
    (tmp_path / "photo.jpg").write_bytes(jpeg)
    for source in (jpeg, tmp_path / "photo.jpg"):
        with pytest.raises(FileTooLargeError):
            stage(source, folder, SMALL)
    for source in (Image.new("RGB", (11, 10)), np.zeros((10, 11, 3), np.uint8)):
        with pytest.raises(ImageTooLargeError, match="11 x 10"):
            stage(source, folder, SMALL)
    assert not list(folder.iterdir())


@pytest.mark.parametrize(
    ("data", "looks"), [(b"", "an empty file"), (b"%PDF-1.7", "a PDF document"), (b"hello", "text")]
)
def test_what_is_no_picture_is_told_what_is(folder, data, looks):
    for source in (data, io.BytesIO(data)):
        with pytest.raises(UnsupportedFormatError, match=f"{looks}; accepted are JPEG, PNG, WebP, AVIF, GIF"):
            stage(source, folder, LIBRARY_LIMITS)
        for left in folder.iterdir():
            left.unlink()


def test_paths_that_are_no_file(tmp_path, folder):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(NotFoundError, match=r"There is no file .*nowhere\.jpg\.$"):
        stage(tmp_path / "nowhere.jpg", folder, LIBRARY_LIMITS)
    with pytest.raises(InvalidRequestError, match="is a folder"):
        stage(tmp_path, folder, LIBRARY_LIMITS)
    with pytest.raises(InvalidRequestError, match="no regular file"):
        stage(tmp_path / "pipe", folder, LIBRARY_LIMITS)
    with pytest.raises(InvalidRequestError, match="null"):
        stage("a\0b", folder, LIBRARY_LIMITS)
    with pytest.raises(InvalidRequestError, match="cannot be read"):
        stage(tmp_path / "pipe" / "below", folder, LIBRARY_LIMITS)


def test_a_file_that_may_not_be_read(tmp_path, folder, jpeg):
    path = tmp_path / "secret.jpg"
    path.write_bytes(jpeg)
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    with pytest.raises(InvalidRequestError, match="Permission denied"):
        stage(path, folder, LIBRARY_LIMITS)


def closed():
    file = io.BytesIO()
    file.close()
    return file


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (io.StringIO("text"), "binary mode"),
        (closed(), "closed"),
        (42, "and not of type int"),
        (None, "and not of type NoneType"),
        (["a", "list"], "and not of type list"),
    ],
)
def test_objects_that_are_no_source(folder, source, reason):
    with pytest.raises(InvalidRequestError, match=reason):
        stage(source, folder, LIBRARY_LIMITS)


def gradient(*shape):
    return np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)


@pytest.mark.parametrize("shape", [(7, 5, 3), (7, 5, 4), (7, 5), (7, 5, 1), (1, 1, 3)])
def test_an_array_comes_out_as_it_went_in(shape):
    array = gradient(*shape)
    out = pixels(array)
    assert (out == array.reshape(out.shape)).all()


def test_an_array_may_be_a_view():
    array = gradient(9, 8, 3)[::-1, ::2]
    assert (pixels(array) == array).all()


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4, 3), np.uint16),
        np.zeros((4, 4), bool),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((4, 4, 5), np.uint8),
        np.zeros((1, 4, 4, 3), np.uint8),
        np.zeros(4, np.uint8),
        np.zeros((0, 4, 3), np.uint8),
    ],
    ids=lambda array: f"{array.shape}-{array.dtype}",
)
def test_other_arrays_are_told_what_is_expected(folder, array):
    with pytest.raises(InvalidRequestError, match=r"\(height, width, 3\).*of type uint8; this one is"):
        stage(array, folder, LIBRARY_LIMITS)


def picture_in(mode):
    rgb = Image.fromarray(gradient(6, 8, 3))
    if mode == "P":
        return rgb.quantize(16)
    if mode in {"La", "RGBa"}:
        return rgb.convert("RGBA").convert(mode) if mode == "RGBa" else rgb.convert("LA").convert("La")
    if mode in {"I", "I;16"}:
        return Image.fromarray(gradient(6, 8).astype(np.uint16) * 257).convert(mode)
    if mode == "LAB":
        srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        return ImageCms.profileToProfile(rgb, srgb, lab, outputMode="LAB")
    return rgb.convert(mode)


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "YCbCr", "HSV"]
)
def test_a_pillow_image_of_any_mode_looks_the_same(mode):
    image = picture_in(mode)
    known = image.convert("LA") if mode == "La" else image
    expected = np.asarray(known.convert("RGBA" if known.has_transparency_data else "RGB"), dtype=int)
    out = np.asarray(ImageProcessor().convert(image, "png").to_pillow().convert("RGBA"), dtype=int)
    assert np.abs(out[:, :, : expected.shape[2]] - expected).max() <= 1


@pytest.mark.parametrize("mode", ["I", "I;16"])
def test_16_bits_a_pixel_become_8(mode):
    assert np.abs(pixels(picture_in(mode))[:, :, 0].astype(int) - gradient(6, 8)).max() <= 1


def test_lab_and_inks_become_srgb():
    rgb = np.asarray(picture_in("RGB"), dtype=int)
    from_lab = pixels(picture_in("LAB")).astype(int)
    assert np.abs(from_lab - rgb).mean() < 4
    red = Image.new("CMYK", (9, 9), (0, 255, 255, 0))
    red_level, _, blue_level = pixels(red)[4, 4].tolist()
    assert red_level > 150
    assert blue_level < 100


def test_floating_point_has_no_range(folder):
    with pytest.raises(InvalidRequestError, match="floating-point"):
        stage(Image.new("F", (4, 4)), folder, LIBRARY_LIMITS)


def test_a_palettes_transparency_is_kept():
    image = Image.new("P", (4, 4), 1)
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.info["transparency"] = 1
    assert pixels(image)[0, 0].tolist()[3] == 0


def test_a_pillow_images_orientation_is_applied_and_its_format_forgotten(jpeg):
    sideways = Image.open(io.BytesIO(sample_images.photo(64, 48, orientation=6)))
    assert sideways.size == (48, 64)
    result = ImageProcessor().flip(sideways)
    assert (result.size, result.format) == ((64, 48), "PNG")


def test_a_pillow_images_profile_is_heeded():
    data = sample_images.p3_jpeg(64, 48)
    difference = pixels(Image.open(io.BytesIO(data))).astype(int) - pixels(data).astype(int)
    assert np.abs(difference).mean() < 1.5


def test_a_pillow_images_exif_is_there_for_those_who_keep_it(folder):
    image = Image.new("RGB", (8, 8))
    image.getexif()[0x8298] = "mine"
    staged = stage(image, folder, LIBRARY_LIMITS, with_metadata=True)
    with Image.open(staged.path) as staged_image:
        assert staged_image.getexif()[0x8298] == "mine"


def test_a_pillow_image_whose_file_is_broken_says_so(folder):
    broken = Image.open(io.BytesIO(sample_images.truncated_jpeg()))
    with pytest.raises(CorruptImageError, match="truncated"):
        stage(broken, folder, LIBRARY_LIMITS)
    assert not list(folder.iterdir())


@pytest.mark.slow
def test_no_library_of_pixels_is_loaded_for_a_file(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(sample_images.photo())
    code = f"""
import sys
from pathlib import Path
from image_processor.processor import LIBRARY_LIMITS
from image_processor.sources import stage
stage(Path({str(tmp_path / "photo.jpg")!r}), Path(), LIBRARY_LIMITS)
print(sorted({{"PIL", "numpy", "pyvips"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout.strip() == "[]"
