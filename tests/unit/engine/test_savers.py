"""AVIF, GIF, TIFF and WebP as they are written, opened by Pillow."""

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import pyvips
from PIL import Image, ImageSequence

from image_processor.engine.vips.picture import Picture
from image_processor.engine.vips.save.avif import save_avif
from image_processor.engine.vips.save.depth import at_depth, eight_bit
from image_processor.engine.vips.save.gif import save_gif
from image_processor.engine.vips.save.target import Target
from image_processor.engine.vips.save.tiff import save_tiff
from image_processor.engine.vips.save.webp import save_webp
from image_processor.pipeline import AvifOutput, GifOutput, Optimize, TiffOutput, WebpOutput
from image_processor.testing.sample_images import scene

SAVERS = {AvifOutput: save_avif, GifOutput: save_gif, TiffOutput: save_tiff, WebpOutput: save_webp}
ANIMATED = (WebpOutput(), GifOutput())
DELAYS = (80, 120, 200)


def _write(output, picture: Picture, folder: Path, optimize: Optimize = Optimize.BALANCED) -> bytes:
    target = Target(folder / "file", optimize=optimize)
    SAVERS[type(output)](picture, output, target)
    return target.path.read_bytes()


def _opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def _ramp(width: int = 64, height: int = 48) -> pyvips.Image:
    """0 to 255 from left to right."""
    return (
        (pyvips.Image.xyz(width, height)[0] * (255 / (width - 1)))
        .rint()
        .cast("uchar")
        .copy(interpretation="b-w")
    )


def _grey() -> pyvips.Image:
    return scene(64, 48).colourspace("b-w")


def _deep(bands: int) -> pyvips.Image:
    """16 bits a channel with levels that 8 bits do not have."""
    xyz = pyvips.Image.xyz(64, 48)
    levels = [xyz[0] * 1000 + xyz[1] * 7, xyz[1] * 1300 + 3, xyz[0] * 500 + xyz[1] * 600]
    image = levels[0].bandjoin(levels[1:]) if bands == 3 else levels[0]
    return image.cast("ushort").copy(interpretation="rgb16" if bands == 3 else "grey16")


PICTURES: dict[str, Callable[[], pyvips.Image]] = {
    "colour": lambda: scene(64, 48),
    "colour with alpha": lambda: scene(64, 48).bandjoin(_ramp()),
    "grey": _grey,
    "grey with alpha": lambda: _grey().bandjoin(_ramp()),
    "one pixel": lambda: scene(64, 48).crop(10, 10, 1, 1),
    "odd sides": lambda: scene(63, 5),
    "16 bit": lambda: _deep(3),
    "16 bit grey": lambda: _deep(1),
}
OUTPUTS = {
    "webp": WebpOutput(),
    "webp lossless": WebpOutput(lossless=True),
    "webp near-lossless": WebpOutput(near_lossless=True, quality=60),
    "avif": AvifOutput(speed=9),
    "avif 4:4:4": AvifOutput(speed=9, subsampling="4:4:4"),
    "avif lossless": AvifOutput(speed=9, lossless=True),
    "avif 10 bit": AvifOutput(speed=9, bit_depth=10),
    "avif 12 bit": AvifOutput(speed=9, bit_depth=12, lossless=True),
    "gif": GifOutput(),
    "tiff": TiffOutput(),
    "tiff none": TiffOutput(compression="none"),
    "tiff lzw": TiffOutput(compression="lzw"),
    "tiff jpeg": TiffOutput(compression="jpeg"),
    "tiff 16 bit": TiffOutput(bit_depth=16),
}
EXACT = {"webp lossless", "avif lossless", "avif 12 bit", "tiff", "tiff none", "tiff lzw"}


def _looked_at(image: pyvips.Image) -> np.ndarray:
    """Red, green, blue and alpha, 0 to 255; what is transparent is black."""
    array = np.atleast_3d(eight_bit(image).numpy())
    alpha = array[..., -1:] if image.hasalpha() else np.full((*array.shape[:2], 1), 255)
    colors = array[..., :3] if array.shape[2] > 2 else np.repeat(array[..., :1], 3, axis=2)
    return np.concatenate([colors * (alpha > 0), alpha], axis=2).astype(float)


@pytest.mark.parametrize("output", OUTPUTS.values(), ids=OUTPUTS)
@pytest.mark.parametrize("make", PICTURES.values(), ids=PICTURES)
def test_what_is_written_is_what_was_there(make, output, tmp_path, request):
    image = make()
    found = _opened(_write(output, Picture((image,)), tmp_path))
    assert found.size == (image.width, image.height)
    if found.mode.startswith("I"):
        # Pillow cuts 16 bits off where it should scale them.
        found = Image.fromarray((np.asarray(found) / 257).round().astype(np.uint8))
    seen = np.asarray(found.convert("RGBA")).astype(float)
    seen[..., :3] *= seen[..., 3:] > 0
    expected = _looked_at(image)
    has_alpha = bool(image.hasalpha()) and getattr(output, "compression", None) != "jpeg"
    assert (found.convert("RGBA").getextrema()[3][0] < 255) is has_alpha
    if not has_alpha or output.format == "gif":
        # A GIF's pixel is there or not; JPEG in TIFF lies on white.
        expected[..., 3] = seen[..., 3]
    if image.hasalpha() and not has_alpha:
        share = _looked_at(image)[..., 3:] / 255
        expected[..., :3] = expected[..., :3] * share + 255 * (1 - share)
    if output.format != "gif" or not image.hasalpha():
        assert np.abs(seen.mean(axis=(0, 1)) - expected.mean(axis=(0, 1))).max() < 4
    case = request.node.callspec.id
    if any(case == f"{picture}-{name}" for name in EXACT for picture in PICTURES if "16 bit" not in picture):
        assert np.abs(seen - expected).max() == 0


def _duration(image: Image.Image, frame: int) -> int:
    image.seek(frame)
    image.load()
    return round(image.info["duration"])


@pytest.mark.parametrize("output", ANIMATED, ids=lambda output: output.format)
@pytest.mark.parametrize("alpha", [False, True])
def test_an_animation_keeps_its_frames_delays_and_loop(output, alpha, tmp_path):
    frames = tuple(scene(64, 48).linear(1, shift).cast("uchar") for shift in (-40, 0, 40))
    mask = (
        pyvips.Image.mask_ideal(64, 48, 0.5, optical=True, reject=True)
        .cast("uchar")
        .linear(255, 0)
        .cast("uchar")
    )
    if alpha:
        frames = tuple(frame.bandjoin(mask) for frame in frames)
    found = _opened(_write(output, Picture(frames, DELAYS, loop=3), tmp_path))
    # GIF counts how often it is run again, and so does Pillow.
    assert found.info["loop"] == (2 if output.format == "gif" else 3)
    seen = [np.asarray(frame.convert("RGBA")).astype(float) for frame in ImageSequence.Iterator(found)]
    durations = [_duration(found, at) for at in range(found.n_frames)]
    assert tuple(durations) == DELAYS
    assert len(seen) == 3
    for frame, expected in zip(seen, frames, strict=True):
        visible = frame[..., 3] > 0
        assert bool(visible.all()) is not alpha
        wanted = expected.numpy().astype(float)[..., :3]
        assert np.abs(frame[visible][:, :3].mean(axis=0) - wanted[visible].mean(axis=0)).max() < 4


@pytest.mark.parametrize("output", [AvifOutput(speed=9), TiffOutput()], ids=lambda output: output.format)
def test_of_an_animation_one_frame_goes_into_a_still_format(output, tmp_path):
    strip = scene(64, 96).copy()
    strip.set_type(pyvips.GValue.gint_type, "page-height", 24)
    frames = (strip.crop(0, 0, 64, 48), strip.crop(0, 48, 64, 48))
    found = _opened(_write(output, Picture(frames, (10, 10)), tmp_path))
    assert (found.size, getattr(found, "n_frames", 1)) == ((64, 48), 1)


@pytest.mark.parametrize("bits", [10, 12])
@pytest.mark.parametrize("bands", [1, 3])
def test_avif_keeps_the_levels_between_those_of_8_bits(bits, bands, tmp_path):
    image = _deep(bands)
    _write(AvifOutput(speed=9, bit_depth=bits, lossless=True), Picture((image,)), tmp_path)
    found = pyvips.Image.heifload(str(tmp_path / "file"))
    assert found.format == "ushort"
    seen = found.extract_band(0, n=bands).numpy().astype(int)
    half_a_step = 65_535 / (2**bits - 1) / 2
    assert np.abs((seen >> (16 - bits)) * 65_535 / (2**bits - 1) - image.numpy()).max() <= half_a_step + 1


@pytest.mark.parametrize("bits", [10, 12])
def test_white_stays_white_in_more_bits(bits, tmp_path):
    white = pyvips.Image.black(8, 8, bands=3).linear(1, 255).cast("uchar").copy(interpretation="srgb")
    _write(AvifOutput(speed=9, bit_depth=bits, lossless=True), Picture((white,)), tmp_path)
    found = pyvips.Image.heifload(str(tmp_path / "file"))
    assert int(found.min()) >> (16 - bits) == 2**bits - 1


@pytest.mark.parametrize(("bands", "depth"), [(1, 16), (3, 16)])
def test_a_tiff_of_16_bits_is_exact(bands, depth, tmp_path):
    image = _deep(bands)
    _write(TiffOutput(bit_depth=depth), Picture((image,)), tmp_path)
    found = pyvips.Image.tiffload(str(tmp_path / "file"))
    assert found.format == "ushort"
    assert (found - image).abs().max() == 0


def test_16_bits_become_8_by_rounding():
    levels = np.arange(65_536, dtype=np.uint16).reshape(256, 256)
    image = pyvips.Image.new_from_array(levels).copy(interpretation="grey16")
    assert (eight_bit(image).numpy() == (levels.astype(int) * 2 + 257) // 514).all()
    assert eight_bit(image).interpretation == "b-w"


def test_8_bits_made_deeper_and_back_are_the_same():
    image = scene(32, 32)
    assert (eight_bit(at_depth(image, 16)) - image).abs().max() == 0


@pytest.mark.parametrize(("colors", "most"), [(2, 2), (3, 2), (4, 4), (100, 64), (256, 256)])
def test_a_gif_has_no_more_colors_than_asked_for(colors, most, tmp_path):
    found = _opened(_write(GifOutput(colors=colors), Picture((scene(64, 48),)), tmp_path))
    assert len(found.convert("RGB").getcolors(65_536)) <= most


def test_a_gif_without_dither_has_areas_of_one_color(tmp_path):
    def changes(dither: float) -> int:
        data = _write(GifOutput(colors=4, dither=dither), Picture((_ramp(),)), tmp_path)
        return int((np.diff(np.asarray(_opened(data).convert("L")).astype(int), axis=1) != 0).sum())

    assert changes(0) < changes(1) / 4


@pytest.mark.parametrize(
    "output",
    [WebpOutput(), AvifOutput(), TiffOutput(), GifOutput()],
    ids=lambda output: output.format,
)
def test_more_time_makes_no_larger_file(output, tmp_path):
    picture = Picture((scene(160, 120),))
    sizes = [len(_write(output, picture, tmp_path, optimize)) for optimize in Optimize]
    # AVIF's and GIF's ways differ by a few bytes on pictures this small.
    assert sizes[2] <= sizes[0] * 1.01
    assert _opened((tmp_path / "file").read_bytes()).size == (160, 120)


def test_a_speed_that_is_asked_for_goes_before_optimize(tmp_path):
    picture = Picture((scene(160, 120),))
    assert _write(AvifOutput(speed=9), picture, tmp_path, Optimize.SIZE) == _write(
        AvifOutput(), picture, tmp_path, Optimize.SPEED
    )


@pytest.mark.parametrize(("subsampling", "quality", "has_full_color"), [
    ("4:2:0", 95, False), ("4:4:4", 60, True), ("auto", 60, False), ("auto", 95, True),
])  # fmt: skip
def test_avif_halves_color_as_asked(subsampling, quality, has_full_color, tmp_path):
    red, blue = ([200, 0, 0], [0, 0, 200])
    stripes = np.array([[red, blue] * 32] * 48, dtype=np.uint8)
    output = AvifOutput(speed=9, quality=quality, subsampling=subsampling)
    picture = Picture((pyvips.Image.new_from_array(stripes).copy(interpretation="srgb"),))
    seen = np.asarray(_opened(_write(output, picture, tmp_path)).convert("RGB")).astype(int)
    assert bool(abs(seen - stripes).mean() < 20) is has_full_color


@pytest.mark.parametrize(("output", "longest"), [
    (AvifOutput(speed=9), 16_384), (GifOutput(), 65_535), (WebpOutput(), 16_383),
])  # fmt: skip
def test_the_longest_side_can_be_written_and_one_more_cannot(output, longest, tmp_path):
    strip = pyvips.Image.black(longest + 1, 2, bands=3).cast("uchar").copy(interpretation="srgb")
    assert _opened(_write(output, Picture((strip.crop(0, 0, longest, 2),)), tmp_path)).width == longest
    with pytest.raises(pyvips.Error):
        _write(output, Picture((strip,)), tmp_path)


def test_loops_beyond_what_a_file_can_count_are_cut(tmp_path):
    picture = replace(Picture((scene(16, 16), scene(16, 16).invert()), (50, 50)), loop=10**6)
    assert _opened(_write(WebpOutput(), picture, tmp_path)).info["loop"] == 65_535
