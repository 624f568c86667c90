"""Faces: found where the extra is installed, in the pixels of the picture; a sentence where it is not."""

import os
import sys
from importlib.util import find_spec

import numpy as np
import pytest
import pyvips

from image_processor.engine.vips import faces
from image_processor.engine.vips.faces import Box, find_faces
from image_processor.errors import MissingExtraError
from image_processor.pipeline import Crop, Smart
from image_processor.testing import sample_images
from pictures import picture

installed = pytest.mark.skipif(
    not any(find_spec(name) for name in faces._DETECTORS), reason="the extra `faces` is not installed"
)


@pytest.fixture
def _forget_the_detector():
    faces._detector.cache_clear()
    yield
    faces._detector.cache_clear()


@pytest.fixture
def without_extra(monkeypatch, _forget_the_detector):
    for name in faces._DETECTORS:
        monkeypatch.setitem(sys.modules, name, None)  # what Python itself does with an import to block


def test_without_the_extra_the_error_says_which(tmp_path, without_extra):
    with pytest.raises(MissingExtraError, match=r"image-processor\[faces\]"):
        picture(tmp_path, sample_images.photo(), Crop(aspect="1:1", smart=Smart.FACE))


def test_nothing_else_needs_the_extra(tmp_path, without_extra):
    shown = picture(tmp_path, sample_images.photo(320, 240), Crop(aspect="1:1", smart=Smart.ATTENTION))
    assert shown.size == (240, 240)


@pytest.mark.usefixtures("_forget_the_detector")
@pytest.mark.parametrize("before", [None, "3"])
def test_one_thread_is_asked_for_only_while_the_detector_is_loaded(monkeypatch, before):
    seen = []
    monkeypatch.delenv(faces.THREADS, raising=False)
    if before:
        monkeypatch.setenv(faces.THREADS, before)
    monkeypatch.setattr(faces, "import_module", lambda _name: seen.append(os.environ[faces.THREADS]))
    faces._detector()
    assert seen == ["1"]
    assert os.environ.get(faces.THREADS) == before


def test_boxes_are_in_the_pixels_of_the_image(monkeypatch):
    """The detector sees a copy of 640 x 320, laid on grey, in colour; it names a quarter of it."""
    seen = []

    def detect(_module, image):
        seen.append((image.width, image.height, image.bands, image.format, image.getpoint(0, 0)))
        return [Box(160, 80, 320, 160)]

    monkeypatch.setattr(faces, "_detector", lambda: (os, detect))
    pixels = np.zeros((640, 1280, 2), dtype=np.uint16)
    image = pyvips.Image.new_from_array(pixels, interpretation="grey16")
    assert find_faces(image) == (Box(320, 160, 640, 320),)
    assert seen == [(640, 320, 3, "uchar", [128.0, 128.0, 128.0])]


@pytest.mark.parametrize(("one", "other", "both"), [
    (Box(0, 0, 10, 10), Box(20, 5, 10, 10), Box(0, 0, 30, 15)),
    (Box(5, 5, 50, 50), Box(10, 10, 5, 5), Box(5, 5, 50, 50)),
])  # fmt: skip
def test_boxes_join(one, other, both):
    assert one.join(other) == other.join(one) == both


@installed
@pytest.mark.parametrize("size", [(1, 1), (1, 700), (700, 1), (15, 40), (16, 16), (333, 17), (641, 640)])
def test_no_face_is_seen_in_noise_of_any_size(size):
    noise = pyvips.Image.gaussnoise(*size).cast("uchar").copy(interpretation="b-w")
    assert find_faces(noise) == ()


@installed
@pytest.mark.slow
@pytest.mark.parametrize(("name", "face"), [
    ("png_photo/clic_0369d229ba4c.png", (0.50, 0.54)),
    ("widegamut/jpg-24bit-icc-adobe-rgb.jpg", (0.31, 0.38)),
])  # fmt: skip
def test_faces_in_photos_are_found(photos, name, face):
    image = pyvips.Image.new_from_file(str(photos / name)).colourspace("srgb").copy_memory()
    (found,) = find_faces(image)
    middle = ((found.x + found.width / 2) / image.width, (found.y + found.height / 2) / image.height)
    assert middle == pytest.approx(face, abs=0.1)


@installed
@pytest.mark.slow
@pytest.mark.parametrize("name", ["Apple_iPhone_6", "Canon_EOS_5D", "Nikon_D40", "Oppo_R7_Plus"])
def test_things_are_no_faces(photos, name):
    image = pyvips.Image.new_from_file(str(photos / "camera" / f"{name}.jpg")).copy_memory()
    assert find_faces(image) == ()
