"""Every operation makes the picture that was once looked at and found right."""

import io

import numpy as np
import pytest
from PIL import Image

import golden_pictures as golden

MEAN_LEVELS, MOST_LEVELS = 1.0, 24
"""Of 255: other builds of the codecs round otherwise, above all beside edges."""


@pytest.mark.parametrize("name", golden.PICTURES)
def test_the_picture_is_as_it_was(name, tmp_path):
    found = Image.open(io.BytesIO(golden.drawn(name, tmp_path)))
    expected = Image.open(golden.FOLDER / f"{name}.png")
    assert (found.size, found.mode) == (expected.size, expected.mode)
    levels = np.abs(np.asarray(found.convert("RGBA"), int) - np.asarray(expected.convert("RGBA"), int))
    assert levels.mean() <= MEAN_LEVELS
    assert levels.max() <= MOST_LEVELS


def test_no_picture_is_left_over():
    assert {path.stem for path in golden.FOLDER.iterdir()} == set(golden.PICTURES)


def test_no_two_operations_make_the_same_picture():
    contents = [(golden.FOLDER / f"{name}.png").read_bytes() for name in golden.PICTURES]
    assert len(set(contents)) == len(contents)
