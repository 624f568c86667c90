"""Any colour space to sRGB, 8 bit: grey stays one band, everything else becomes three; alpha is kept."""

import pyvips

GREY = frozenset({"b-w", "grey16"})


def to_srgb(image: pyvips.Image) -> pyvips.Image:
    """The same picture in sRGB or sRGB's grey, 8 bit; a profile that is broken or does not fit is ignored."""
    converted = _through_profile(image) if image.get_typeof("icc-profile-data") else None
    if converted is None:
        converted = _without_profile(image)
    return converted if converted.format == "uchar" else converted.cast("uchar")


def expanded(image: pyvips.Image) -> pyvips.Image:
    """Grey with three bands, for where a colour is to be laid beside it."""
    return image.colourspace("srgb") if image.interpretation in GREY else image


def _through_profile(image: pyvips.Image) -> pyvips.Image | None:
    try:
        converted = image.icc_transform("srgb", embedded=True, intent="perceptual", depth=8)
    except pyvips.Error:
        return None
    return converted.colourspace("b-w") if image.interpretation in GREY else converted


def _without_profile(image: pyvips.Image) -> pyvips.Image:
    if image.interpretation == "cmyk":
        # libvips' own profile stands for the press that nobody named.
        return image.icc_transform("srgb", embedded=False, input_profile="cmyk", intent="perceptual", depth=8)
    return image.colourspace("b-w" if image.interpretation in GREY else "srgb")


def channels(color: str) -> list[int]:
    """Red, green and blue of `#rrggbb`, 0 to 255."""
    return list(bytes.fromhex(color.removeprefix("#")))
