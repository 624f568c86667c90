"""A small copy of a picture as plain numbers, for what looks at all of it at once."""

from dataclasses import dataclass

import pyvips

from image_processor.engine.vips.color import OPAQUE, expanded


@dataclass(frozen=True)
class Sample:
    """Rows of pixels from top to bottom: sRGB, 8 bit, alpha not multiplied in."""

    width: int
    height: int
    red: bytes
    green: bytes
    blue: bytes
    alpha: bytes
    """All 255 where the picture has none."""

    @property
    def visible_mean(self) -> tuple[float, float, float]:
        """Red, green and blue, each pixel weighed by its alpha; black where nothing can be seen."""
        weight = sum(self.alpha)
        if not weight:
            return 0.0, 0.0, 0.0
        red, green, blue = (_weighed(channel, self.alpha) / weight for channel in self.channels)
        return red, green, blue

    @property
    def channels(self) -> tuple[bytes, bytes, bytes]:
        """Red, green and blue."""
        return self.red, self.green, self.blue


def take_sample(image: pyvips.Image, longest_side: int) -> Sample:
    """
    A copy within a square of this side, of means: a sharper filter would overshoot beside edges.

    The image is sRGB or grey, 8 bit, and is never enlarged.
    """
    pixels = expanded(_reduced(image, longest_side))
    data = bytes(pixels.write_to_memory())
    bands = [data[band :: pixels.bands] for band in range(pixels.bands)]
    if len(bands) == 3:
        bands.append(bytes([OPAQUE]) * (pixels.width * pixels.height))
    red, green, blue, alpha = bands
    return Sample(pixels.width, pixels.height, red, green, blue, alpha)


def _reduced(image: pyvips.Image, longest_side: int) -> pyvips.Image:
    factor = longest_side / max(image.width, image.height)
    if factor >= 1:
        return image
    return of_means(image, *(max(1, round(side * factor)) / side for side in (image.width, image.height)))


def of_means(image: pyvips.Image, across: float, down: float) -> pyvips.Image:
    """The image so much smaller, made of means; colours are weighed by their alpha."""
    if not image.hasalpha():
        return image.resize(across, vscale=down, kernel="linear")
    small = image.premultiply().resize(across, vscale=down, kernel="linear")
    return small.unpremultiply().rint().cast(image.format)


def _weighed(channel: bytes, weights: bytes) -> int:
    return sum(value * weight for value, weight in zip(channel, weights, strict=True))
