"""How files are written: no metadata, progressive where it pays, never larger, animations whole."""

import re
import struct
import zlib
from functools import partial

import pytest
from PIL import Image, ImageSequence

from image_processor.engine.vips.save.png_chunks import essential_chunks
from image_processor.errors import CorruptImageError
from image_processor.pipeline import (
    BUILTIN_PRESETS,
    Fit,
    JpegOutput,
    Pipeline,
    PngOutput,
    Resize,
    SourceOutput,
    Variant,
    WebpOutput,
)
from image_processor.testing import sample_images
from pictures import differences, opened, picture, pipeline_of, render

GPS = struct.pack(">IIIIII", *sum(sample_images.LATITUDE, ()))
TRACES = (sample_images.MARKER, GPS, b"Exif\0\0", b"http://ns.adobe.com", b"8BIM", b"ICC_PROFILE", b"acsp")
"""What metadata leaves in a file: our marker, our place, and the signatures of EXIF, XMP, IPTC and ICC."""
CHUNKS = (b"eXIf", b"iCCP", b"tEXt", b"iTXt", b"zTXt", b"EXIF", b"XMP ", b"ICCP")
ALL_OUTPUTS = Pipeline(
    variants=(
        Variant(name="jpeg", output=JpegOutput()),
        Variant(name="png", output=PngOutput()),
        Variant(name="webp", output=WebpOutput()),
        Variant(name="lossless", output=WebpOutput(lossless=True)),
        Variant(name="kept", output=SourceOutput(), never_larger=True),
        Variant(name="thumb", operations=(Resize(width=64),), output=JpegOutput()),
    )
)


@pytest.mark.parametrize(
    ("sample", "kind"),
    [
        (partial(sample_images.photo, with_metadata=True), "jpeg"),
        (sample_images.p3_jpeg, "jpeg"),
        (sample_images.cmyk_jpeg, "jpeg"),
        (sample_images.png_with_metadata, "png"),
    ],
)
def test_no_metadata_is_left_in_any_output(tmp_path, sample, kind):
    original = sample()
    assert any(trace in original for trace in (*TRACES, *CHUNKS))
    for variant in render(tmp_path, original, ALL_OUTPUTS, kind).variants:
        content = variant.path.read_bytes()
        assert not [trace for trace in TRACES if trace in content], variant.name
        if variant.format != "jpeg":
            assert not [chunk for chunk in CHUNKS if chunk in content], variant.name


def test_a_jpeg_has_no_application_segments_but_jfif(tmp_path):
    (variant,) = render(
        tmp_path, sample_images.photo(with_metadata=True), pipeline_of(output=JpegOutput())
    ).variants
    assert set(markers(variant.path.read_bytes())) & set(range(0xE1, 0xFF)) == set()


@pytest.mark.parametrize(("width", "progressive"), [(64, False), (2000, True)])
def test_jpeg_is_progressive_above_ten_kilobytes(tmp_path, width, progressive):
    original = sample_images.photo(2000, 400)
    shown = picture(tmp_path, original, Resize(width=width), output=JpegOutput())
    size = (tmp_path / "only.jpg").stat().st_size
    assert (size > 10_000) is progressive
    assert ("progressive" in shown.info) is progressive


def test_a_large_jpeg_that_is_short_is_not_progressive(tmp_path):
    path = tmp_path / "flat.png"
    Image.new("RGB", (800, 600), (90, 120, 30)).save(path)
    shown = picture(tmp_path, path.read_bytes(), kind="png", output=JpegOutput())
    assert (tmp_path / "only.jpg").stat().st_size < 10_000
    assert "progressive" not in shown.info


def test_a_small_jpeg_that_is_long_is_progressive(tmp_path):
    output = JpegOutput(quality=100)
    shown = picture(tmp_path, sample_images.noise_png(200, 200), kind="png", output=output)
    assert "progressive" in shown.info


def test_quality_counts(tmp_path):
    sizes = []
    for quality in (95, 85, 40):
        for output in (JpegOutput(quality=quality), WebpOutput(quality=quality)):
            (variant,) = render(tmp_path, sample_images.photo(), pipeline_of(output=output)).variants
            sizes.append(variant.size_bytes)
    assert sizes[0] > sizes[2] > sizes[4]
    assert sizes[1] > sizes[3] > sizes[5]


def test_lossless_webp_is_lossless(tmp_path):
    original = sample_images.png()
    shown = picture(tmp_path, original, kind="png", output=WebpOutput(lossless=True))
    assert differences(shown, opened(original)) == [0, 0, 0]


def test_png_compression_counts(tmp_path):
    def size(level):
        output = PngOutput(compression=level)
        return render(tmp_path, sample_images.photo(), pipeline_of(output=output)).variants[0].size_bytes

    assert size(9) <= size(6) < size(0)


def kept(folder, original, kind, output):
    (variant,) = render(folder, original, pipeline_of(output=output, never_larger=True), kind).variants
    return variant


@pytest.mark.parametrize("quality", [30, 50, 70, 90])
def test_never_larger_lowers_the_quality_until_it_fits(tmp_path, quality):
    original = sample_images.photo(quality=quality)
    for output in (JpegOutput(quality=95), WebpOutput(quality=95)):
        assert kept(tmp_path, original, "jpeg", output).size_bytes <= len(original)


def test_never_larger_takes_the_first_quality_that_fits(tmp_path):
    original = sample_images.photo(quality=98)
    plain = render(tmp_path, original, pipeline_of(output=JpegOutput())).variants[0].sha256
    assert kept(tmp_path, original, "jpeg", JpegOutput()).sha256 == plain


def test_never_larger_falls_back_to_the_png_s_own_pixels(tmp_path):
    """One bit per pixel and no pattern: no PNG of 8 bits is as short."""
    path = tmp_path / "bits.png"
    opened(sample_images.noise_png()).convert("1").save(path, optimize=True)
    original = path.read_bytes()
    content = kept(tmp_path, original, "png", PngOutput()).path.read_bytes()
    assert len(content) <= len(original)
    assert opened(content).mode == "1"
    assert differences(opened(content), opened(original)) == [0, 0, 0]


def test_the_fallback_has_no_metadata(tmp_path):
    noise = sample_images.noise_png(64, 64)
    text = b"tEXtComment\0" + sample_images.MARKER
    chunk = struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text))
    original = noise[:33] + chunk + noise[33:]
    assert essential_chunks(original) == essential_chunks(noise)
    assert sample_images.MARKER not in kept(tmp_path, original, "png", PngOutput()).path.read_bytes()


def test_a_cut_png_has_no_essential_chunks():
    whole = sample_images.png()
    for end in (9, 30, 100, len(whole) - 1):
        with pytest.raises(CorruptImageError):
            essential_chunks(whole[:end])


def test_a_damaged_png_has_no_essential_chunks():
    damaged = bytearray(sample_images.png())
    damaged[200] ^= 0xFF
    with pytest.raises(CorruptImageError):
        essential_chunks(bytes(damaged))


@pytest.mark.parametrize(
    ("original", "kind"), [(sample_images.animated_webp, "webp"), (sample_images.animated_gif, "gif")]
)
def test_an_animation_keeps_frames_delays_and_loop(tmp_path, original, kind):
    pipeline = pipeline_of(Resize(width=80, height=80, fit=Fit.COVER), output=WebpOutput(lossless=True))
    rendering = render(tmp_path, original(), pipeline, kind)
    (variant,) = rendering.variants
    moving = opened(variant.path.read_bytes())
    before, after = frames_of(opened(original())), frames_of(moving)
    assert (moving.size, moving.n_frames, moving.info["loop"]) == ((80, 80), 3, 2)
    assert [frame.info["duration"] for frame in after] == [80, 120, 200]
    assert (variant.frames, rendering.frames) == (3, 3)
    for old, new in zip(before, after, strict=True):
        assert max(differences(new.resize((1, 1)), old.resize((1, 1)))) <= 2


def test_frames_do_not_bleed_into_each_other(tmp_path):
    (variant,) = render(
        tmp_path,
        sample_images.animated_webp(101, 77),
        pipeline_of(Resize(width=50), output=WebpOutput(lossless=True)),
        "webp",
    ).variants
    for frame in frames_of(opened(variant.path.read_bytes())):
        assert len(frame.getcolors()) == 1


@pytest.mark.parametrize("output", [JpegOutput(quality=95), PngOutput()])
def test_still_formats_take_the_first_frame(tmp_path, output):
    original = sample_images.animated_webp()
    shown = picture(tmp_path, original, kind="webp", output=output)
    assert shown.size == (160, 120)
    assert max(differences(shown, frames_of(opened(original))[0])) < 2


def test_variants_of_the_same_pixels_and_settings_are_the_same_file(tmp_path):
    web = BUILTIN_PRESETS["web"].pipeline
    found = {v.name: v for v in render(tmp_path, sample_images.photo(300, 200), web).variants}
    assert found["large"].sha256 == found["original"].sha256 != found["thumbnail"].sha256
    assert found["large"].path != found["original"].path


def test_every_variant_of_a_thumbnail_set_has_its_format(tmp_path):
    rendering = render(tmp_path, sample_images.photo(), BUILTIN_PRESETS["thumbnails"].pipeline)
    for variant in rendering.variants:
        assert opened(variant.path.read_bytes()).format == variant.format.upper()
        assert re.search(r"webp$", variant.name) is None or variant.format == "webp"


def frames_of(image):
    return [frame.convert("RGB") for frame in ImageSequence.Iterator(image)]


def markers(jpeg: bytes):
    position = 2
    while jpeg[position + 1] != 0xDA:
        yield jpeg[position + 1]
        position += 2 + int.from_bytes(jpeg[position + 2 : position + 4])
