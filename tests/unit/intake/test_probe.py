"""Headers of real files, and the limits on what they say."""

import io

import pillow_heif
import pytest
from PIL import Image

from image_processor.errors import ImageTooLargeError, ImageTooSmallError
from image_processor.intake.probe import PROBED, Header, check_limits, probe
from image_processor.intake.sniff import SNIFF_BYTES, sniff
from image_processor.pipeline import BUILTIN_PRESETS, ImageFormat, Limits


def encoded(name, size=(33, 21), mode="RGB", **options):
    file = io.BytesIO()
    Image.new(mode, size, 1).save(file, name, **options)
    return file.getvalue()


def frames_of(count):
    return [Image.new("RGB", (33, 21), (number * 20, 0, 0)) for number in range(1, count)]


def probed(content):
    return probe(io.BytesIO(content), sniff(content), len(content))


@pytest.mark.parametrize(
    ("content", "header"),
    [
        (encoded("JPEG"), Header(width=33, height=21)),
        (encoded("JPEG", progressive=True), Header(width=33, height=21, interlaced=True)),
        (encoded("JPEG", mode="L"), Header(width=33, height=21)),
        (encoded("JPEG", mode="CMYK"), Header(width=33, height=21)),
        (encoded("JPEG", size=(65500, 1)), Header(width=65500, height=1)),
        *(
            (encoded("PNG", mode=mode), Header(width=33, height=21))
            for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")
        ),
        (encoded("PNG", save_all=True, append_images=frames_of(3)), Header(width=33, height=21)),
        (encoded("WEBP"), Header(width=33, height=21)),
        (encoded("WEBP", lossless=True), Header(width=33, height=21)),
        (encoded("WEBP", mode="RGBA"), Header(width=33, height=21)),
        (encoded("WEBP", exif=b"Exif\x00\x00II*\x00\x08\x00\x00\x00\x00\x00"), Header(width=33, height=21)),
        (encoded("WEBP", save_all=True, append_images=frames_of(4)), Header(width=33, height=21, frames=4)),
        (encoded("GIF", interlace=0), Header(width=33, height=21)),
        (encoded("GIF", interlace=1), Header(width=33, height=21, interlaced=True)),
        (
            encoded("GIF", interlace=0, save_all=True, append_images=frames_of(5)),
            Header(width=33, height=21, frames=5),
        ),
    ],
)
def test_reads_what_another_encoder_wrote(content, header):
    assert probed(content) == header


@pytest.mark.slow
def test_agrees_with_another_decoder_about_the_camera_photos(photos):
    pillow_heif.register_heif_opener()
    paths = [path for path in photos.rglob("*.*") if path.suffix != ".md"]
    assert len(paths) > 30
    for path in paths:
        with path.open("rb") as file, Image.open(path) as image:
            image_format = sniff(file.read(SNIFF_BYTES))
            header = probe(file, image_format, path.stat().st_size)
            animated = image_format in {ImageFormat.WEBP, ImageFormat.GIF}
            expected = (*image.size, image.n_frames if animated else 1)
        assert (header.width, header.height, header.frames) == expected, path.name


def test_reads_a_file_without_a_buffer_from_any_position(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(encoded("PNG", size=(400, 300)))
    with path.open("rb", buffering=0) as file:
        file.seek(50)
        assert probe(file, ImageFormat.PNG, path.stat().st_size) == Header(width=400, height=300)


def test_every_format_can_be_probed():
    assert set(ImageFormat) == PROBED


BOUNDS = {
    "max_pixels": "at most 120 megapixels are accepted.",
    "max_side": "at most 30000 pixels a side are accepted.",
    "max_frames": "at most 300 are accepted.",
}


class TestLimits:
    @pytest.mark.parametrize(
        "header",
        [
            Header(width=1, height=1),
            Header(width=12_000, height=10_000),
            Header(width=30_000, height=4_000),
            Header(width=100, height=100, frames=300),
        ],
    )
    def test_the_bounds_themselves_are_accepted(self, header):
        check_limits(header, Limits())

    @pytest.mark.parametrize(
        ("header", "bound", "value"),
        [
            (
                Header(width=40_000, height=30_000),
                {"max_pixels": 120_000_000},
                "The image is 40000 x 30000 pixels (1200 megapixels);",
            ),
            (
                Header(width=120_000_001, height=1),
                {"max_pixels": 120_000_000},
                "The image is 120000001 x 1 pixels (120.000001 megapixels);",
            ),
            (
                Header(width=1000, height=1000, frames=200),
                {"max_pixels": 120_000_000},
                "The image is 200 frames of 1000 x 1000 pixels (200 megapixels);",
            ),
            (
                Header(width=2**24, height=2**24),
                {"max_pixels": 120_000_000},
                "The image is 16777216 x 16777216 pixels (281474976.710656 megapixels);",
            ),
            (
                Header(width=30_001, height=1),
                {"max_side": 30_000},
                "The image is 30001 x 1 pixels;",
            ),
            (
                Header(width=1, height=30_001),
                {"max_side": 30_000},
                "The image is 1 x 30001 pixels;",
            ),
            (
                Header(width=1, height=1, frames=301),
                {"max_frames": 300},
                "The image has 301 frames;",
            ),
        ],
    )
    def test_what_is_too_large_is_refused_with_the_value_and_the_bound(self, header, bound, value):
        with pytest.raises(ImageTooLargeError) as refused:
            check_limits(header, Limits())
        assert str(refused.value) == f"{value} {BOUNDS[next(iter(bound))]}"
        facts = {"width": header.width, "height": header.height, "frames": header.frames}
        assert refused.value.details == facts | bound

    @pytest.mark.parametrize("size", [(99, 100), (100, 99)])
    def test_what_is_too_small_is_refused_with_the_value_and_the_bound(self, size):
        width, height = size
        with pytest.raises(ImageTooSmallError) as refused:
            check_limits(Header(width=width, height=height), BUILTIN_PRESETS["thumbnails"].limits)
        assert str(refused.value) == (
            f"The image is {width} x {height} pixels; at least 100 pixels a side are needed."
        )
        assert refused.value.details == {"width": width, "height": height, "frames": 1, "min_side": 100}
