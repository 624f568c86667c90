"""WebP: still and animated."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import pyvips

from image_processor.engine.vips.attachments import attach
from image_processor.engine.vips.picture import Picture
from image_processor.engine.vips.save.depth import eight_bit
from image_processor.engine.vips.save.frames import strip_of_frames, timed
from image_processor.engine.vips.save.search import lowest_enough, sample
from image_processor.engine.vips.save.similarity import Likeness
from image_processor.engine.vips.save.target import Target
from image_processor.pipeline import Optimize, WebpOutput

LARGE_PIXELS = 500_000
LOSSLESS_QUALITY = 75
"""There libwebp takes quality for how hard to try: 100 takes 15 times as long, for 1.5 % fewer bytes."""


@dataclass(frozen=True)
class Effort:
    """How hard libwebp tries, 0 to 6."""

    usual: int
    large: int
    """With more than LARGE_PIXELS over all frames."""

    def of(self, pixels: int) -> int:
        """For so many pixels."""
        return self.large if pixels > LARGE_PIXELS else self.usual


EFFORTS: Mapping[Optimize, Effort] = {
    Optimize.SPEED: Effort(usual=2, large=1),
    Optimize.BALANCED: Effort(usual=4, large=2),
    Optimize.SIZE: Effort(usual=6, large=6),
}
"""Effort 2 takes half the time of effort 4 for 2 to 3 % more bytes; see bench/."""

MOST_WITH_ALPHA = ((4_000_000, 5), (16_000_000, 3))
"""
The highest effort with transparency, up to so many pixels over all frames; above them 0. libwebp codes it
without loss, in seconds and bytes of memory a pixel: 6 takes 14 times as long as 5 for 3 % fewer bytes,
5 takes 0.8 s a megapixel and 36 bytes, 3 takes 0.5 and 28 for files 7 % longer, 0 takes 0.17 and 24 for
20 % longer.
"""
MOST_WITHOUT_ALPHA = ((16_000_000, 6),)
"""The same of opaque pictures, above them 4: half of the 0.28 s a megapixel of effort 6."""
LOWER_BY_AT_MOST = 16
"""Sharp colour is tried at so much less quality, and above: on photos it gains 0 to 12."""
JUDGED_WHOLE_PIXELS = 1_000_000
"""A part of a picture may be kinder to sharp colour than the rest; of larger ones parts must do."""


@dataclass(frozen=True)
class Coding:
    """What libwebp is asked for."""

    quality: int
    has_sharp_color: bool = False
    """Whether the halved resolution of colour is made up for in lightness (sharp YUV)."""


def save_webp(picture: Picture, output: WebpOutput, target: Target) -> None:
    """Write all frames; the quality is a number."""
    coding = _coding(picture, output, target.optimize)
    image, keep = attach(strip_of_frames(picture), target)
    timed(image, picture).webpsave(
        str(target.path),
        Q=coding.quality,
        lossless=output.lossless,
        near_lossless=output.near_lossless,
        effort=_effort(picture, target.optimize),
        smart_subsample=coding.has_sharp_color,
        keep=keep,
    )


def _effort(picture: Picture, optimize: Optimize) -> int:
    pixels = picture.size.pixels * len(picture.frames)
    return min(EFFORTS[optimize].of(pixels), _most_effort(pixels, has_alpha=picture.first.hasalpha()))


def _most_effort(pixels: int, *, has_alpha: bool) -> int:
    """What the time and the memory for an image leave room for."""
    steps, beyond = (MOST_WITH_ALPHA, 0) if has_alpha else (MOST_WITHOUT_ALPHA, 4)
    return next((effort for most, effort in steps if pixels <= most), beyond)


def _coding(picture: Picture, output: WebpOutput, optimize: Optimize) -> Coding:
    if output.lossless and not output.near_lossless:
        return Coding(LOSSLESS_QUALITY)
    asked_for = Coding(cast("int", output.quality))
    if optimize is not Optimize.SIZE or output.near_lossless:
        return asked_for
    is_judged_whole = picture.size.pixels <= JUDGED_WHOLE_PIXELS
    judged = picture.first if is_judged_whole else sample(picture).first
    return _smallest_as_good(eight_bit(judged), asked_for)


def _smallest_as_good(image: pyvips.Image, asked_for: Coding) -> Coding:
    """
    Sharp colour at a lower quality, where it is shorter and looks as good.

    That is so where colours are strong and fine, up to a sixth; elsewhere it is longer.
    """
    image = image.flatten() if image.hasalpha() else image
    likeness = Likeness(image)
    plain = _encoded(image, asked_for)
    wanted = likeness.score(_decoded(plain))

    def excess(quality: int) -> float:
        return likeness.score(_decoded(_encoded(image, Coding(quality, has_sharp_color=True)))) - wanted

    least = max(1, asked_for.quality - LOWER_BY_AT_MOST)
    found = Coding(lowest_enough(excess, range(least, asked_for.quality + 1)), has_sharp_color=True)
    return found if len(_encoded(image, found)) < len(plain) else asked_for


def _encoded(image: pyvips.Image, coding: Coding) -> bytes:
    data: bytes = image.webpsave_buffer(
        Q=coding.quality,
        effort=EFFORTS[Optimize.SIZE].usual,
        smart_subsample=coding.has_sharp_color,
        keep="none",
    )
    return data


def _decoded(data: bytes) -> pyvips.Image:
    return pyvips.Image.webpload_buffer(data).copy_memory()
