"""From a header to the picture that all variants start from: upright, sRGB, not too large, in memory."""

from collections.abc import Callable

import pyvips

from image_processor.engine.vips.color import to_srgb
from image_processor.engine.vips.failures import decoding
from image_processor.engine.vips.geometry import Size
from image_processor.engine.vips.load import Header, decode
from image_processor.engine.vips.picture import Picture
from image_processor.engine.vips.plan import Plan
from image_processor.engine.vips.steps.scale import resample

OPAQUE = 255
Preparation = Callable[[pyvips.Image, Header, Plan], pyvips.Image]


def prepare(header: Header, plan: Plan) -> Picture:
    """Decode once. Raises CorruptImageError."""
    needed = _as_stored(plan.largest_start, header)
    with decoding(header.path):
        image = decode(header, needed, all_frames=plan.is_animated)
        for step in PREPARATION:
            image = step(image, header, plan)
        return _upright(_picture(image, header), header)


def _shrink(image: pyvips.Image, header: Header, plan: Plan) -> pyvips.Image:
    """Before the colours: there are fewer pixels to convert. Frames are not shrunk across their borders."""
    if header.frames > 1 or not plan.is_scaled_at_once:
        return image
    return resample(image, _as_stored(plan.largest_start, header))


def _convert(image: pyvips.Image, _header: Header, _plan: Plan) -> pyvips.Image:
    return to_srgb(image)


def _hold(image: pyvips.Image, _header: Header, _plan: Plan) -> pyvips.Image:
    """Here the file is read, from top to bottom and once."""
    return image.copy_memory()


def _drop_opaque_alpha(image: pyvips.Image, _header: Header, _plan: Plan) -> pyvips.Image:
    """A GIF always comes with alpha; where nothing is transparent all that follows is cheaper without."""
    if image.hasalpha() and image[image.bands - 1].min() == OPAQUE:
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
