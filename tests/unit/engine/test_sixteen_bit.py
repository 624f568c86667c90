"""Sources of 16 bits a channel keep them until they are written: no bands, and no level lost on the way."""

import io

import numpy as np
import pytest
import pyvips
from PIL import Image, ImageCms

from image_processor.engine.base import RenderRequest
from image_processor.engine.vips.color import in_depth, to_srgb
from image_processor.engine.vips.dominant import dominant_color
from image_processor.engine.vips.engine import VipsEngine
from image_processor.engine.vips.load import read_header
from image_processor.engine.vips.plan import make_plan
from image_processor.engine.vips.prepare import keeps_depth, keeps_profile, prepare
from image_processor.pipeline import (
    Adjust,
    Gamma,
    ImageFormat,
    JpegOutput,
    Limits,
    Pipeline,
    PngOutput,
    Profile,
    Resize,
    TiffOutput,
    Variant,
)
from image_processor.testing import sample_images
from pictures import opened, picture

WIDTH = 4096
DEEP = np.linspace(0, 65535, WIDTH).round().astype(np.uint16)


@pytest.fixture(autouse=True)
def _vips():
    VipsEngine()


def deep_png(*, bands=1, alpha=False, profile=None):
    """A gradient from black to white, of one or three channels."""
    pixels = np.tile(DEEP[None, :, None], (4, 1, bands))
    if alpha:
        pixels = np.concatenate([pixels, np.full((4, WIDTH, 1), 32896, np.uint16)], axis=2)
    image = pyvips.Image.new_from_array(np.ascontiguousarray(pixels))
    image = image.copy(interpretation="grey16" if bands == 1 else "rgb16")
    if profile:
        image.set_type(pyvips.GValue.blob_type, "icc-profile-data", profile)
    return bytes(image.pngsave_buffer(bitdepth=16, compression=1))


def header_and_plan(folder, original, *operations, output=None, profile=Profile.SRGB, kind="png"):
    (folder / "original").write_bytes(original)
    variant = Variant(name="only", operations=operations, output=output or PngOutput())
    request = RenderRequest(
        source=folder / "original",
        source_format=ImageFormat(kind),
        pipeline=Pipeline(variants=(variant,), profile=profile),
        output_directory=folder,
        limits=Limits(max_bytes=10**9),
    )
    header = read_header(request)
    return header, make_plan(request.pipeline, request.source_format, header.upright, request.limits)


@pytest.mark.parametrize(
    ("operations", "output", "is_kept"),
    [
        ((), PngOutput(), False),
        ((Resize(width=64),), JpegOutput(), False),
        ((), PngOutput(bit_depth=16), True),
        ((), TiffOutput(bit_depth=16), True),
        ((Gamma(),), JpegOutput(), True),
        ((Resize(width=64), Adjust(brightness=1.5)), PngOutput(), True),
    ],
)
def test_the_depth_is_kept_where_something_comes_of_it(tmp_path, operations, output, is_kept):
    header, plan = header_and_plan(tmp_path, deep_png(), *operations, output=output)
    assert keeps_depth(header, plan) is is_kept
    assert prepare(header, plan).first.format == ("ushort" if is_kept else "uchar")


def test_a_source_of_eight_bits_never_gets_more(tmp_path):
    header, plan = header_and_plan(tmp_path, sample_images.png(), Gamma(), output=PngOutput(bit_depth=16))
    assert not keeps_depth(header, plan)
    assert prepare(header, plan).first.format == "uchar"


def test_a_gradient_through_gamma_and_contrast_has_no_bands(tmp_path):
    """Brightened much in the dark: eight bits would leave gaps between the levels."""
    operations = (Gamma(gamma=2.2), Adjust(contrast=1.3))
    shown = np.asarray(picture(tmp_path, deep_png(bands=3), *operations, kind="png"))[0, :, 0].astype(int)
    assert np.abs(shown - 255 * exactly(DEEP / 65535)).max() <= 1
    every = set(range(1, 256))
    assert every <= set(shown)
    coarse = np.round(255 * exactly(np.round(DEEP / 257) / 255))
    assert len(every - set(coarse)) > 20  # what an engine gives that starts from eight bits


def exactly(levels):
    """The same two operations in floating point."""
    return np.clip((levels ** (1 / 2.2) - 0.5) * 1.3 + 0.5, 0, 1)


def test_eight_bits_are_rounded_and_not_cut_off(tmp_path):
    shown = np.asarray(picture(tmp_path, deep_png(), kind="png"))[0].astype(int)
    assert np.abs(shown - DEEP / 257).max() <= 0.5


def test_alpha_of_sixteen_bits_is_alpha_of_eight(tmp_path):
    shown = np.asarray(picture(tmp_path, deep_png(bands=3, alpha=True), kind="png"))
    assert set(shown[..., 3].flat) == {128}


@pytest.mark.parametrize("bands", [1, 3])
def test_a_resize_in_sixteen_bits_keeps_their_levels(tmp_path, bands):
    header, plan = header_and_plan(
        tmp_path, deep_png(bands=bands), Resize(width=WIDTH // 4), output=PngOutput(bit_depth=16)
    )
    row = prepare(header, plan).first.numpy().reshape(-1, WIDTH // 4, bands)[0, 8:-8, 0].astype(float)
    expected = DEEP.reshape(-1, 4).mean(axis=1)[8:-8]
    assert np.abs(row - expected).max() < 8  # of 65535
    assert len(np.unique(row)) == len(row)


def test_a_profile_is_applied_in_sixteen_bits(tmp_path):
    """Display P3's grey is sRGB's: what remains is the precision."""
    profile = opened(sample_images.p3_jpeg()).info["icc_profile"]
    header, plan = header_and_plan(
        tmp_path, deep_png(bands=3, profile=profile), output=PngOutput(bit_depth=16)
    )
    image = prepare(header, plan).first
    assert (image.format, image.interpretation) == ("ushort", "rgb16")
    assert np.abs(image.numpy()[0].astype(float) - DEEP[:, None]).max() < 64


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("space", ["b-w", "srgb", "grey16", "rgb16", "scrgb", "lab", "cmyk"])
def test_any_space_can_be_had_in_either_depth(depth, space):
    image = pyvips.Image.new_from_buffer(sample_images.png(16, 12), "")
    image = image.icc_transform("cmyk", input_profile="srgb") if space == "cmyk" else image.colourspace(space)
    converted = to_srgb(image, depth=depth)
    assert converted.format == ("uchar" if depth == 8 else "ushort")
    assert converted.bands == (1 if space in ("b-w", "grey16") else 3)
    assert not converted.get_typeof("icc-profile-data")
    assert in_depth(converted, 24 - depth).avg() == pytest.approx(
        converted.avg() * (257 if depth == 8 else 1 / 257), abs=0.5 if depth == 16 else 1e-6
    )


def test_the_dominant_color_is_the_same_in_either_depth():
    eight = pyvips.Image.new_from_buffer(sample_images.png_with_alpha(), "")
    assert dominant_color(in_depth(eight, 16)) == dominant_color(eight) == "#E62828"


class TestOwnProfile:
    def kept(self, folder, original, kind="jpeg", profile=Profile.SOURCE):
        header, plan = header_and_plan(folder, original, kind=kind, profile=profile)
        return keeps_profile(header, plan), prepare(header, plan).first

    def test_stays_where_it_is_asked_for(self, tmp_path):
        original = sample_images.p3_jpeg()
        is_kept, image = self.kept(tmp_path, original)
        assert is_kept
        assert image.get("icc-profile-data") == opened(original).info["icc_profile"]
        assert np.abs(image.numpy().astype(int) - np.asarray(opened(original))).mean() < 0.5

    def test_goes_where_it_is_not(self, tmp_path):
        is_kept, image = self.kept(tmp_path, sample_images.p3_jpeg(), profile=Profile.SRGB)
        assert not is_kept
        assert not image.get_typeof("icc-profile-data")

    @pytest.mark.parametrize(
        "original",
        [sample_images.cmyk_jpeg(), sample_images.jpeg_with_broken_profile(), sample_images.photo()],
    )
    def test_goes_where_it_does_not_belong_to_the_pixels(self, tmp_path, original):
        is_kept, image = self.kept(tmp_path, original)
        assert not is_kept
        assert image.interpretation == "srgb"
        assert not image.get_typeof("icc-profile-data")

    def test_goes_where_it_is_for_other_channels(self, tmp_path):
        written = io.BytesIO()
        wrong = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        Image.new("L", (8, 8), 90).save(written, "PNG", icc_profile=wrong)
        is_kept, image = self.kept(tmp_path, written.getvalue(), kind="png")
        assert not is_kept
        assert image.interpretation == "b-w"

    def test_does_not_hide_the_dominant_color(self, tmp_path):
        """It is told in sRGB, also of pixels that stay in Display P3."""
        red = pyvips.Image.new_from_buffer(sample_images.one_pixel((200, 60, 50)), "")
        red = red.icc_transform("p3", input_profile="srgb")
        _, image = self.kept(tmp_path, bytes(red.pngsave_buffer()), kind="png")
        told = bytes.fromhex(dominant_color(image)[1:])
        assert max(abs(a - b) for a, b in zip(told, (200, 60, 50), strict=True)) <= 1
