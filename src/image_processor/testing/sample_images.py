"""Pictures made by ourselves, as bytes: every kind of file that a test of the engine or of a front needs."""

import io
import random
import struct
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import pyvips
from PIL import Image

MARKER = b"Camera of nobody"
"""Stands in every kind of metadata of `photo(with_metadata=True)`; it may be found in no variant."""
LATITUDE = ((48, 1), (51, 1), (30, 1))
LONGITUDE = ((2, 1), (17, 1), (40, 1))


def photo(
    width: int = 640,
    height: int = 480,
    *,
    orientation: int = 1,
    quality: int = 85,
    with_metadata: bool = False,
) -> bytes:
    """A JPEG like a camera's, of this size when upright, stored in one of EXIF's eight orientations."""
    stored = _INTO_ORIENTATION[orientation](scene(width, height))
    jpeg = stored.jpegsave_buffer(Q=quality, keep="none")
    segments = [_exif_segment(orientation, with_gps=with_metadata)]
    if with_metadata:
        segments += [_XMP_SEGMENT, _IPTC_SEGMENT, _COMMENT_SEGMENT]
    return _with_segments(jpeg, *segments)


def progressive_jpeg(width: int = 320, height: int = 240) -> bytes:
    """A JPEG that is stored coarse to fine."""
    return bytes(scene(width, height).jpegsave_buffer(interlace=True, keep="none"))


def truncated_jpeg() -> bytes:
    """The first half of a photo."""
    whole = photo()
    return whole[: len(whole) // 2]


def grey_jpeg(width: int = 320, height: int = 240) -> bytes:
    """A JPEG of one channel."""
    return bytes(scene(width, height).colourspace("b-w").jpegsave_buffer(keep="none"))


def cmyk_jpeg(width: int = 320, height: int = 240, *, with_profile: bool = True) -> bytes:
    """A JPEG of four inks, as agencies send them, with or without the profile of the press."""
    inks = scene(width, height).icc_transform("cmyk", input_profile="srgb", intent="perceptual")
    return bytes(inks.jpegsave_buffer(Q=95, keep="icc" if with_profile else "none"))


def p3_jpeg(width: int = 320, height: int = 240) -> bytes:
    """A JPEG in Display P3 with its profile, as telephones make them."""
    wide = vivid(width, height).icc_transform("p3", input_profile="srgb")
    return bytes(wide.jpegsave_buffer(Q=95, keep="icc", subsample_mode="off"))


def jpeg_with_broken_profile(width: int = 320, height: int = 240) -> bytes:
    """A JPEG whose ICC profile is rubbish."""
    jpeg = scene(width, height).jpegsave_buffer(keep="none")
    return _with_segments(jpeg, _segment(0xE2, b"ICC_PROFILE\0\x01\x01" + b"rubbish " * 40))


def png(width: int = 320, height: int = 240, *, compression: int = 6) -> bytes:
    """An opaque PNG, 8 bit."""
    return bytes(scene(width, height).pngsave_buffer(compression=compression, keep="none"))


def png_with_alpha(width: int = 320, height: int = 240) -> bytes:
    """A PNG with a red disc on transparent black: what is scaled without its alpha gets a dark edge."""
    x, y = _coordinates(width, height)
    radius = min(width, height) * 0.4
    inside = ((x - width / 2) ** 2 + (y - height / 2) ** 2) < radius**2
    red = inside.ifthenelse([230, 40, 40], [0, 0, 0])
    return bytes(red.bandjoin(inside).cast("uchar").copy(interpretation="srgb").pngsave_buffer())


def transparent_png(width: int = 64, height: int = 48) -> bytes:
    """A PNG in which nothing can be seen."""
    return bytes(pyvips.Image.black(width, height, bands=4).copy(interpretation="srgb").pngsave_buffer())


def png_16bit(width: int = 320, height: int = 240, *, grey: bool = False) -> bytes:
    """A PNG of 16 bit per channel."""
    deep = scene(width, height).colourspace("grey16" if grey else "rgb16")
    return bytes(deep.pngsave_buffer(bitdepth=16, keep="none"))


def png_with_metadata(width: int = 320, height: int = 240) -> bytes:
    """A PNG with a text chunk and EXIF."""
    plain = png(width, height)
    after_header = 8 + 25
    extra = _chunk(b"tEXt", b"Comment\0" + MARKER) + _chunk(b"eXIf", _exif(1, with_gps=True))
    return plain[:after_header] + extra + plain[after_header:]


def png_header_only(width: int = 30_000, height: int = 30_000) -> bytes:
    """A PNG that announces this size and has no pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", header)
        + _chunk(b"IDAT", zlib.compress(b""))
        + _chunk(b"IEND", b"")
    )


def one_pixel(color: tuple[int, int, int] = (200, 100, 50)) -> bytes:
    """A PNG of 1 x 1."""
    pixel = pyvips.Image.black(1, 1, bands=3) + list(color)
    return bytes(pixel.cast("uchar").copy(interpretation="srgb").pngsave_buffer())


def webp(width: int = 320, height: int = 240, *, lossless: bool = False) -> bytes:
    """A WebP, lossy or lossless."""
    return bytes(scene(width, height).webpsave_buffer(Q=85, lossless=lossless, keep="none"))


def animated_webp(width: int = 160, height: int = 120, *, delays: tuple[int, ...] = (80, 120, 200)) -> bytes:
    """A WebP that shows one frame for each delay in milliseconds, twice over."""
    return bytes(_animation(width, height, delays).webpsave_buffer(lossless=True))


def animated_gif(width: int = 160, height: int = 120, *, delays: tuple[int, ...] = (80, 120, 200)) -> bytes:
    """A GIF that shows one frame for each delay in milliseconds, twice over."""
    return bytes(_animation(width, height, delays).gifsave_buffer())


def tiff(width: int = 320, height: int = 240, *, lab: bool = False, **options: Any) -> bytes:
    """A TIFF, in sRGB or in CIE Lab, with libvips' options for its saver."""
    image = scene(width, height).colourspace("lab") if lab else scene(width, height)
    return bytes(image.tiffsave_buffer(**{"compression": "deflate", "keep": "none", **options}))


def tiff_16bit(width: int = 320, height: int = 240, *, grey: bool = False) -> bytes:
    """A TIFF of 16 bit per channel."""
    deep = scene(width, height).colourspace("grey16" if grey else "rgb16")
    return bytes(deep.tiffsave_buffer(compression="lzw", predictor="horizontal", keep="none"))


def tiff_of_pages(width: int = 160, height: int = 120, *, pages: int = 3) -> bytes:
    """A TIFF whose first page is a scene; the others are white."""
    white = (pyvips.Image.black(width, height, bands=3) + 255).cast("uchar")
    strip = pyvips.Image.arrayjoin([scene(width, height), *[white] * (pages - 1)], across=1)
    return bytes(strip.copy(interpretation="srgb").tiffsave_buffer(page_height=height, compression="lzw"))


def avif(width: int = 320, height: int = 240, *, bits: int = 8, alpha: bool = False) -> bytes:
    """An AVIF of 8, 10 or 12 bit per channel."""
    image = scene(width, height).colourspace("srgb" if bits == 8 else "rgb16")
    if alpha:
        image = image.bandjoin(_half_transparent(image))
    return bytes(image.heifsave_buffer(compression="av1", effort=0, bitdepth=bits, keep="none"))


def animated_avif(width: int = 96, height: int = 64) -> bytes:
    """An AVIF that shows a scene and then its mirror image."""
    first = _pillow(scene(width, height))
    return _saved(first, "AVIF", save_all=True, append_images=[_pillow(scene(width, height).fliphor())])


def heic(width: int = 96, height: int = 64, *, bits: int = 8, alpha: bool = False, turns: int = 0) -> bytes:
    """A HEIC, which shows the scene upright although it is stored so many quarters anticlockwise."""
    import pillow_heif  # noqa: PLC0415 - the only kind of sample that needs it

    image = scene(width, height).colourspace("srgb" if bits == 8 else "rgb16")
    if alpha:
        image = image.bandjoin(_half_transparent(image))
    image = image.rot(f"d{360 - turns * 90}") if turns else image
    mode = ("RGBA" if alpha else "RGB") + ("" if bits == 8 else ";16")
    pixels = bytes(image.write_to_memory())
    file = pillow_heif.from_bytes(mode, (image.width, image.height), pixels)
    # Of EXIF's orientation the encoder makes HEIF's own.
    file.info["exif"] = b"Exif\0\0" + _exif(_ORIENTATION_OF_TURNS[turns], with_gps=False)
    written = io.BytesIO()
    file.save(written, quality=90, chroma=444)
    return written.getvalue()


def bmp(width: int = 320, height: int = 240, *, mode: str = "RGB") -> bytes:
    """A BMP of one of Pillow's modes."""
    return _saved(_pillow(scene(width, height)).convert(mode), "BMP")


def gif(width: int = 320, height: int = 240) -> bytes:
    """A GIF that stands still."""
    return _saved(_pillow(scene(width, height)).quantize(256), "GIF")


def palette_png(width: int = 320, height: int = 240) -> bytes:
    """A PNG of few colours that are looked up in a table."""
    return _saved(_pillow(scene(width, height)).quantize(64), "PNG")


def animated_png(width: int = 96, height: int = 64) -> bytes:
    """A PNG that shows a scene and then its mirror image."""
    first = _pillow(scene(width, height))
    return _saved(first, "PNG", save_all=True, append_images=[_pillow(scene(width, height).fliphor())])


def svg(body: str = '<rect width="60" height="40" fill="#c81e3c"/>', size: str = "") -> bytes:
    """An SVG document with this inside its root element, 120 x 80 unless its attributes say otherwise."""
    size = size or 'width="120" height="80"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'xmlns:xi="http://www.w3.org/2001/XInclude" {size}>{body}</svg>'
    ).encode()


def noise_png(width: int = 320, height: int = 240, *, seed: int = 1) -> bytes:
    """A PNG that nothing can make smaller."""
    pixels = random.Random(seed).randbytes(width * height * 3)  # noqa: S311 - pixels, not secrets
    image = pyvips.Image.new_from_memory(pixels, width, height, 3, "uchar").copy(interpretation="srgb")
    return bytes(image.pngsave_buffer(compression=9, keep="none"))


def scene(width: int, height: int) -> pyvips.Image:
    """Something like a landscape: soft shades, texture, grain; no two corners alike. sRGB, 8 bit."""
    x, y = _coordinates(width, height)
    across, down = x / width, y / height
    hills = (across * 9).sin() * 25 + (down * 13 + across * 4).cos() * 25
    texture = ((x * 0.35).sin() * (y * 0.27).cos()) * 12
    grain = pyvips.Image.gaussnoise(width, height, sigma=3, mean=0, seed=7)
    red = across * 150 + hills + texture + grain + 40
    green = down * 140 + hills * 0.5 + texture + grain + 50
    blue = (1 - across) * 90 + (1 - down) * 90 - hills * 0.4 + grain + 30
    return red.bandjoin([green, blue]).cast("uchar").copy(interpretation="srgb")


def vivid(width: int, height: int) -> pyvips.Image:
    """Strong colours, in which a profile that was left out shows at once. sRGB, 8 bit."""
    x, y = _coordinates(width, height)
    across, down = x / width * 255, y / height * 255
    return across.bandjoin([255 - across, down]).cast("uchar").copy(interpretation="srgb")


def _animation(width: int, height: int, delays: tuple[int, ...]) -> pyvips.Image:
    shades = [[(frame * 90) % 256, 200 - (frame * 60) % 200, 60] for frame in range(len(delays))]
    frames = [(pyvips.Image.black(width, height, bands=3) + shade).cast("uchar") for shade in shades]
    strip = pyvips.Image.arrayjoin(frames, across=1).copy(interpretation="srgb")
    strip.set_type(pyvips.GValue.gint_type, "page-height", height)
    strip.set_type(pyvips.GValue.gint_type, "loop", 2)
    strip.set_type(pyvips.GValue.array_int_type, "delay", list(delays))
    return strip


def _half_transparent(image: pyvips.Image) -> pyvips.Image:
    """An alpha channel for an image: its left half opaque, its right half as good as half transparent."""
    opaque, half = (255, 128) if image.format == "uchar" else (65535, 32896)
    x, _ = _coordinates(image.width, image.height)
    return (x < image.width / 2).ifthenelse(opaque, half).cast(image.format)


def _pillow(image: pyvips.Image) -> Image.Image:
    return Image.frombytes("RGB", (image.width, image.height), bytes(image.write_to_memory()))


def _saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    written = io.BytesIO()
    image.save(written, kind, **options)
    return written.getvalue()


_ORIENTATION_OF_TURNS = {0: 1, 1: 6, 2: 3, 3: 8}
"""EXIF's name for a picture that is to be turned clockwise by so many quarters."""


def _coordinates(width: int, height: int) -> tuple[pyvips.Image, pyvips.Image]:
    both = pyvips.Image.xyz(width, height)
    return both[0], both[1]


_INTO_ORIENTATION: Mapping[int, Callable[[pyvips.Image], pyvips.Image]] = {
    1: lambda image: image,
    2: lambda image: image.fliphor(),
    3: lambda image: image.rot180(),
    4: lambda image: image.flipver(),
    5: lambda image: image.rot90().fliphor(),
    6: lambda image: image.rot270(),
    7: lambda image: image.rot270().fliphor(),
    8: lambda image: image.rot90(),
}
"""How an upright picture is laid down so that a viewer who heeds the orientation sees it upright."""


def _with_segments(jpeg: bytes, *segments: bytes) -> bytes:
    start_of_image = 2
    return jpeg[:start_of_image] + b"".join(segments) + jpeg[start_of_image:]


def _segment(marker: int, payload: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _exif_segment(orientation: int, *, with_gps: bool) -> bytes:
    return _segment(0xE1, b"Exif\0\0" + _exif(orientation, with_gps=with_gps))


def _exif(orientation: int, *, with_gps: bool) -> bytes:
    """A TIFF structure of two directories: orientation and make, then where it was taken."""
    short, ascii_, long_ = 3, 2, 4
    make = MARKER + b"\0"
    entries = 3 if with_gps else 2
    make_at = 8 + 2 + 12 * entries + 4
    gps_at = make_at + len(make)
    fields = [
        (0x010F, ascii_, len(make), struct.pack(">I", make_at)),
        (0x0112, short, 1, struct.pack(">HH", orientation, 0)),
    ]
    if with_gps:
        fields.append((0x8825, long_, 1, struct.pack(">I", gps_at)))
    return b"MM\0*\0\0\0\x08" + _directory(fields) + make + (_gps(gps_at) if with_gps else b"")


def _gps(start: int) -> bytes:
    ascii_, rational = 2, 5
    latitude_at = start + 2 + 12 * 4 + 4
    fields = [
        (1, ascii_, 2, b"N\0\0\0"),
        (2, rational, 3, struct.pack(">I", latitude_at)),
        (3, ascii_, 2, b"E\0\0\0"),
        (4, rational, 3, struct.pack(">I", latitude_at + 24)),
    ]
    return _directory(fields) + b"".join(struct.pack(">II", *part) for part in (*LATITUDE, *LONGITUDE))


def _directory(fields: list[tuple[int, int, int, bytes]]) -> bytes:
    entries = b"".join(struct.pack(">HHI", tag, kind, count) + value for tag, kind, count, value in fields)
    return struct.pack(">H", len(fields)) + entries + struct.pack(">I", 0)


_XMP_SEGMENT = _segment(
    0xE1, b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta xmlns:x='adobe:ns:meta/'>" + MARKER + b"</x:xmpmeta>"
)
_IPTC_SEGMENT = _segment(
    0xED,
    b"Photoshop 3.0\x008BIM\x04\x04\0\0"
    + struct.pack(">I", len(MARKER) + 5)
    + b"\x1c\x02\x50"
    + struct.pack(">H", len(MARKER))
    + MARKER
    + b"\0",
)
_COMMENT_SEGMENT = _segment(0xFE, MARKER)
