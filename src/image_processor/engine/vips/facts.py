"""What an original is, from its header; its colours and hashes, from as small a decode as can be."""

import os
import re
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

import pyvips

from image_processor.engine.base import (
    ColorSpace,
    ExifSummary,
    Facts,
    InspectRequest,
)
from image_processor.engine.vips.blurhash import blurhash
from image_processor.engine.vips.dominant import dominant_color
from image_processor.engine.vips.exif_facts import Read, read_exif, within
from image_processor.engine.vips.failures import decoding
from image_processor.engine.vips.icc_name import profile_name
from image_processor.engine.vips.load import Header, read_header
from image_processor.engine.vips.palette import palette
from image_processor.engine.vips.plan import make_plan
from image_processor.engine.vips.prepare import prepare
from image_processor.engine.vips.sample import take_sample
from image_processor.engine.vips.thumbhash import LONGEST_SIDE, thumbhash
from image_processor.pipeline import Fit, ImageFormat, Pipeline, PngOutput, Resize, Variant

SMALL_SIDE = 256
"""What the pixels are decoded for: a sample of means can still be taken from it."""
PALETTE_SIDE = 100
BLURHASH_SIDE = 64
HEAD_BYTES = 256 * 1024
"""Where the headers of a file announce a gain map, if they do."""
MAX_DELAY_MS = 24 * 60 * 60 * 1000

_SMALL = Pipeline(
    variants=(
        Variant(
            name="small",
            operations=(Resize(width=SMALL_SIDE, height=SMALL_SIDE, fit=Fit.INSIDE),),
            output=PngOutput(),
        ),
    )
)
_SPACES: Mapping[str, ColorSpace] = {
    **dict.fromkeys(("srgb", "rgb", "rgb16", "scrgb"), ColorSpace.RGB),
    **dict.fromkeys(("b-w", "grey16"), ColorSpace.GRAY),
    "cmyk": ColorSpace.CMYK,
    **dict.fromkeys(("lab", "labs", "labq", "lch"), ColorSpace.LAB),
}
_BITS: Mapping[str, int] = {"uchar": 8, "char": 8, "ushort": 16, "short": 16, "double": 64}
_OTHER_BITS = 32
_GAIN_MAP = re.compile(
    rb"hdrgm:Version|urn:iso:std:iso:ts:21496:-1|urn:com:apple:photo:2020:aux:hdrgainmap"
    rb"|infe[\x02\x03].{7,9}tmap",
    re.DOTALL,
)
"""Ultra HDR, ISO 21496-1 in JPEG, Apple's HEIC, and the derived image item of ISO 21496-1 in HEIF."""


def inspect(request: InspectRequest) -> Facts:
    """The facts of an original; raises what `read_header` raises and, for what needs pixels, `prepare`."""
    header = read_header(request)
    facts = _plain_facts(header, request)
    return facts.model_copy(update=_seen(header, request)) if request.needs_pixels else facts


def _plain_facts(header: Header, request: InspectRequest) -> Facts:
    with decoding(header.path):
        image = header.loader.peek(header.path)
    with header.path.open("rb") as file:
        return Facts(
            format=header.format,
            media_type=header.format.media_type,
            size_bytes=os.fstat(file.fileno()).st_size,
            width=header.upright.width,
            height=header.upright.height,
            orientation=header.orientation if header.orientation in range(1, 9) else 1,
            frames=header.frames,
            duration_ms=_duration_ms(image) if header.frames > 1 else None,
            has_alpha=bool(image.hasalpha()),
            bits_per_channel=_bits(image),
            color_space=_SPACES.get(image.interpretation, ColorSpace.OTHER),
            icc_profile=_profile(image),
            has_gain_map=_GAIN_MAP.search(file.read(HEAD_BYTES)) is not None,
            exif=_exif(image, header.format, file, with_gps=request.gps),
        )


def _duration_ms(image: pyvips.Image) -> int | None:
    if not image.get_typeof("delay"):
        return None
    return sum(min(max(0, int(delay)), MAX_DELAY_MS) for delay in image.get("delay"))


def _bits(image: pyvips.Image) -> int:
    """As the file has them: libvips widens what is narrower, and looks palettes up."""
    if image.get_typeof("palette") or not image.get_typeof("bits-per-sample"):
        return _BITS.get(image.format, _OTHER_BITS)
    return min(max(1, int(image.get("bits-per-sample"))), 64)


def _profile(image: pyvips.Image) -> str | None:
    data = _block(image, "icc-profile-data")
    return profile_name(data) if data is not None else None


def _exif(
    image: pyvips.Image, image_format: ImageFormat, file: BinaryIO, *, with_gps: bool
) -> ExifSummary | None:
    """A TIFF file is itself what other files hold as their EXIF block."""
    if image_format is ImageFormat.TIFF:
        return read_exif(_in_file(file), with_gps=with_gps)
    block = _block(image, "exif-data")
    return read_exif(within(block), with_gps=with_gps) if block else None


def _block(image: pyvips.Image, field: str) -> bytes | None:
    return bytes(image.get(field)) if image.get_typeof(field) else None


def _in_file(file: BinaryIO) -> Read:
    return lambda offset, count: os.pread(file.fileno(), count, offset)


def _seen(header: Header, request: InspectRequest) -> dict[str, Any]:
    """What the request wants to know of the pixels."""
    plan = make_plan(_SMALL, header.format, header.upright, request.limits)
    with decoding(header.path):
        image = prepare(header, plan).first
        return {name: look(image, request) for name, look in _LOOKS.items() if getattr(request, name)}


def _palette(image: pyvips.Image, request: InspectRequest) -> Any:
    return palette(take_sample(image, PALETTE_SIDE), request.palette)


_LOOKS: Mapping[str, Callable[[pyvips.Image, InspectRequest], Any]] = {
    "dominant_color": lambda image, _: dominant_color(image),
    "palette": _palette,
    "blurhash": lambda image, _: blurhash(take_sample(image, BLURHASH_SIDE)),
    "thumbhash": lambda image, _: thumbhash(take_sample(image, LONGEST_SIDE)),
}
