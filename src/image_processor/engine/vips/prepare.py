"""From a header to the picture that all variants start from: upright, in its colour space, in memory."""

from collections.abc import Callable

import pyvips

from image_processor.engine.vips.color import in_own_space, to_srgb
from image_processor.engine.vips.failures import decoding
from image_processor.engine.vips.geometry import Paint, Size
from image_processor.engine.vips.load import Header, decode
from image_processor.engine.vips.picture import Picture
from image_processor.engine.vips.plan import Plan
from image_processor.engine.vips.steps.scale import resample
from image_processor.pipeline import Profile

MOST_PIXELS_FOR_LOOKS = 60_000_000
"""Twice the bytes of each: a quarter turn of 120 megapixels with alpha took 2.6 GB, before any WebP of it."""
Preparation = Callable[[pyvips.Image, Header, Plan], pyvips.Image]


def prepare(header: Header, plan: Plan) -> Picture:
    """Decode once. Raises CorruptImageError, UnsupportedFormatError."""
    needed = _as_stored(plan.largest_start, header)
    with decoding(header.path):
        image = decode(header, needed, all_frames=plan.is_animated)
        for step in PREPARATION:
            image = step(image, header, plan)
        return _upright(_picture(image, header), header)


def keeps_profile(header: Header, plan: Plan) -> bool:
    """Whether the pixels stay in the space of the original's own profile, which the files then need."""
    return plan.profile is Profile.SOURCE and header.has_own_space


def keeps_depth(header: Header, plan: Plan) -> bool:
    """
    Whether the pixels keep 16 bits a channel until they are written.

    That is where a file is to have them, and where what is done with the pixels would show as bands: unless
    there are more than `MOST_PIXELS_FOR_LOOKS`.
    """
    is_asked_for = any(getattr(variant.output, "bit_depth", 8) > 8 for variant in plan.variants)
    return header.is_deep and (
        is_asked_for or (_changes_levels(plan) and plan.largest_start.pixels <= MOST_PIXELS_FOR_LOOKS)
    )


def _changes_levels(plan: Plan) -> bool:
    return plan.is_linear or any(
        isinstance(step, Paint) for variant in plan.variants for step in variant.steps
    )


def _shrink(image: pyvips.Image, header: Header, plan: Plan) -> pyvips.Image:
    """Before the colours: there are fewer pixels to convert. Frames are not shrunk across their borders."""
    if header.frames > 1 or not plan.is_scaled_at_once:
        return image
    return resample(image, _as_stored(plan.largest_start, header))


def _convert(image: pyvips.Image, header: Header, plan: Plan) -> pyvips.Image:
    convert = in_own_space if keeps_profile(header, plan) else to_srgb
    return convert(image, depth=16 if keeps_depth(header, plan) else 8)


def _hold(image: pyvips.Image, _header: Header, _plan: Plan) -> pyvips.Image:
    """Here the file is read, from top to bottom and once."""
    return image.copy_memory()


def _drop_opaque_alpha(image: pyvips.Image, _header: Header, _plan: Plan) -> pyvips.Image:
    """A GIF always comes with alpha; where nothing is transparent all that follows is cheaper without."""
    opaque = 65535 if image.format == "ushort" else 255
    if image.hasalpha() and image[image.bands - 1].min() == opaque:
        return image[: image.bands - 1].copy_memory()
    return image


PREPARATION: tuple[Preparation, ...] = (_shrink, _convert, _hold, _drop_opaque_alpha)


def _as_stored(size: Size, header: Header) -> Size:
    return size.turned() if header.is_on_its_side else size


def _picture(image: pyvips.Image, header: Header) -> Picture:
    if header.frames == 1 or image.height == header.stored.height:
        return Picture((image,))
    height = header.stored.height
    frames = tuple(image.crop(0, top, image.width, height) for top in range(0, image.height, height))
    delays = tuple(image.get("delay")) if image.get_typeof("delay") else ()
    loop = int(image.get("loop")) if image.get_typeof("loop") else 0
    return Picture(frames, delays, loop)


def _upright(picture: Picture, header: Header) -> Picture:
    if header.orientation == 1:
        return picture
    return picture.map(lambda frame: frame.autorot()).in_memory()
