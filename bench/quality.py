"""How near a result comes to what a third party, Pillow, makes of the same photo at the same size."""

import io
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps

from bench.ssimulacra2 import score

Size = tuple[int, int]
ROUNDING = 1
"""By so many pixels an aspect ratio is another only because sides are whole pixels."""


def scores(photo: Path, files: Mapping[str, Path], most_pixels: int) -> dict[str, float]:
    """SSIMULACRA2 of each file by its name; those with more pixels are left out."""
    return dict(_scores(photo, files, most_pixels))


def _scores(photo: Path, files: Mapping[str, Path], most_pixels: int) -> Iterator[tuple[str, float]]:
    for name, file in files.items():
        with Image.open(file) as image:
            if image.width * image.height <= most_pixels:
                yield name, score(reference(photo, image.size), np.asarray(image.convert("RGB")))


@lru_cache(maxsize=32)
def reference(photo: Path, size: Size) -> NDArray[np.uint8]:
    """
    Pillow's Lanczos at this size, of the photo upright and in sRGB.

    Where the aspect ratio is another, the middle is kept; an odd pixel goes from the left and the top.
    """
    whole = _upright(photo)
    scale = max(size[0] / whole.width, size[1] / whole.height)
    scaled = (round(whole.width * scale), round(whole.height * scale))
    spare = (scaled[0] - size[0], scaled[1] - size[1])
    if max(spare) <= ROUNDING:
        return np.asarray(whole.resize(size, Image.Resampling.LANCZOS))
    left, top = (spare[0] + 1) // 2, (spare[1] + 1) // 2
    resized = whole.resize(scaled, Image.Resampling.LANCZOS)
    return np.asarray(resized.crop((left, top, left + size[0], top + size[1])))


@lru_cache(maxsize=1)
def _upright(photo: Path) -> Image.Image:
    with Image.open(photo) as opened:
        image = ImageOps.exif_transpose(opened).convert("RGB")
        profile = opened.info.get("icc_profile")
    if profile is None:
        return image
    own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    converted = ImageCms.profileToProfile(image, own, ImageCms.createProfile("sRGB"))
    assert converted is not None
    return converted
