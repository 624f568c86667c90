"""Every format that comes in times every one that goes out, opened again by Pillow."""

import io

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from image_processor.pipeline import (
    AvifOutput,
    GifOutput,
    ImageFormat,
    JpegOutput,
    Pipeline,
    PngOutput,
    TiffOutput,
    Variant,
    WebpOutput,
)
from image_processor.testing import sample_images
from pictures import opened, render

SIZE = (48, 32)
HALVES = ((200, 40, 40, 255), (30, 60, 180, 128))
"""Left and right when upright; the right one half transparent where a format can be."""
OUTPUTS = (
    JpegOutput(quality=95, subsampling="4:4:4"),
    PngOutput(),
    WebpOutput(quality=95),
    AvifOutput(quality=90, speed=9),
    GifOutput(dither=0),
    TiffOutput(),
)
WITH_ALPHA = ("png", "webp", "avif", "tiff")
"""What can be half transparent on either side of the matrix; a GIF's pixels are all or nothing."""
TOLERANCE = 8
"""Levels of 255, of the mean over a flat half: JPEG, WebP and AVIF are lossy, GIF has a palette."""
ON_ITS_SIDE = 6
"""EXIF's orientation of a picture that is to be turned clockwise by a quarter."""


OPTIONS = {
    "jpeg": {"quality": 95, "subsampling": "4:4:4"},
    "avif": {"quality": 95, "subsampling": "4:4:4"},
    "webp": {"lossless": True},
}
"""Of Pillow's savers."""


def halves(mode="RGBA"):
    image = Image.new("RGBA", SIZE, HALVES[0])
    image.paste(HALVES[1], (SIZE[0] // 2, 0, *SIZE))
    return image if mode == "RGBA" else image.convert(mode)


def written(kind, mode):
    """The halves in this format, by Pillow or by pillow-heif; on their side where EXIF can say so."""
    file = io.BytesIO()
    image = halves(mode)
    options = dict(OPTIONS.get(kind, {}))
    if kind in ("jpeg", "png", "webp", "tiff"):
        image = image.transpose(Image.Transpose.ROTATE_90)
        exif = Image.Exif()
        exif[0x0112] = ON_ITS_SIDE
        options["exif"] = exif
    image.save(file, kind, **options)
    return file.getvalue()


SOURCES = {
    "jpeg": lambda: written("jpeg", "RGB"),
    "png": lambda: written("png", "RGBA"),
    "webp": lambda: written("webp", "RGBA"),
    "gif": lambda: written("gif", "RGB"),
    "tiff": lambda: written("tiff", "RGBA"),
    "bmp": lambda: written("bmp", "RGB"),
    "avif": lambda: written("avif", "RGBA"),
    "heic": lambda: heic(halves()),
    "svg": lambda: sample_images.svg(
        '<rect width="24" height="32" fill="#c82828"/>'
        '<rect x="24" width="24" height="32" fill="#1e3cb4" fill-opacity="0.50196"/>',
        'width="48" height="32"',
    ),
}
SEES_THROUGH = {"png", "webp", "tiff", "avif", "heic", "svg"}


def heic(image):
    file = io.BytesIO()
    pillow_heif.from_pillow(image).save(file, quality=95, chroma=444)
    return file.getvalue()


@pytest.fixture(params=[kind.value for kind in ImageFormat])
def variants(request, tmp_path):
    """All files made of one source, by the format of each."""
    pipeline = Pipeline(variants=tuple(Variant(name=output.format, output=output) for output in OUTPUTS))
    rendering = render(tmp_path, SOURCES[request.param](), pipeline, request.param)
    assert (rendering.width, rendering.height) == SIZE
    return request.param, {done.format.value: done.path.read_bytes() for done in rendering.variants}


def test_every_format_goes_into_every_other(variants):
    source, files = variants
    assert sorted(files) == sorted(output.format for output in OUTPUTS)
    for kind, data in files.items():
        image = opened(data)
        assert (image.format.lower(), image.size) == (kind, SIZE), kind
        assert image.getexif().get(0x0112, 1) == 1, kind
        keeps_alpha = source in SEES_THROUGH and kind in WITH_ALPHA
        assert (image.mode in ("RGBA", "LA")) is keeps_alpha or kind == "gif", kind
        for side in (0, 1):
            seen = mean_of_half(image, side)
            wanted = HALVES[side] if keeps_alpha else laid_on_white(HALVES[side], source, kind)
            assert np.abs(seen[: len(wanted)] - wanted).max() <= TOLERANCE, (source, kind, side, seen)


def mean_of_half(image, side):
    """The mean colour of a half, a little away from its borders."""
    pixels = np.asarray(image.convert("RGBA"), dtype=float)
    left = 4 + side * SIZE[0] // 2
    return pixels[4:-4, left : left + SIZE[0] // 2 - 8].mean(axis=(0, 1))


def laid_on_white(color, source, kind):
    """What JPEG makes of transparency; GIF keeps the colour of what is at least half opaque."""
    if source not in SEES_THROUGH or kind == "gif":
        return np.array(color[:3], float)
    return np.array([level * color[3] / 255 + 255 - color[3] for level in color[:3]])
