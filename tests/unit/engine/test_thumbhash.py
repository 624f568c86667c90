"""ThumbHash against hashes that the published encoder gives for the same pixels."""

import base64

import pytest

from image_processor.engine.vips.sample import Sample
from image_processor.engine.vips.thumbhash import thumbhash, thumbhash_bytes

KNOWN = [
    (32, 24, False, "HRkKFZJAZ3hBeXmhiId4hfgsBbbI"),
    (24, 32, False, "mxgKHRJgdnKIGIhYiYlXh/icFEf4"),
    (100, 100, False, "H/gBDwBAQ2BXVyoDJDMoSWR1pfuqX0wA"),
    (100, 7, False, "HOkNIZBQVZRziGiIpX/9tog="),
    (6, 90, False, "W/kJOQpkcCl5eHVXv2h3GAU="),
    (32, 24, True, "3QiGFIwYMGdCirB72p/iYIyrh9cwJ+LFBg=="),
    (100, 9, True, "HumFEYooIDdhiZRnn/2WiIgIeFh4h3c="),
    (1, 1, False, "AAgCBwAAAAAAAAAAAAAAAAAAAAAAAAAA"),
    (1, 1, True, "AAiCBQAiAAAAAAAAAAAAAAAACPeIh3B/+A=="),
]
"""Of `pattern(width, height, with_alpha)`, by the PyPI package thumbhash 0.1.2 (alpha mended)."""


def pattern(width, height, with_alpha):
    at = [(x, y) for y in range(height) for x in range(width)]
    return Sample(
        width,
        height,
        bytes((x * 7 + y * 3) % 256 for x, y in at),
        bytes((x * 2 + y * 11) % 256 for x, y in at),
        bytes((x * y) % 256 for x, y in at),
        bytes((40 + x * 5 + y * 9) % 256 if with_alpha else 255 for x, y in at),
    )


def flat(width, height, levels, alpha):
    red, green, blue = (bytes([level]) * (width * height) for level in levels)
    return Sample(width, height, red, green, blue, bytes([alpha]) * (width * height))


@pytest.mark.parametrize(("width", "height", "with_alpha", "known"), KNOWN)
def test_is_what_the_published_encoder_gives(width, height, with_alpha, known):
    assert thumbhash(pattern(width, height, with_alpha)) == known


@pytest.mark.parametrize("level", [0, 1, 100, 128, 254, 255])
def test_a_flat_picture_has_no_waves(level):
    """Rounding alone must not be blown up into a texture."""
    hashed = thumbhash_bytes(flat(37, 23, (level, level, level), 255))
    assert set(hashed[5:]) == {0}


def test_a_picture_in_which_nothing_can_be_seen_has_a_hash():
    hashed = thumbhash_bytes(flat(8, 8, (255, 0, 0), 0))
    assert hashed[2] & 0x80
    assert hashed[5] & 15 == 0


def test_the_shape_is_in_the_hash():
    wide, high = (base64.b64decode(thumbhash(pattern(*size, False))) for size in ((100, 50), (50, 100)))
    assert (wide[4] >> 7, high[4] >> 7) == (1, 0)
