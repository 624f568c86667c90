"""Any colour space to sRGB, or kept as it came: grey stays one band, everything else becomes three."""

from collections.abc import Mapping

import pyvips

GREY = frozenset({"b-w", "grey16"})
OPAQUE = 255
_OWN_SPACES: Mapping[str, bytes] = {
    **dict.fromkeys(("srgb", "rgb", "rgb16"), b"RGB "),
    **dict.fromkeys(GREY, b"GRAY"),
}
"""What an ICC profile says it is for (ICC.1:2022, table 19), by the pixels that it can be kept with."""
_LEVELS: Mapping[str, float] = {"char": 2 * 257, "short": 2, "uint": 1 / 65537, "int": 1 / 32768}
"""From the levels of rare kinds of whole numbers to those of 16 bits; what is negative is black."""
_MOST_BANDS: Mapping[str, int] = {
    **dict.fromkeys(GREY, 2),
    **dict.fromkeys(("srgb", "rgb", "rgb16", "scrgb", "lab", "labs"), 4),
    "cmyk": 5,
}
_INTERPRETATIONS: Mapping[int, tuple[str, str]] = {8: ("b-w", "srgb"), 16: ("grey16", "rgb16")}
"""Of grey and of colour, by bits a channel."""
_HEADER_BYTES = 128
_TAG_BYTES = 12


def to_srgb(image: pyvips.Image, *, depth: int = 8) -> pyvips.Image:
    """
    The same picture in sRGB or sRGB's grey, without a profile, in 8 or 16 bits a channel; alpha is kept.

    A profile that is broken or does not fit is ignored.
    """
    image = _nominal(image)
    converted = _through_profile(image, depth) if image.get_typeof("icc-profile-data") else None
    if converted is None:
        converted = _without_profile(image, depth)
    return without_profile(in_depth(converted, depth))


def in_own_space(image: pyvips.Image, *, depth: int = 8) -> pyvips.Image:
    """The same picture in the space of its own profile, in 8 or 16 bits; the profile stays with it."""
    return in_depth(image, depth)


def has_own_space(image: pyvips.Image) -> bool:
    """Whether these are RGB or grey pixels with a profile for just these, sound by its header."""
    if not image.get_typeof("icc-profile-data"):
        return False
    profile = bytes(image.get("icc-profile-data"))
    return _is_sound(profile) and profile[16:20] == _OWN_SPACES.get(image.interpretation)


def in_depth(image: pyvips.Image, depth: int) -> pyvips.Image:
    """The same colours with 8 or 16 bits a channel, alpha too; from 16 to 8 to the nearest level."""
    if depth == 16 and image.format == "uchar":
        image = image.linear(257, 0)
    elif depth == 8 and image.format == "ushort":
        image = image.linear(1 / 257, 0.5)
    image = image.cast("uchar" if depth == 8 else "ushort")
    return image.copy(interpretation=_INTERPRETATIONS[depth][image.bands > 2])


def expanded(image: pyvips.Image) -> pyvips.Image:
    """Grey with three bands, for where a colour is to be laid beside it."""
    if image.interpretation not in GREY:
        return image
    return image.colourspace("rgb16" if image.format == "ushort" else "srgb")


def without_profile(image: pyvips.Image) -> pyvips.Image:
    """The image, its pixels as they are, without the profile that it carries."""
    if not image.get_typeof("icc-profile-data"):
        return image
    image = image.copy()
    image.remove("icc-profile-data")
    return image


def _nominal(image: pyvips.Image) -> pyvips.Image:
    """Rare kinds of numbers as libvips has colour spaces for, and no channels beyond alpha."""
    if image.bands > _MOST_BANDS.get(image.interpretation, image.bands):
        image = image[: _MOST_BANDS[image.interpretation]]
    if image.format in _LEVELS and image.interpretation != "labs":
        return in_depth(image.linear(_LEVELS[image.format], 0).cast("ushort"), 16)
    if image.format == "float" and image.interpretation in GREY:
        # As libvips takes RGB of this kind: 0 to 1 in linear light.
        bands = [image[0]] * 3 + [image[band] for band in range(1, image.bands)]
        return bands[0].bandjoin(bands[1:]).copy(interpretation="scrgb").colourspace("grey16")
    return image


def _through_profile(image: pyvips.Image, depth: int) -> pyvips.Image | None:
    try:
        converted = image.icc_transform("srgb", embedded=True, intent="perceptual", depth=depth)
    except pyvips.Error:
        return None
    return converted.colourspace(_INTERPRETATIONS[depth][0]) if image.interpretation in GREY else converted


def _without_profile(image: pyvips.Image, depth: int) -> pyvips.Image:
    if image.interpretation == "cmyk":
        # libvips' own profile stands for the press that nobody named.
        return image.icc_transform(
            "srgb", embedded=False, input_profile="cmyk", intent="perceptual", depth=depth
        )
    if image.interpretation in _OWN_SPACES and image.format in ("uchar", "ushort"):
        return image
    return image.colourspace(_INTERPRETATIONS[depth][image.interpretation not in GREY])


def _is_sound(profile: bytes) -> bool:
    """Whether a profile has a signature, and room for all that its table of tags names."""
    if len(profile) < _HEADER_BYTES + 4 or profile[36:40] != b"acsp":
        return False
    count = int.from_bytes(profile[_HEADER_BYTES : _HEADER_BYTES + 4])
    table = profile[_HEADER_BYTES + 4 : _HEADER_BYTES + 4 + count * _TAG_BYTES]
    if not count or len(table) != count * _TAG_BYTES:
        return False
    entries = (table[at : at + _TAG_BYTES] for at in range(0, len(table), _TAG_BYTES))
    return all(int.from_bytes(entry[4:8]) + int.from_bytes(entry[8:12]) <= len(profile) for entry in entries)


def channels(color: str) -> list[int]:
    """Red, green and blue of `#rrggbb` or `#rrggbbaa`, 0 to 255."""
    return list(bytes.fromhex(color.removeprefix("#")))[:3]


def opacity(color: str) -> int:
    """Alpha of `#rrggbb` or `#rrggbbaa`, 0 to 255; without one the colour is opaque."""
    return bytes.fromhex(color.removeprefix("#") + "ff")[3]


def beside(image: pyvips.Image, color: str) -> pyvips.Image:
    """The image with the bands that this colour needs beside it: three unless it is grey, and its alpha."""
    if image.interpretation in GREY and len(set(channels(color))) > 1:
        image = without_profile(expanded(image))
    if opacity(color) == OPAQUE or image.hasalpha():
        return image
    return image.addalpha()


def pixel(color: str, image: pyvips.Image) -> list[float]:
    """The colour as a pixel of this image, which is `beside` it."""
    bands = channels(color)[: 1 if image.interpretation in GREY else 3]
    if image.hasalpha():
        bands.append(opacity(color))
    return [level * most(image) / 255 for level in bands]


def most(image: pyvips.Image) -> int:
    """The level of white, and of an alpha that is opaque."""
    return 65_535 if image.interpretation in {"rgb16", "grey16"} else 255
