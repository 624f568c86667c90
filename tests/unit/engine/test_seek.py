"""Smart crops: the region is found where the picture has something, has the announced size, and is shared."""

import time

import numpy as np
import pytest
import pyvips

from image_processor.engine.vips import faces
from image_processor.engine.vips.faces import Box
from image_processor.engine.vips.geometry import Seek, Size
from image_processor.engine.vips.picture import Picture
from image_processor.engine.vips.steps.seek import seek
from image_processor.pipeline import Crop, Fit, Resize, Smart
from image_processor.testing import sample_images
from pictures import picture

SEARCHED = (Smart.ATTENTION, Smart.ENTROPY)
GREY = 128


def busy(width, height, left, top, side=60):
    """Grey, with colourful noise in one square: whoever looks finds that."""
    pixels = np.full((height, width, 3), GREY, dtype=np.uint8)
    noise = np.random.default_rng(1).integers(0, 256, (side, side, 3))
    pixels[top : top + side, left : left + side] = noise
    return pixels


def image_of(pixels):
    return pyvips.Image.new_from_array(np.ascontiguousarray(pixels), interpretation="srgb").copy_memory()


def kept_share(found: Picture) -> float:
    """How much of the noise's 60 x 60 pixels is seen."""
    pixels = found.first.numpy()[:, :, :3]
    return float((pixels != GREY).any(axis=2).sum()) / 3600


@pytest.mark.parametrize("what", SEARCHED)
@pytest.mark.parametrize(("left", "top"), [(20, 30), (420, 20), (210, 110), (425, 225)])
def test_the_region_is_where_something_is_to_be_seen(what, left, top):
    whole = Picture((image_of(busy(500, 300, left, top)),))
    found = seek(whole, Seek(Size(150, 120), what))
    assert found.size == Size(150, 120)
    assert kept_share(found) > 0.9


@pytest.mark.parametrize("what", SEARCHED)
def test_a_large_picture_is_searched_in_a_copy_and_cut_in_full(what):
    pixels = busy(500, 300, 380, 200).repeat(6, axis=0).repeat(6, axis=1)
    found = seek(Picture((image_of(pixels),)), Seek(Size(901, 719), what))
    assert found.size == Size(901, 719)
    assert kept_share(found) > 0.9 * 36


@pytest.mark.parametrize("what", SEARCHED)
def test_noise_that_nobody_sees_is_not_looked_at(what):
    pixels = busy(500, 300, 30, 120)
    pixels[:, 250:] = busy(500, 300, 400, 120)[:, 250:]
    alpha = np.full((300, 500, 1), 255, dtype=np.uint8)
    alpha[:, :250] = 0
    found = seek(Picture((image_of(np.dstack([pixels, alpha])),)), Seek(Size(150, 300), what))
    assert kept_share(found) > 0.9
    assert found.first[3].min() == 255


def test_every_frame_is_cut_where_the_first_shows_most():
    first, second = busy(500, 300, 400, 100), busy(500, 300, 20, 100)
    found = seek(Picture((image_of(first), image_of(second))), Seek(Size(120, 300), Smart.ATTENTION))
    (x,) = {x for x in range(381) if (first[:, x : x + 120] == found.first.numpy()).all()}
    assert (found.frames[1].numpy() == second[:, x : x + 120]).all()


@pytest.mark.parametrize("what", SEARCHED)
@pytest.mark.parametrize("size", [Size(1, 1), Size(1, 9000), Size(9000, 1), Size(3, 2), Size(641, 639)])
def test_sizes_are_exact_whatever_the_picture(what, size):
    image = pyvips.Image.gaussnoise(size.width, size.height).cast("uchar").copy(interpretation="b-w")
    for kept in (size, Size(1, 1), Size((size.width + 1) // 2, (size.height + 2) // 3)):
        assert seek(Picture((image,)), Seek(kept, what)).size == kept


def test_deep_pictures_are_searched_too():
    deep = image_of(busy(500, 300, 400, 100)).colourspace("rgb16")
    found = seek(Picture((deep,)), Seek(Size(120, 300), Smart.ATTENTION))
    assert found.first.format == "ushort"
    assert found.first.deviate() > deep.crop(0, 0, 120, 300).deviate() + 1000


def test_a_sliver_that_was_enlarged_to_cover_is_searched_in_bounded_time():
    sliver = pyvips.Image.gaussnoise(800, 10).cast("uchar").copy(interpretation="b-w").copy_memory()
    enlarged = sliver.resize(1, vscale=100_000, kernel="cubic")
    assert enlarged.width * enlarged.height > 700_000_000
    started = time.monotonic()
    found = seek(Picture((enlarged,)), Seek(Size(800, 600), Smart.ENTROPY))
    assert found.size == Size(800, 600)
    assert time.monotonic() - started < 20


@pytest.mark.parametrize("operation", [
    Crop(aspect="1:1", smart=Smart.ENTROPY),
    Crop(width=100, height=100, smart=Smart.ATTENTION),
    Resize(width=100, height=100, fit=Fit.COVER, position=Smart.ATTENTION),
])  # fmt: skip
def test_operations_lead_here(tmp_path, operation):
    side = 240 if isinstance(operation, Crop) and operation.aspect else 100
    assert picture(tmp_path, sample_images.photo(320, 240), operation).size == (side, side)


def found_around(monkeypatch, found):
    """Where the region begins in a picture of 600 x 400 pixels that has such faces."""
    monkeypatch.setattr(faces, "_detector", lambda: (None, lambda _module, _image: found))
    y, x = np.mgrid[0:400, 0:600]
    where = np.dstack([x % 256, x // 256, y % 256, y // 256]).astype(np.uint8)
    first = seek(Picture((image_of(where),)), Seek(Size(100, 100), Smart.FACE)).first
    low_x, high_x, low_y, high_y = first.getpoint(0, 0)
    return low_x + 256 * high_x, low_y + 256 * high_y


def test_without_faces_the_middle_is_kept(monkeypatch):
    assert found_around(monkeypatch, []) == (250, 150)


@pytest.mark.parametrize(("boxes", "corner"), [
    ([(300, 200, 40, 60)], (270, 180)),
    ([(0, 0, 40, 40)], (0, 0)),
    ([(580, 390, 40, 40)], (500, 300)),
    ([(200, 100, 30, 30), (260, 120, 20, 20)], (190, 70)),
    ([(50, 50, 40, 40), (500, 300, 60, 60)], (480, 280)),
    ([(0, 0, 600, 400)], (250, 150)),
])  # fmt: skip
def test_the_region_is_around_the_faces_that_fit_in_it(monkeypatch, boxes, corner):
    assert found_around(monkeypatch, [Box(*box) for box in boxes]) == corner
