"""Linear light on request: what is averaged is then the light and not its code."""

import io

import numpy as np
import pytest
import pyvips
from PIL import Image

from image_processor.engine.vips.geometry import Scale, Size
from image_processor.engine.vips.picture import Picture
from image_processor.engine.vips.steps.scale import scale
from image_processor.pipeline import Pipeline, PngOutput, Resize, Variant
from pictures import opened, render

HALF_THE_LIGHT = 188
"""The sRGB code of a half: 0.5 ** (1 / 2.4) * 1.055 - 0.055, of 255."""


def checkerboard(mode="RGB", side=64):
    board = Image.fromarray((np.indices((side, side)).sum(axis=0) % 2 * 255).astype(np.uint8))
    written = io.BytesIO()
    board.convert(mode).save(written, "PNG")
    return written.getvalue()


def shrunk(folder, original, side, *, linear):
    variant = Variant(name="only", operations=(Resize(width=side),), output=PngOutput())
    pipeline = Pipeline(variants=(variant,), linear_light=linear)
    (done,) = render(folder, original, pipeline, "png").variants
    return np.asarray(opened(done.path.read_bytes()))


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
@pytest.mark.parametrize("side", [32, 20, 8])
def test_a_fine_checkerboard_keeps_its_brightness(tmp_path, mode, side):
    inner = (slice(2, -2), slice(2, -2))
    linear = shrunk(tmp_path, checkerboard(mode), side, linear=True)[inner]
    coded = shrunk(tmp_path, checkerboard(mode), side, linear=False)[inner]
    assert np.abs(linear[..., :3].astype(int) - HALF_THE_LIGHT).max() <= 3
    assert np.abs(coded[..., :3].astype(int) - 128).max() <= 3


@pytest.mark.parametrize("depth", ["uchar", "ushort"])
@pytest.mark.parametrize("bands", [1, 2, 3, 4])
def test_a_flat_picture_stays_as_it_is(depth, bands):
    names = {"uchar": ("b-w", "srgb"), "ushort": ("grey16", "rgb16")}[depth]
    unit = 1 if depth == "uchar" else 257
    color = [level * unit for level in (10, 100, 200, 128)][:bands]
    flat = (pyvips.Image.black(20, 16, bands=bands) + color).cast(depth).copy(interpretation=names[bands > 2])
    for size in (Size(9, 7), Size(40, 32), Size(9, 32)):
        (scaled,) = scale(Picture((flat,)), Scale(size, is_linear=True)).frames
        assert (scaled.format, scaled.interpretation, scaled.bands) == (depth, names[bands > 2], bands)
        assert np.abs(scaled.numpy().astype(int).reshape(-1, bands) - color).max() <= unit


def test_edges_of_transparent_pictures_are_not_darkened():
    """Half opaque red, half transparent black."""
    pixels = np.zeros((16, 64, 4), np.uint8)
    pixels[:, :31] = (230, 40, 40, 255)
    image = pyvips.Image.new_from_array(pixels).copy(interpretation="srgb")
    (scaled,) = scale(Picture((image,)), Scale(Size(16, 4), is_linear=True)).frames
    seen = scaled.numpy()[scaled.numpy()[..., 3] > 20][:, :3].astype(int)
    assert np.abs(seen - (230, 40, 40)).max() <= 2


def test_nearly_transparent_pixels_keep_their_color():
    """Their premultiplied levels are fractions of one: rounded on the way they would change colour."""
    pixels = np.tile(np.array((200, 100, 40, 3), np.uint8), (12, 16, 1))
    image = pyvips.Image.new_from_array(pixels).copy(interpretation="srgb")
    (scaled,) = scale(Picture((image,)), Scale(Size(40, 31))).frames
    assert np.abs(scaled.numpy().astype(int) - (200, 100, 40, 3)).max() <= 1
