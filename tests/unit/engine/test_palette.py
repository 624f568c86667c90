"""The palette of pictures whose colours are known, because they were painted."""

import random

import pytest

from image_processor.engine.vips.palette import oklab, palette
from image_processor.engine.vips.sample import Sample

RED, NAVY, CREAM, BLACK = (200, 30, 40), (20, 30, 90), (250, 240, 210), (0, 0, 0)


def painted(*pixels):
    """One row of these pixels, three channels each or four."""
    whole = [(*pixel, 255)[:4] for pixel in pixels]
    return Sample(len(whole), 1, *(bytes(channel) for channel in zip(*whole, strict=True)))


def told(sample, count):
    return [(color.color, color.share) for color in palette(sample, count)]


def test_colors_and_shares_are_those_that_were_painted():
    sample = painted(*[RED] * 500, *[NAVY] * 300, *[CREAM] * 200)
    assert told(sample, 5) == [("#C81E28", 0.5), ("#141E5A", 0.3), ("#FAF0D2", 0.2)]


def test_no_more_colors_than_were_asked_for():
    sample = painted(*[RED] * 500, *[NAVY] * 300, *[CREAM] * 150, *[BLACK] * 50)
    assert [len(told(sample, count)) for count in (1, 2, 3, 4, 16)] == [1, 2, 3, 4, 4]
    assert sum(share for _, share in told(sample, 2)) == 1


def test_one_color_is_the_mean():
    assert told(painted(*[(0, 0, 0)] * 50, *[(200, 100, 50)] * 50), 1) == [("#643219", 1.0)]


def test_shades_that_nobody_can_tell_apart_are_one_color():
    shades = [(200 + step % 3, 30, 40) for step in range(300)]
    assert told(painted(*shades, *[NAVY] * 100), 8) == [("#C91E28", 0.75), ("#141E5A", 0.25)]


def test_a_small_strong_color_is_not_lost_among_shades():
    greys = [(level, level, level) for level in range(80, 160) for _ in range(12)]
    assert "#C81E28" in dict(told(painted(*greys, *[RED] * 40), 5))


def test_what_is_transparent_does_not_count():
    sample = painted(*[(*RED, 255)] * 10, *[(0, 255, 0, 0)] * 90, *[(0, 255, 0, 127)] * 90)
    assert told(sample, 4) == [("#C81E28", 1.0)]


def test_where_nothing_can_be_seen_there_is_no_palette():
    assert palette(painted(*[(*RED, 0)] * 10), 4) == ()


def test_the_order_of_the_pixels_does_not_matter():
    pixels = [RED, NAVY, CREAM, BLACK, (90, 160, 80)] * 100
    noisy = [tuple(min(255, level + step % 7) for level in pixel) for step, pixel in enumerate(pixels)]
    shuffled = random.Random(1).sample(noisy, len(noisy))
    assert told(painted(*noisy), 4) == told(painted(*shuffled), 4)


@pytest.mark.parametrize("count", [1, 5, 16])
def test_noise_has_a_palette_of_what_was_asked_for(count):
    source = random.Random(3)
    sample = painted(*[tuple(source.randbytes(3)) for _ in range(4000)])
    colors = palette(sample, count)
    assert len(colors) == count
    assert sum(color.share for color in colors) == pytest.approx(1, abs=0.01)
    assert list(colors) == sorted(colors, key=lambda color: -color.share)


@pytest.mark.parametrize(
    ("color", "expected"),
    [
        ((255, 255, 255), (1.0, 0.0, 0.0)),
        ((0, 0, 0), (0.0, 0.0, 0.0)),
        ((255, 0, 0), (0.628, 0.225, 0.126)),
        ((0, 0, 255), (0.452, -0.032, -0.312)),
    ],
)
def test_oklab_is_that_of_its_author(color, expected):
    assert oklab(*color) == pytest.approx(expected, abs=0.001)
