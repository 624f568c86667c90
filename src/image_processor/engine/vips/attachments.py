"""What an original carries beside its pixels, and what of it a file is given: by policy, never by chance."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import TYPE_CHECKING

import pyvips

from image_processor.engine.vips.exif import HEADER, Exif, read_exif
from image_processor.engine.vips.geometry import Size
from image_processor.engine.vips.iptc import photoshop_block, read_iptc
from image_processor.engine.vips.segments import APP1, APP2, APP13, MAX_BODY, segment, with_segments
from image_processor.engine.vips.xmp import MAX_XMP_BYTES, cleaned_xmp
from image_processor.pipeline import Metadata

if TYPE_CHECKING:
    from image_processor.engine.vips.save.target import Target

PROFILE, EXIF, XMP, IPTC = "icc-profile-data", "exif-data", "xmp-data", "iptc-data"
MAX_PROFILE_BYTES = 4 * 1024 * 1024
MAX_READ_EXIF_BYTES = 256 * 1024
"""With its thumbnail; without it may have MAX_EXIF_BYTES."""
MAX_READ_IPTC_BYTES = 1024 * 1024
PIXELS_PER_MM = 72 / 25.4
"""The resolution of a file that says nothing of its original: 72 to the inch."""

_OF_THE_PIXELS = frozenset(
    {
        *("width", "height", "bands", "format", "coding", "interpretation"),
        *("xoffset", "yoffset", "xres", "yres", "filename"),
    }
)
"""libvips' fields without which an image would not be itself."""
_RESOLUTION_UNIT = "resolution-unit"
_ICC_IN_JPEG = b"ICC_PROFILE\0"
_XMP_IN_JPEG = b"http://ns.adobe.com/xap/1.0/\0"


@dataclass(frozen=True)
class Attachments:
    """Profile and metadata as they lie in the original; all of it untrusted bytes."""

    profile: bytes | None = None
    """The ICC profile that the pixels are in; None where they were brought to sRGB."""
    exif: bytes | None = None
    """A TIFF block, its thumbnail included."""
    xmp: bytes | None = None
    iptc: bytes | None = None
    """Bare records, or the Photoshop block around them."""


NOTHING = Attachments()


def read_attachments(image: pyvips.Image) -> Attachments:
    """What an image, of which only the header is read, carries; what is too long to be kept is left."""
    return Attachments(
        profile=_blob(image, PROFILE, MAX_PROFILE_BYTES),
        exif=_blob(image, EXIF, MAX_READ_EXIF_BYTES) or _exif_of_tiff(image),
        xmp=_blob(image, XMP, MAX_XMP_BYTES),
        iptc=_blob(image, IPTC, MAX_READ_IPTC_BYTES),
    )


def attach(image: pyvips.Image, target: "Target") -> tuple[pyvips.Image, str]:
    """
    The image with what the policy keeps and nothing else, and libvips' `keep` for its saver.

    The pixels are upright: a kept orientation is 1. An animation's times go too; its saver sets
    them afterwards. EXIF reaches JPEG, PNG, WebP and AVIF, where libvips adds
    what it holds for mandatory (resolution, version, size); XMP all but GIF; IPTC reaches JPEG.
    """
    kept = _Kept.of(target, Size(image.width, image.height))
    bare = _bare(image, keeps_resolution=target.metadata is Metadata.ALL)
    for field, value in kept.fields():
        bare.set_type(_type_of(value), field, value)
    return bare, "|".join(kept.kinds()) or "none"


def jpeg_segments(target: "Target", size: Size | None = None) -> tuple[bytes, ...]:
    """
    EXIF, XMP, ICC profile and IPTC as the policy keeps them, ready to stand behind SOI and APP0.

    For JPEG encoders beside libvips. Without the picture's size the EXIF block does not say one.
    """
    kept = _Kept.of(target, size)
    return tuple(segment(marker, body) for marker, body in kept.bodies() if len(body) <= MAX_BODY)


def kept_exif(target: "Target", size: Size) -> Exif | None:
    """EXIF of an upright picture of this size, as the policy keeps it: for TIFF, where it is no block."""
    return _Kept.of(target, size).exif


@dataclass(frozen=True)
class _Kept:
    """What the policy leaves."""

    profile: bytes | None
    exif: Exif | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None

    @classmethod
    def of(cls, target: "Target", size: Size | None) -> "_Kept":
        return _POLICIES[target.metadata](target.attachments, size)

    def fields(self) -> Iterator[tuple[str, bytes | str]]:
        """As libvips knows them."""
        if self.profile:
            yield PROFILE, self.profile
        if self.exif:
            yield from _exif_fields(self.exif.to_bytes())
        if self.xmp:
            yield XMP, self.xmp
        if self.iptc:
            yield IPTC, photoshop_block(self.iptc)

    def kinds(self) -> Iterator[str]:
        """The names of libvips' `keep`."""
        kinds = {"icc": self.profile, "exif": self.exif, "xmp": self.xmp, "iptc": self.iptc}
        return (kind for kind, value in kinds.items() if value)

    def bodies(self) -> Iterator[tuple[int, bytes]]:
        """Markers and bodies of a JPEG's segments."""
        if self.exif:
            yield APP1, HEADER + self.exif.to_bytes()
        if self.xmp:
            yield APP1, _XMP_IN_JPEG + self.xmp
        if self.profile:
            yield from _profile_bodies(self.profile)
        if self.iptc:
            yield APP13, photoshop_block(self.iptc)


def _keep_nothing(found: Attachments, _size: Size | None) -> _Kept:
    return _Kept(found.profile)


def _keep_copyright(found: Attachments, _size: Size | None) -> _Kept:
    exif = read_exif(found.exif) if found.exif else None
    return _Kept(found.profile, exif.copyright_only() if exif else None)


def _keep_all(found: Attachments, size: Size | None) -> _Kept:
    exif = read_exif(found.exif) if found.exif else None
    return _Kept(
        found.profile,
        exif.describing(size) if exif else None,
        cleaned_xmp(found.xmp) if found.xmp else None,
        read_iptc(found.iptc) if found.iptc else None,
    )


_POLICIES: Mapping[Metadata, Callable[[Attachments, Size | None], _Kept]] = {
    Metadata.NONE: _keep_nothing,
    Metadata.COPYRIGHT: _keep_copyright,
    Metadata.ALL: _keep_all,
}


def _blob(image: pyvips.Image, field: str, most: int) -> bytes | None:
    if image.get_typeof(field) != pyvips.GValue.blob_type:
        return None
    value = bytes(image.get(field))
    return value if 0 < len(value) <= most else None


def _exif_of_tiff(image: pyvips.Image) -> bytes | None:
    """A TIFF is an EXIF block as it stands; libvips does not hand its tags on."""
    if not image.get_typeof("vips-loader") or image.get("vips-loader") != "tiffload":
        return None
    with Path(image.filename).open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as data:
        exif = read_exif(data)
    return exif.to_bytes() if exif else None


def _bare(image: pyvips.Image, *, keeps_resolution: bool) -> pyvips.Image:
    if keeps_resolution:
        bare, fields = image.copy(), _OF_THE_PIXELS | {_RESOLUTION_UNIT}
    else:
        bare, fields = image.copy(xres=PIXELS_PER_MM, yres=PIXELS_PER_MM), _OF_THE_PIXELS
    for field in set(bare.get_fields()) - fields:
        bare.remove(field)
    return bare


def _type_of(value: bytes | str) -> int:
    return int(pyvips.GValue.gstr_type if isinstance(value, str) else pyvips.GValue.blob_type)


def _exif_fields(block: bytes) -> Iterator[tuple[str, bytes | str]]:
    """
    The block and libvips' own field for each of its tags.

    libvips writes a tag only when its field is there as well; it is made by reading a JPEG with the block.
    """
    carrier = pyvips.Image.jpegload_buffer(with_segments(_smallest_jpeg(), [segment(APP1, HEADER + block)]))
    return ((field, carrier.get(field)) for field in carrier.get_fields() if field.startswith("exif-"))


@cache
def _smallest_jpeg() -> bytes:
    return bytes(pyvips.Image.black(1, 1).jpegsave_buffer(keep="none"))


def _profile_bodies(profile: bytes) -> Iterator[tuple[int, bytes]]:
    room = MAX_BODY - len(_ICC_IN_JPEG) - 2
    chunks = [profile[at : at + room] for at in range(0, len(profile), room)]
    for number, chunk in enumerate(chunks, start=1):
        yield APP2, _ICC_IN_JPEG + bytes((number, len(chunks))) + chunk
