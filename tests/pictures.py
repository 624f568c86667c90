"""Pictures as tests look at them: rendered by an engine, opened by Pillow, compared channel by channel."""

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageOps

from image_processor.engine.base import Engine, RenderRequest
from image_processor.engine.vips.engine import VipsEngine
from image_processor.pipeline import ImageFormat, Limits, Pipeline, PngOutput, Variant

GENEROUS = Limits(max_bytes=10**9)
SRGB = ImageCms.createProfile("sRGB")


def pipeline_of(*operations, output=None, never_larger=False) -> Pipeline:
    """One variant, `only`; PNG unless another output is given: what is seen is what was worked out."""
    output = output or PngOutput(compression=1)
    variant = Variant(name="only", operations=operations, output=output, never_larger=never_larger)
    return Pipeline(variants=(variant,))


def render(folder: Path, original: bytes, pipeline: Pipeline, kind="jpeg", engine: Engine | None = None):
    """The rendering of these bytes; the files lie in the folder."""
    source = folder / "original"
    source.write_bytes(original)
    request = RenderRequest(
        source=source,
        source_format=ImageFormat(kind),
        pipeline=pipeline,
        output_directory=folder,
        limits=GENEROUS,
    )
    return (engine or VipsEngine()).render(request, deadline_seconds=60)


def picture(folder: Path, original: bytes, *operations, kind="jpeg", output=None) -> Image.Image:
    """The one variant that these operations make, opened by Pillow."""
    (variant,) = render(folder, original, pipeline_of(*operations, output=output), kind).variants
    return opened(variant.path.read_bytes())


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def upright(data: bytes) -> Image.Image:
    """Decoded and turned by Pillow."""
    return ImageOps.exif_transpose(opened(data)).convert("RGB")


def in_srgb(data: bytes, profile: bytes | None = None) -> Image.Image:
    """Decoded by Pillow, brought to sRGB by LittleCMS from the picture's own profile or the one given."""
    image = opened(data)
    own = ImageCms.ImageCmsProfile(io.BytesIO(profile or image.info["icc_profile"]))
    return ImageCms.profileToProfile(
        image, own, SRGB, renderingIntent=ImageCms.Intent.PERCEPTUAL, outputMode="RGB"
    )


def differences(one: Image.Image, other: Image.Image) -> list[float]:
    """The mean absolute difference of red, green and blue, in levels of 255."""
    first, second = (np.asarray(image.convert("RGB"), dtype=np.int16) for image in (one, other))
    assert first.shape == second.shape
    return [round(float(level), 3) for level in np.abs(first - second).mean(axis=(0, 1))]
