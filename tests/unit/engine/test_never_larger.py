"""`never_larger`: lossless copies where the original's own coding is the shorter one, else less quality."""

import numpy as np
import pytest
import pyvips
from hypothesis import given
from hypothesis import strategies as st

from image_processor.engine.vips.save.never_larger import first_within
from image_processor.engine.vips.save.webp_chunks import essential_chunks
from image_processor.errors import InvalidOperationError
from image_processor.pipeline import (
    AvifOutput,
    Fit,
    GifOutput,
    JpegOutput,
    PngOutput,
    Resize,
    TiffOutput,
    WebpOutput,
)
from image_processor.testing import sample_images
from pictures import opened, pipeline_of, render

ORIGINAL = {"width": 320, "height": 240, "quality": 75}


def kept(folder, original, output, *operations, kind="jpeg", **pipeline) -> bytes:
    made = pipeline_of(*operations, output=output, never_larger=True)
    made = made.model_copy(update={"variants": (made.variants[0].model_copy(update=pipeline),)})
    (variant,) = render(folder, original, made, kind).variants
    return variant.path.read_bytes()


@pytest.mark.parametrize(
    "settings",
    [{"quality": 85}, {"quality": 100}, {"quality": 95, "subsampling": "4:4:4"}, {"quality": "auto"}],
)
@pytest.mark.parametrize(
    "original", [sample_images.photo(**ORIGINAL), sample_images.progressive_jpeg(64, 48)]
)
def test_an_untouched_jpeg_is_at_worst_its_own_pixels(tmp_path, original, settings):
    data = kept(tmp_path, original, JpegOutput(**settings))
    assert len(data) <= len(original)
    if settings["quality"] == 100:
        assert opened(data).tobytes() == opened(original).tobytes()


def test_the_copy_has_no_metadata_and_nothing_behind_its_end(tmp_path):
    original = sample_images.photo(**ORIGINAL, with_metadata=True) + b"\xff\xd8" + sample_images.MARKER * 100
    data = kept(tmp_path, original, JpegOutput(quality=100))
    assert opened(data).tobytes() == opened(original).tobytes()
    assert data.endswith(b"\xff\xd9")
    assert not [trace for trace in (sample_images.MARKER, b"Exif", b"8BIM", b"ns.adobe") if trace in data]


@pytest.mark.parametrize(
    ("original", "operations", "kind"),
    [
        (sample_images.photo(**ORIGINAL, orientation=6), (), "jpeg"),
        (sample_images.photo(**ORIGINAL), (Resize(width=300, height=240, fit=Fit.COVER),), "jpeg"),
        (sample_images.cmyk_jpeg(with_profile=False), (), "jpeg"),
        (sample_images.webp(), (), "webp"),
    ],
    ids=["on its side", "cropped", "CMYK", "another format"],
)
def test_what_is_no_copy_is_coded_with_less_quality(tmp_path, original, operations, kind):
    data = kept(tmp_path, original, JpegOutput(quality=100), *operations, kind=kind)
    assert opened(data).mode == "RGB"
    assert opened(data).getexif().get(0x0112, 1) == 1
    assert len(data) <= len(original)


def test_a_copy_keeps_to_the_bound_of_its_own(tmp_path):
    original = sample_images.photo(**ORIGINAL)
    data = kept(tmp_path, original, JpegOutput(max_bytes=len(original) * 3 // 4))
    assert len(data) <= len(original) * 3 // 4
    assert len(kept(tmp_path, original, JpegOutput(max_bytes=10**6))) <= len(original)
    with pytest.raises(InvalidOperationError):
        kept(tmp_path, original, JpegOutput(max_bytes=100))


@pytest.mark.parametrize(
    "output", [WebpOutput(quality=100), pytest.param(AvifOutput(quality=100), marks=pytest.mark.slow)]
)
def test_other_lossy_formats_lose_quality_until_they_fit(tmp_path, output):
    original = sample_images.photo(**ORIGINAL)
    assert len(kept(tmp_path, original, output)) <= len(original)


@pytest.mark.parametrize("output", [GifOutput(), TiffOutput(), PngOutput(), WebpOutput(lossless=True)])
def test_what_has_no_quality_is_written_as_it_is(tmp_path, output):
    original = sample_images.photo(64, 48, quality=30)
    assert opened(kept(tmp_path, original, output)).size == (64, 48)


def test_metadata_that_is_kept_is_worth_more_than_the_bytes_of_a_png(tmp_path):
    original = sample_images.png_with_metadata()
    data = kept(tmp_path, original, PngOutput(compression=0), kind="png", metadata="all")
    assert len(data) > len(original)
    assert len(kept(tmp_path, original, PngOutput(compression=0), kind="png")) <= len(original)


def webp_with_metadata(*, flat=False, **settings) -> bytes:
    """With alpha, EXIF, XMP, a chunk that nobody knows and bytes behind the end; coded as short as can be."""
    image = pyvips.Image.new_from_buffer(sample_images.photo(96, 72), "")
    if not flat:
        image = image.bandjoin(pyvips.Image.xyz(image.width, image.height)[0].cast("uchar"))
    image = image.copy(interpretation="srgb")
    for field in ("exif-data", "xmp-data"):
        image.set_type(pyvips.GValue.blob_type, field, b"Exif\0\0II*\0" + sample_images.MARKER)
    data = image.webpsave_buffer(effort=6, keep="exif|xmp", **settings)
    unknown = b"NOBD" + len(sample_images.MARKER).to_bytes(4, "little") + sample_images.MARKER
    unknown += bytes(len(unknown) % 2)
    length = len(data) - 8 + len(unknown)
    return data[:4] + length.to_bytes(4, "little") + data[8:] + unknown + sample_images.MARKER


@pytest.mark.parametrize("settings", [{"Q": 20}, {"Q": 20, "flat": True}, {"lossless": True}])
def test_a_still_webp_is_at_worst_its_own_pixels_without_what_it_carried(tmp_path, settings):
    original = webp_with_metadata(**settings)
    data = kept(tmp_path, original, WebpOutput(quality=100), kind="webp")
    assert len(data) < len(original)
    assert sample_images.MARKER not in data
    assert not {b"EXIF", b"XMP ", b"NOBD"} & {data[at : at + 4] for at in range(len(data))}
    if "Q" in settings:
        own, its = (pyvips.Image.webpload_buffer(file) for file in (original, data))
        assert np.array_equal(own.numpy(), its.numpy())


@pytest.mark.parametrize("data", [b"", b"RIFF", sample_images.webp()[:-9], sample_images.animated_webp()])
def test_neither_an_animation_nor_a_part_of_a_webp_is_copied(data):
    assert essential_chunks(data) is None


@given(lengths=st.lists(st.integers(1, 60), min_size=1, max_size=7), most=st.integers(0, 70))
def test_of_ever_shorter_files_the_first_that_fits_is_found_without_trying_them_all(lengths, most):
    lengths.sort(reverse=True)
    tried = []

    def code(at):
        tried.append(at)
        return bytes(lengths[at])

    fitting = [length for length in lengths if length <= most]
    assert len(first_within(most, code, len(lengths))) == (fitting or lengths[-1:])[0]
    assert len(tried) == len(set(tried)) <= 3
