"""BlurHash against hashes that the published encoder gives for the same pixels."""

import pytest

from image_processor.engine.vips.blurhash import blurhash, default_waves
from image_processor.engine.vips.sample import Sample

KNOWN = [
    (32, 24, (4, 3), "LlHo5X2lWkxBQoR8whNfQotjS$oJ"),
    (24, 32, (3, 4), "TjGIZI6]siEdrsjdhjjKfmkQb]j?"),
    (64, 64, (4, 4), "UPHoE?aJv}OSVsJ5OT1[ORrZI=$6a1nOS|wM"),
    (100, 7, (4, 3), "LmGb;LQCKaR%#jaeX9ajelbvajk8"),
    (1, 1, (1, 1), "000000"),
    (5, 80, (1, 9), "=vHU:g1sv%WGVbnRV3pBY1"),
    (40, 30, (9, 1), "8dG+8gJg2S,-W+X4j;oea{"),
]
"""Of `pattern(width, height)`, by the PyPI package blurhash 1.1.5."""


def pattern(width, height, alpha=None):
    """Colours by a formula; alpha is a function of x and y, or 255 throughout."""
    at = [(x, y) for y in range(height) for x in range(width)]
    return Sample(
        width,
        height,
        bytes((x * 7 + y * 3) % 256 for x, y in at),
        bytes((x * 2 + y * 11) % 256 for x, y in at),
        bytes((x * y) % 256 for x, y in at),
        bytes(alpha(x, y) if alpha else 255 for x, y in at),
    )


@pytest.mark.parametrize(("width", "height", "waves", "known"), KNOWN)
def test_is_what_the_published_encoder_gives(width, height, waves, known):
    assert blurhash(pattern(width, height), waves) == known


@pytest.mark.parametrize(
    ("size", "waves"),
    [
        ((64, 48), (4, 3)),
        ((48, 64), (3, 4)),
        ((64, 64), (4, 3)),
        ((64, 1), (4, 1)),
        ((1, 64), (1, 4)),
        ((1, 1), (1, 1)),
        ((2, 2), (2, 2)),
    ],
)
def test_the_waves_follow_the_shape_and_never_outnumber_the_pixels(size, waves):
    assert default_waves(*size) == waves
    assert len(blurhash(pattern(*size))) == 4 + 2 * waves[0] * waves[1]


def test_what_is_transparent_does_not_color_it():
    """The left half is red; what is hidden in the right half has no say."""
    red, hidden = bytes([200, 200, 9, 9] * 4), bytes([0, 0, 255, 0] * 4)
    half = Sample(4, 4, red, hidden, bytes(16), bytes([255, 255, 0, 0] * 4))
    assert blurhash(half) == blurhash(
        Sample(4, 4, bytes([200]) * 16, bytes(16), bytes(16), bytes([255]) * 16)
    )


def test_a_picture_in_which_nothing_can_be_seen_is_black():
    unseen = pattern(8, 8, alpha=lambda x, y: 0 * x * y)
    black = Sample(8, 8, bytes(64), bytes(64), bytes(64), bytes([255]) * 64)
    assert blurhash(unseen) == blurhash(black)
