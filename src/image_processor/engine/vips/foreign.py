"""HEIC, BMP and TIFF with old-style JPEG: pillow-heif and Pillow decode what libvips cannot read here."""

import struct
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import pyvips

from image_processor.engine.vips.failures import is_out_of_memory
from image_processor.errors import CorruptImageError, UnsupportedFormatError

MAX_REASON_LENGTH = 200
P3_PRIMARIES = 12
"""ITU-T H.273, table 2: SMPTE EG 432-1, whose transfer curve in pictures is that of sRGB."""
HEIC_PIXEL_BYTES = 12
"""Twice of what a decode takes at its highest."""
_FAULTS = (OSError, ValueError, RuntimeError, SyntaxError, EOFError, LookupError, TypeError, struct.error)
"""What the two libraries raise for files that they cannot make sense of."""
PROFILE = "icc-profile-data"
_FIELDS = {"icc_profile": PROFILE, "exif": "exif-data", "xmp": "xmp-data"}
"""pillow-heif's names for what libvips calls by these."""
_INTERPRETATIONS = {
    "uchar": {1: "b-w", 2: "b-w", 3: "srgb", 4: "srgb"},
    "ushort": {1: "grey16", 2: "grey16", 3: "rgb16", 4: "rgb16"},
}
_MODES = {"1": "L", "L": "L", "LA": "LA", "P": "RGB", "RGB": "RGB", "YCbCr": "RGB", "RGBA": "RGBA"}
"""What Pillow calls a file's pixels, and as what they are handed on."""
_COMPRESSION_TAG, _OLD_STYLE_JPEG = 259, 6
_ENTRY_BYTES = 12
_MOST_ENTRIES = 4096


def peek_heic(path: Path) -> pyvips.Image:
    """An image of the primary picture's size, depth and attachments, without its pixels."""
    with _reading():
        return _heic_header(_open_heic(path))


def read_heic(path: Path) -> pyvips.Image:
    """The primary picture, upright: libheif has turned it as the file says."""
    with _reading():
        file = _open_heic(path)
        announced = file.size
        with _room_for(announced):
            pixels = file.data
        if file.size != announced or file.stride * file.size[1] != len(pixels):
            raise CorruptImageError("The image is damaged: its header and its pixels give different sizes.")
        layout = _heic_header(file)
        image = _from_memory(pixels, layout)
        if file.premultiplied_alpha:
            image = image.unpremultiply().rint().cast(layout.format)
        profile = {name: value for name, value in _heic_fields(file).items() if name == PROFILE}
    return stretched(_with_fields(image, profile), _bits(file.mode))


def peek_bmp(path: Path) -> pyvips.Image:
    """An image of the file's size, without its pixels."""
    with _reading(), _open_bmp(path) as file:
        return _blank(file.size, len(_mode(file)), "uchar")


def read_bmp(path: Path) -> pyvips.Image:
    """The picture, grey or RGB, with alpha where the file has it."""
    with _reading(), _open_bmp(path) as file:
        return _pixels(file)


def has_old_style_jpeg(path: Path) -> bool:
    """Whether the first page of a TIFF is compressed in the way that was given up in 1995."""
    with path.open("rb") as file:
        head = file.read(8)
        order: Literal["little", "big"] = "little" if head[:2] == b"II" else "big"
        file.seek(int.from_bytes(head[4:8], order))
        count = min(int.from_bytes(file.read(2), order), _MOST_ENTRIES)
        table = file.read(count * _ENTRY_BYTES)
    entries = (table[at : at + _ENTRY_BYTES] for at in range(0, len(table), _ENTRY_BYTES))
    tags = {int.from_bytes(entry[:2], order): int.from_bytes(entry[8:10], order) for entry in entries}
    return tags.get(_COMPRESSION_TAG) == _OLD_STYLE_JPEG


def read_old_style_tiff(path: Path) -> pyvips.Image:
    """The first page of a TIFF with old-style JPEG in it, upright: Pillow turns it as the file says."""
    from PIL.TiffImagePlugin import TiffImageFile  # noqa: PLC0415

    with _reading(), TiffImageFile(str(path)) as file:
        return _pixels(file)


def stretched(image: pyvips.Image, bits: int) -> pyvips.Image:
    """
    The image with its white at 65535.

    Pictures of 10 or 12 bits come shifted into 16: the highest level is a little less than that.
    """
    if image.format != "ushort" or not 8 < bits < 16:
        return image
    highest = (2**bits - 1) << (16 - bits)
    return image.linear(65535 / highest, 0.5).cast("ushort")


# Both libraries are imported where they are first needed: they cost a tenth of a second and 15 MB.


def _open_heic(path: Path) -> Any:
    import pillow_heif  # noqa: PLC0415
    from pillow_heif import options  # noqa: PLC0415

    options.DECODE_THREADS = 1  # as libvips: throughput comes from processes
    return pillow_heif.open_heif(str(path), convert_hdr_to_8bit=False)


def _open_bmp(path: Path) -> Any:
    from PIL.BmpImagePlugin import BmpImageFile  # noqa: PLC0415

    return BmpImageFile(str(path))


def _heic_header(file: Any) -> pyvips.Image:
    bands = len(file.mode.partition(";")[0])
    blank = _blank(file.size, bands, "uchar" if _bits(file.mode) == 8 else "ushort")
    header = _with_fields(blank, _heic_fields(file))
    # Told EXIF, libvips has read the orientation: libheif has applied it, or the file has none that counts.
    header.set_type(pyvips.GValue.gint_type, "orientation", 1)
    return header


def _bits(mode: str) -> int:
    """Of pillow-heif's mode: pixels of more than 8 bits always come in 16, whatever the file has."""
    return int(mode.partition(";")[2] or 8)


def _heic_fields(file: Any) -> Mapping[str, bytes]:
    info = file.info
    fields = {name: bytes(info[key]) for key, name in _FIELDS.items() if info.get(key)}
    if PROFILE not in fields and _primaries(info) == P3_PRIMARIES:
        fields[PROFILE] = pyvips.Image.profile_load("p3")
    return fields


def _primaries(info: Mapping[str, Any]) -> int | None:
    return (info.get("nclx_profile") or {}).get("color_primaries")


def _pixels(file: Any) -> pyvips.Image:
    file.load()
    mode = _mode(file)
    pixels = (file if file.mode == mode else file.convert(mode)).tobytes()
    return _from_memory(pixels, _blank(file.size, len(mode), "uchar"))


def _mode(file: Any) -> str:
    if file.mode not in _MODES:
        raise UnsupportedFormatError(f"This is a {file.format} image of a rare kind, which is not supported.")
    return _MODES[file.mode]


def _blank(size: tuple[int, int], bands: int, depth: str) -> pyvips.Image:
    """Black that is never worked out: libvips' images are made line by line when somebody asks."""
    image = pyvips.Image.black(*size, bands=bands).cast(depth)
    return image.copy(interpretation=_INTERPRETATIONS[depth][bands])


def _from_memory(pixels: Any, layout: pyvips.Image) -> pyvips.Image:
    image = pyvips.Image.new_from_memory(pixels, layout.width, layout.height, layout.bands, layout.format)
    return image.copy(interpretation=layout.interpretation)


def _with_fields(image: pyvips.Image, fields: Mapping[str, bytes]) -> pyvips.Image:
    image = image.copy()
    for name, value in fields.items():
        image.set_type(pyvips.GValue.blob_type, name, value)
    return image


@contextmanager
def _room_for(size: tuple[int, int]) -> Iterator[None]:
    """What libheif takes for damage may be a lack of memory: MemoryError where there is too little."""
    try:
        yield
    except _FAULTS:
        bytearray(size[0] * size[1] * HEIC_PIXEL_BYTES)
        raise


@contextmanager
def _reading() -> Iterator[None]:
    """What fails inside is the image's fault, or MemoryError; what the library says is kept as the cause."""
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    except (CorruptImageError, UnsupportedFormatError):
        raise
    except _FAULTS as error:
        reason = (str(error).strip().splitlines() or ["no reason given"])[0][:MAX_REASON_LENGTH].rstrip(" .")
        if is_out_of_memory(reason):
            raise MemoryError(reason) from error
        if "nsupported" in reason:
            raise UnsupportedFormatError(
                f"The image is coded in a way that cannot be decoded here: {reason}."
            ) from error
        raise CorruptImageError(f"The image is damaged or cut off: {reason}.") from error
