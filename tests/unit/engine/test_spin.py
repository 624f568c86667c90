"""Turning by any angle: the size, the direction, the edges, and agreement with Pillow."""

import math

import numpy as np
import pytest
import pyvips
from PIL import Image, ImageSequence

from image_processor.engine.vips.color import in_depth
from image_processor.engine.vips.geometry import Size
from image_processor.engine.vips.picture import Picture
from image_processor.engine.vips.steps import apply
from image_processor.engine.vips.translate import steps_of
from image_processor.pipeline import Rotate, WebpOutput
from image_processor.testing import sample_images
from pictures import differences, picture

ANGLES = (0.1, 30, 45, 89.9, 135, 180.1, 359.9, -33.3)
SIZES = ((1, 1), (1, 2), (1, 1000), (1000, 1), (3, 7), (64, 48))
RED = (200, 30, 40)


def turned(image, degrees, background="#ffffff"):
    (step,) = steps_of(Rotate(degrees=degrees, background=background), Size(image.width, image.height))
    result = apply((step,), Picture((image,))).first.copy_memory()
    assert (result.width, result.height) == (step.size.width, step.size.height)
    return result


def block(width=30, height=20, color=RED, kind="srgb"):
    image = (pyvips.Image.black(width, height, bands=len(color)) + list(color)).cast("uchar")
    image = image.copy(interpretation="srgb")
    return in_depth(image, 16) if kind == "rgb16" else image.colourspace(kind)


@pytest.mark.parametrize("degrees", ANGLES)
def test_the_size_is_the_one_announced_and_nothing_foreign_is_seen(degrees):
    for width, height in SIZES:
        white = turned(block(width, height, (255, 255, 255)), degrees)
        assert white.min() == 255
        clear = turned(block(width, height, (255, 255, 255)), degrees, "#ffffff00").numpy()
        assert clear[..., 3].max() > 0
        assert (clear[..., :3][clear[..., 3] > 0] == 255).all()


def test_the_turn_is_clockwise_around_the_middle():
    canvas = block(41, 41, (0, 0, 0)).insert(block(1, 1, (255, 255, 255)), 20, 0)
    for degrees in (30, 60, 120, 240):
        result = turned(canvas, degrees, "#000000")
        y, x = np.unravel_index(result.numpy()[..., 0].argmax(), (result.height, result.width))
        angle = math.radians(degrees)
        assert x - (result.width - 1) / 2 == pytest.approx(20 * math.sin(angle), abs=0.8)
        assert y - (result.height - 1) / 2 == pytest.approx(-20 * math.cos(angle), abs=0.8)


@pytest.mark.parametrize("degrees", [3, 45, 200])
def test_it_agrees_with_pillow(degrees):
    image = sample_images.scene(300, 200)
    result = turned(image, degrees, "#204060")
    across, down = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    x, y = result.width / 2, result.height / 2
    back = (across, down, 150 - across * x - down * y, -down, across, 100 + down * x - across * y)
    expected = Image.fromarray(image.numpy()).transform(
        (result.width, result.height),
        Image.Transform.AFFINE,
        back,
        resample=Image.Resampling.BICUBIC,
        fillcolor=(0x20, 0x40, 0x60),
    )
    assert max(differences(Image.fromarray(result.numpy()), expected)) < 1


@pytest.mark.parametrize("kind", ["srgb", "rgb16"])
def test_an_edge_mixes_the_image_and_the_background_and_no_third_colour(kind):
    result = turned(block(kind=kind), 20, "#0000ff").colourspace("srgb").numpy().astype(float)
    share = (result[..., 0] / RED[0])[..., None]
    expected = share * RED + (1 - share) * (0, 0, 255)
    assert np.abs(result - expected).max() <= 2
    assert len(np.unique(result[..., 0])) > 10


@pytest.mark.parametrize("kind", ["srgb", "rgb16"])
def test_a_transparent_background_leaves_no_fringe(kind):
    result = turned(block(kind=kind), 20, "#00000000").colourspace("srgb").numpy().astype(int)
    seen = result[result[..., 3] > 10]
    assert np.abs(seen[:, :3] - RED).max() <= 2
    assert result[0, 0, 3] == 0
    assert result[result.shape[0] // 2, result.shape[1] // 2].tolist() == [*RED, 255]


def test_a_translucent_background_keeps_its_opacity():
    result = turned(block(), 20, "#0000ff80").numpy()
    assert result[0, -1].tolist() == [0, 0, 255, 128]


def test_the_own_transparency_of_the_image_is_turned_and_not_filled():
    image = block(color=(*RED, 255)).embed(8, 8, 46, 36)
    result = turned(image, 20, "#00ff00").numpy().astype(int)
    own = result[(result[..., 3] > 10) & (result[..., 1] < 100)]
    assert np.abs(own[:, :3] - RED).max() <= 6
    assert result[0, -1].tolist() == [0, 255, 0, 255]
    assert (result[..., 3] == 0).any()


@pytest.mark.parametrize(("background", "bands"), [("#ffffff", 1), ("#80808080", 2), ("#ff0000", 3)])
def test_grey_stays_grey_beside_grey(background, bands):
    assert turned(block(kind="b-w"), 20, background).bands == bands


def test_every_frame_is_turned(tmp_path):
    data = sample_images.animated_webp()
    result = picture(tmp_path, data, Rotate(degrees=45), kind="webp", output=WebpOutput(lossless=True))
    corners = [frame.convert("RGB").getpixel((0, 0)) for frame in ImageSequence.Iterator(result)]
    assert corners == [(255, 255, 255)] * 3
