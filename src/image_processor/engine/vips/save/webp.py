"""WebP: still and animated."""

from collections.abc import Mapping
from dataclasses import dataclass

from image_processor.engine.vips.attachments import attach
from image_processor.engine.vips.picture import Picture
from image_processor.engine.vips.save.frames import strip_of_frames, timed
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


def save_webp(picture: Picture, output: WebpOutput, target: Target) -> None:
    """Write all frames."""
    image, keep = attach(strip_of_frames(picture), target)
    timed(image, picture).webpsave(
        str(target.path),
        Q=LOSSLESS_QUALITY if output.lossless and not output.near_lossless else output.quality,
        lossless=output.lossless,
        near_lossless=output.near_lossless,
        effort=EFFORTS[target.optimize].of(picture.size.pixels * len(picture.frames)),
        smart_subsample=False,
        keep=keep,
    )
