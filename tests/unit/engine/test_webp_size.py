"""WebP at `optimize="size"`: sharp colour where it is shorter and looks as good, and nowhere else."""

import numpy as np
import pytest
import pyvips

from image_processor.engine.vips.picture import Picture
from image_processor.engine.vips.save.similarity import Likeness
from image_processor.engine.vips.save.target import Target
from image_processor.engine.vips.save.webp import save_webp
from image_processor.pipeline import Optimize, WebpOutput
from image_processor.testing import sample_images


def leaves(side=160, cell=2):
    """Light and dark green beside each other: what colour of half the resolution blurs."""
    light = np.random.default_rng(1).normal(0.5, 0.5, (side // cell, side // cell)).clip(0, 1)
    light = np.kron(light, np.ones((cell, cell)))[..., None]
    pixels = np.array((20, 40, 10)) + light * np.array((130, 160, 10))
    return pyvips.Image.new_from_array(pixels.astype(np.uint8), interpretation="srgb")


def grey_photo():
    photo = pyvips.Image.new_from_buffer(sample_images.photo(96, 72), "")
    return photo.colourspace("b-w").colourspace("srgb").copy_memory()


def saved(image, folder, optimize, **settings):
    target = Target(folder / "picture.webp", optimize=optimize)
    save_webp(Picture((image,)), WebpOutput(**settings), target)
    return target.path.read_bytes()


def plain(image, quality=85):
    return image.webpsave_buffer(Q=quality, effort=6, keep="none")


def score(image, data):
    return Likeness(image).score(pyvips.Image.new_from_buffer(data, "").copy_memory())


@pytest.mark.parametrize("make", [leaves, grey_photo])
@pytest.mark.parametrize("quality", [3, 85, 100])
def test_it_is_never_longer_and_never_looks_worse(make, quality, tmp_path):
    image = make()
    data = saved(image, tmp_path, Optimize.SIZE, quality=quality)
    assert len(data) <= len(plain(image, quality))
    assert score(image, data) >= score(image, plain(image, quality))


def test_strong_fine_colours_are_much_shorter(tmp_path):
    image = leaves()
    data = saved(image, tmp_path, Optimize.SIZE)
    assert len(data) < 0.95 * len(plain(image))


def test_without_colour_it_is_the_plain_file(tmp_path):
    image = grey_photo()
    assert saved(image, tmp_path, Optimize.SIZE) == plain(image)


def test_other_levels_and_lossless_files_do_not_search(tmp_path):
    image = leaves()
    assert saved(image, tmp_path, Optimize.BALANCED) == image.webpsave_buffer(Q=85, effort=4, keep="none")
    lossless = saved(image, tmp_path, Optimize.SIZE, lossless=True)
    assert np.array_equal(pyvips.Image.new_from_buffer(lossless, "").numpy(), image.numpy())


def test_sixteen_bits_and_transparency_are_searched_too(tmp_path):
    deep = (leaves().cast("ushort") * 257).cast("ushort").copy(interpretation="rgb16")
    assert len(saved(deep, tmp_path, Optimize.SIZE)) < 0.95 * len(plain(leaves()))
    glass = leaves().bandjoin(128)
    assert len(saved(glass, tmp_path, Optimize.SIZE)) <= 1.05 * len(plain(glass))
