"""What one encoder's quality is on another's scale, as points with straight lines between them."""

from bisect import bisect_left

Points = tuple[tuple[int, int], ...]
"""Qualities of libjpeg with its own tables, and those of the other at which files look as good; 1 to 100."""

JPEGLI: Points = (
    *((1, 1), (20, 13), (30, 22), (50, 46), (60, 56), (70, 69), (75, 76), (80, 82), (85, 87)),
    *((90, 91), (95, 95), (100, 100)),
)
MOZJPEG_TABLES: Points = (
    *((1, 1), (10, 13), (30, 34), (50, 53), (60, 61), (70, 71), (80, 81), (85, 86)),
    *((90, 91), (95, 95), (100, 100)),
)
"""
Both measured on eleven camera photos at 150, 400 and 800 pixels and on pieces of their full size: the
quality that has the SSIMULACRA2 of libjpeg-turbo's, all with 4:2:0; the median, rounded up from 70 so that
hardly a photo is more than a point below it.
"""


def on_scale(quality: int, points: Points) -> int:
    """The quality on the other's scale for one of libjpeg's, 1 to 100; it never falls as that rises."""
    at = max(bisect_left(points, (quality, 0)), 1)
    (low, start), (high, end) = points[at - 1 : at + 1]
    return round(start + (end - start) * (quality - low) / (high - low))
