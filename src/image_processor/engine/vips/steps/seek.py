"""Seek: keep the region that has most of what is looked for. Faces are found elsewhere."""

from collections.abc import Callable, Mapping, Sequence

import pyvips

from image_processor.engine.vips.color import in_depth
from image_processor.engine.vips.faces import Box, find_faces
from image_processor.engine.vips.geometry import Cut, Seek, Size
from image_processor.engine.vips.picture import Picture
from image_processor.engine.vips.steps.cut import cut
from image_processor.engine.vips.steps.scale import resample
from image_processor.pipeline import Smart

LONGEST_SIDE = 640
"""Regions are looked for in a copy no larger than this: the same ones are found, in bounded time."""
PICKED_PIXELS = 200_000_000
"""Above so many pixels the copy is made of single ones: slivers that are enlarged to cover a square."""
Point = tuple[int, int]


def seek(picture: Picture, step: Seek) -> Picture:
    """
    The same region of every frame, found in the first.

    Raises MissingExtraError where faces are looked for without the extra `faces`.
    """
    x, y = _FINDERS[step.what](_reduced(picture.first), picture.size, step)
    return cut(picture, Cut(x, y, step.size))


def _reduced(image: pyvips.Image) -> pyvips.Image:
    """A copy in memory, 8 bit, whose longest side has at most 640 pixels."""
    if image.width * image.height > PICKED_PIXELS:
        factors = (max(1, side // LONGEST_SIDE) for side in (image.width, image.height))
        image = image.subsample(*factors, point=True)
    size = Size(image.width, image.height)
    longest = max(size.width, size.height)
    small = size if longest <= LONGEST_SIDE else size.scaled(LONGEST_SIDE, longest)
    return resample(in_depth(image, 8), small).copy_memory()


def _find_interest(copy: pyvips.Image, size: Size, step: Seek) -> Point:
    """Where libvips' own search puts a region of these proportions."""
    width = max(1, min(copy.width, round(step.size.width * copy.width / size.width)))
    height = max(1, min(copy.height, round(step.size.height * copy.height / size.height)))
    found = copy.smartcrop(width, height, interesting=step.what.value)
    # The offset of a crop is how far the whole picture lies to the left of it and above it.
    x, y = -found.xoffset * size.width / copy.width, -found.yoffset * size.height / copy.height
    return _within(x, size.width - step.size.width), _within(y, size.height - step.size.height)


def _find_face(copy: pyvips.Image, size: Size, step: Seek) -> Point:
    """Around the faces; in the middle where there are none, as `Gravity.CENTER` is."""
    spare = (size.width - step.size.width, size.height - step.size.height)
    faces = [_scaled(face, size.width / copy.width, size.height / copy.height) for face in find_faces(copy)]
    if not faces:
        return (spare[0] + 1) // 2, (spare[1] + 1) // 2
    around = _union(faces, step.size)
    x, y = around.x + around.width / 2, around.y + around.height / 2
    return _within(x - step.size.width / 2, spare[0]), _within(y - step.size.height / 2, spare[1])


def _scaled(face: Box, across: float, down: float) -> Box:
    return Box(face.x * across, face.y * down, face.width * across, face.height * down)


def _union(faces: Sequence[Box], kept: Size) -> Box:
    """Around the largest face and, the larger ones first, every other that still fits in what is kept."""
    first, *others = sorted(faces, key=lambda face: face.area, reverse=True)
    for face in others:
        joined = first.join(face)
        if joined.width <= kept.width and joined.height <= kept.height:
            first = joined
    return first


def _within(offset: float, spare: int) -> int:
    return min(max(0, round(offset)), spare)


_FINDERS: Mapping[Smart, Callable[[pyvips.Image, Size, Seek], Point]] = {
    Smart.ATTENTION: _find_interest,
    Smart.ENTROPY: _find_interest,
    Smart.FACE: _find_face,
}
