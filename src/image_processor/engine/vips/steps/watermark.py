"""Watermark: an image or a text laid over the picture, as it is or as tiles."""

from collections.abc import Mapping
from pathlib import Path

import pyvips

from image_processor.engine.vips.color import channels, expanded, in_depth, to_srgb, without_profile
from image_processor.engine.vips.failures import decoding
from image_processor.engine.vips.geometry import Scale, Size
from image_processor.engine.vips.picture import Picture
from image_processor.engine.vips.steps.scale import scale
from image_processor.engine.vips.translate import inside
from image_processor.errors import CorruptImageError, InvalidOperationError, UnsupportedFormatError
from image_processor.pipeline import Gravity, ImageWatermark, TextWatermark

LOADERS: Mapping[bytes, str] = {
    b"\x89PNG\r\n\x1a\n": "pngload_buffer",
    b"\xff\xd8\xff": "jpegload_buffer",
    b"RIFF": "webpload_buffer",
}
"""libvips' loaders by the first bytes of what they read; no other one sees a watermark."""
LONGEST_SIDE = 4000
"""Of a watermark's file, in pixels."""
GREY_BANDS = 2
"""At most: grey and alpha."""
LEAST_TILE = 512
"""Small tiles are joined to larger ones of at least this side, which are repeated faster."""


def watermark(picture: Picture, operation: ImageWatermark | TextWatermark) -> Picture:
    """
    Every frame with the watermark; what it does not cover keeps its pixels.

    Raises InvalidOperationError for an image that cannot be read, and for letters that there are not.
    """
    mark = _in_form_of(picture.first, _mark(operation, picture.size))
    if operation.tile:
        mark, x, y = _tiled(mark, operation, picture.size), 0, 0
    else:
        x, y = _place(mark, operation.gravity, picture.size, operation.margin)
    if mark.bands > GREY_BANDS:
        picture = picture.map(expanded)
    return picture.map(lambda frame: _laid(frame, mark, (x, y), operation.opacity))


def _mark(operation: ImageWatermark | TextWatermark, size: Size) -> pyvips.Image:
    """The mark with alpha, 8 bit, in the size that it has on a picture of this size, in memory."""
    if isinstance(operation, TextWatermark):
        from image_processor.engine.vips.text import letters_of  # noqa: PLC0415 - Pillow only draws letters

        letters = letters_of(operation.text, operation.size, _room(operation, size))
        mark = letters.new_from_image(channels(operation.color)).bandjoin(letters)
        return _fitted(mark.copy(interpretation="srgb"), operation, size)
    try:
        with decoding(Path("the watermark")):
            return _fitted(_decoded(operation.image), operation, size)
    except (CorruptImageError, UnsupportedFormatError) as error:
        raise InvalidOperationError(f"The watermark cannot be read. {error}") from error


def _decoded(data: bytes) -> pyvips.Image:
    """Upright, sRGB or grey, with alpha."""
    loader = next((name for start, name in LOADERS.items() if data.startswith(start)), None)
    if loader is None:
        raise InvalidOperationError("The watermark's image is none of PNG, JPEG and WebP.")
    image = getattr(pyvips.Image, loader)(data, fail_on="error")
    if max(image.width, image.height) > LONGEST_SIDE:
        raise InvalidOperationError(
            f"The watermark's image has {image.width} x {image.height} pixels; "
            f"a side may have at most {LONGEST_SIDE}."
        )
    image = to_srgb(image.autorot())
    return image if image.hasalpha() else image.addalpha()


def _fitted(mark: pyvips.Image, operation: ImageWatermark | TextWatermark, size: Size) -> pyvips.Image:
    own = Size(mark.width, mark.height)
    if isinstance(operation, ImageWatermark) and operation.width_percent is not None:
        width = max(1, round(size.width * operation.width_percent / 100))
        own, room = own.scaled(width, own.width), size
    else:
        room = _room(operation, size)
    wanted = inside(own, room.width, room.height)
    return scale(Picture((mark,)), Scale(wanted)).in_memory().first


def _room(operation: ImageWatermark | TextWatermark, size: Size) -> Size:
    """What the margins leave; between tiles they are gaps, and leave all."""
    margins = 0 if operation.tile else 2 * operation.margin
    return Size(max(1, size.width - margins), max(1, size.height - margins))


def _in_form_of(frame: pyvips.Image, mark: pyvips.Image) -> pyvips.Image:
    """The mark as grey or in colour, in 8 or 16 bits, as the frame is; colour stays colour."""
    if frame.bands > GREY_BANDS:
        mark = _in_space_of(frame, expanded(mark))
    elif mark.bands > GREY_BANDS and _is_grey(mark):
        mark = mark[0].bandjoin(mark[mark.bands - 1]).copy(interpretation="b-w")
    return in_depth(mark, 16 if frame.format == "ushort" else 8)


def _in_space_of(frame: pyvips.Image, mark: pyvips.Image) -> pyvips.Image:
    """The mark in the colours of the frame's own profile, where it was allowed to keep that."""
    if not frame.get_typeof("icc-profile-data"):
        return mark
    colors = mark.icc_import(input_profile="srgb", intent="perceptual")
    colors.set_type(pyvips.GValue.blob_type, "icc-profile-data", frame.get("icc-profile-data"))
    return without_profile(colors.icc_export(intent="perceptual", depth=8))


def _is_grey(mark: pyvips.Image) -> bool:
    return bool((mark[0] - mark[1]).abs().max() == 0 and (mark[1] - mark[2]).abs().max() == 0)


def _place(mark: pyvips.Image, gravity: Gravity, size: Size, margin: int) -> tuple[int, int]:
    """The mark's top left corner; half a pixel in the middle goes to the right and to the bottom."""
    x = _offset(gravity.across, size.width - mark.width, margin)
    return x, _offset(gravity.down, size.height - mark.height, margin)


def _offset(where: int, spare: int, margin: int) -> int:
    """A margin for which there is no room gives way, down to the middle."""
    margin = min(margin, spare // 2)
    return (margin, spare // 2, spare - margin)[where]


def _tiled(mark: pyvips.Image, operation: ImageWatermark | TextWatermark, size: Size) -> pyvips.Image:
    """The mark where gravity puts it, and repeated from there in all directions, as large as the picture."""
    x, y = _place(mark, operation.gravity, size, 0)
    tile = mark.embed(0, 0, mark.width + operation.margin, mark.height + operation.margin)
    left, top = -x % tile.width, -y % tile.height
    if max(tile.width, tile.height) < LEAST_TILE:
        tile = _repeated(tile, Size(LEAST_TILE, LEAST_TILE)).copy_memory()
    whole = _repeated(tile, Size(left + size.width, top + size.height))
    return whole.crop(left, top, size.width, size.height)


def _repeated(tile: pyvips.Image, size: Size) -> pyvips.Image:
    """Whole tiles side by side, at least so large."""
    return tile.replicate(-(-size.width // tile.width), -(-size.height // tile.height))


def _laid(frame: pyvips.Image, mark: pyvips.Image, at: tuple[int, int], opacity: float) -> pyvips.Image:
    x, y = at
    covered = frame.crop(x, y, mark.width, mark.height)
    return frame.insert(_over(covered, mark, opacity), x, y)


def _over(under: pyvips.Image, mark: pyvips.Image, opacity: float) -> pyvips.Image:
    """
    `over` of Porter and Duff (1984), in the codes of sRGB as sharp and browsers do it, not in linear light.

    Where both are opaque the colour is their mean, weighed by the opacity.
    """
    most = 65535 if under.format == "ushort" else 255
    colors = mark[: mark.bands - 1]
    weight = mark[mark.bands - 1] * (opacity / most)
    if not under.hasalpha():
        return _whole(under * (1 - weight) + colors * weight, under)
    rest = under[under.bands - 1] / most * (1 - weight)
    alpha = weight + rest
    blended = (under[: under.bands - 1] * rest + colors * weight) / alpha
    return _whole(blended.bandjoin(alpha * most), under)


def _whole(blended: pyvips.Image, like: pyvips.Image) -> pyvips.Image:
    return blended.rint().cast(like.format).copy(interpretation=like.interpretation)
