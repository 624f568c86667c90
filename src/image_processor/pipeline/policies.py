"""What is kept beside the pixels, and how hard the encoders try."""

from enum import StrEnum


class Metadata(StrEnum):
    """What of the original's metadata a file keeps; its orientation is always applied to the pixels."""

    NONE = "none"
    """Nothing."""
    COPYRIGHT = "copyright"
    """EXIF's artist and copyright."""
    ALL = "all"
    """EXIF without its embedded thumbnail, XMP, IPTC; the place where a photo was taken among them."""


class Profile(StrEnum):
    """The colour space of the files."""

    SRGB = "srgb"
    """sRGB, without a profile."""
    SOURCE = "source"
    """The original's, its ICC profile embedded: Display P3 stays P3. CMYK and Lab become sRGB."""


class Optimize(StrEnum):
    """How much time a smaller file is worth."""

    SPEED = "speed"
    BALANCED = "balanced"
    SIZE = "size"
    """Within 5 % of the smallest file that the best encoder settings known give at the same quality."""
