"""Resampling, held against Pillow's Lanczos: smaller and, what libvips itself does not offer, larger."""

import numpy as np
import pytest
import pyvips
from PIL import Image

from image_processor.engine.vips.geometry import Size
from image_processor.engine.vips.steps.enlarge import enlarge, enlarge_lazily
from image_processor.engine.vips.steps.scale import resample
from image_processor.testing import sample_images
from pictures import opened


@pytest.fixture
def drawing():
    """Fine lines, in which one filter is told from another."""
    y, x = np.mgrid[0:60, 0:80]
    pixels = ((np.sin(x * 0.9) + np.cos(y * 0.7)) * 60 + 128).astype(np.uint8)
    return np.dstack([pixels, pixels.T[:60, :60].repeat(2, axis=1)[:, :80], 255 - pixels])


def lanczos(pixels, size):
    image = Image.fromarray(pixels).resize((size.width, size.height), Image.Resampling.LANCZOS)
    return np.asarray(image, dtype=np.int16)


def distance(image: pyvips.Image, pixels) -> float:
    return float(np.abs(image.numpy().astype(np.int16) - pixels).mean())


@pytest.mark.parametrize("size", [Size(160, 120), Size(200, 150), Size(83, 61), Size(400, 60), Size(81, 300)])
def test_enlarging_is_lanczos(drawing, size):
    image = pyvips.Image.new_from_array(drawing, interpretation="srgb")
    wanted = lanczos(drawing, size)
    assert distance(enlarge(image, size), wanted) < 1.0


def test_enlarging_lazily_is_not(drawing):
    """The reason for a file of our own: what libvips calls Lanczos is bicubic when it enlarges."""
    image, size = pyvips.Image.new_from_array(drawing, interpretation="srgb"), Size(160, 120)
    wanted = lanczos(drawing, size)
    assert distance(image.resize(2, kernel="lanczos3"), wanted) > 3 * distance(enlarge(image, size), wanted)
    assert enlarge_lazily(image, size).width == 160


def test_shrinking_is_lanczos():
    photo = np.asarray(opened(sample_images.png(320, 240)))
    image = pyvips.Image.new_from_array(photo, interpretation="srgb")
    assert distance(resample(image, Size(100, 75)), lanczos(photo, Size(100, 75))) < 1.0


def test_one_side_may_shrink_while_the_other_grows(drawing):
    image = pyvips.Image.new_from_array(drawing, interpretation="srgb")
    shown = resample(image, Size(40, 120), enlarge)
    assert (shown.width, shown.height) == (40, 120)
    assert distance(shown, lanczos(drawing, Size(40, 120))) < 1.5


def test_a_flat_picture_stays_flat():
    pixels = np.full((5, 7, 3), (10, 128, 255), dtype=np.uint8)
    flat = pyvips.Image.new_from_array(pixels, interpretation="srgb")
    enlarged = enlarge(flat, Size(61, 43))
    assert [(enlarged[band].min(), enlarged[band].max()) for band in range(3)] == [
        (10, 10),
        (128, 128),
        (255, 255),
    ]
