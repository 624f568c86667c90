"""PNG: lossless at every level, with palettes that hold what is asked for, and with what is to be kept."""

import pytest

from image_processor.engine.vips.attachments import Attachments
from image_processor.engine.vips.picture import Picture
from image_processor.engine.vips.save import png, save
from image_processor.engine.vips.save.target import Target
from image_processor.pipeline import Optimize, PngOutput
from image_processor.testing import sample_images
from pictures import differences, opened

pyvips = pytest.importorskip("pyvips")


def scene(width=160, height=120):
    return pyvips.Image.pngload_buffer(sample_images.png(width, height)).copy_memory()


def saved(folder, image, output=None, optimize=Optimize.BALANCED, **about) -> bytes:
    target = Target(folder / "file.png", optimize, **about)
    save(Picture((image,)), output or PngOutput(), target)
    return target.path.read_bytes()


@pytest.mark.parametrize("optimize", Optimize)
@pytest.mark.parametrize(
    "image",
    [scene(), scene().colourspace("b-w"), scene().bandjoin(90), scene().colourspace("b-w").bandjoin(9)],
    ids=["colour", "grey", "colour and alpha", "grey and alpha"],
)
def test_every_level_is_lossless(tmp_path, optimize, image):
    shown, plain = (
        opened(data).convert("RGBA").tobytes()
        for data in (saved(tmp_path, image, optimize=optimize), image.pngsave_buffer())
    )
    assert shown == plain


def test_more_time_makes_shorter_files(tmp_path):
    image = scene(400, 300)
    lengths = [len(saved(tmp_path, image, optimize=optimize)) for optimize in Optimize]
    assert lengths[2] <= lengths[1] < lengths[0]


@pytest.mark.parametrize("optimize", Optimize)
@pytest.mark.parametrize(("depth", "format_"), [(16, "ushort"), (8, "uchar")])
def test_sixteen_bits_stay_where_they_are_asked_for(tmp_path, optimize, depth, format_):
    deep = pyvips.Image.pngload_buffer(sample_images.png_16bit(64, 48))
    shown = pyvips.Image.pngload_buffer(saved(tmp_path, deep, PngOutput(bit_depth=depth), optimize))
    assert shown.format == format_
    if depth == 16:
        assert (shown - deep).abs().max() == 0


@pytest.mark.parametrize("optimize", Optimize)
@pytest.mark.parametrize("colors", [2, 3, 16, 40, 256])
def test_a_palette_has_at_most_the_colours_asked_for(tmp_path, optimize, colors):
    data = saved(tmp_path, scene(), PngOutput(palette=True, colors=colors), optimize)
    shown = opened(data)
    found = len(shown.convert("RGB").getcolors(10**6))
    assert shown.mode in {"P", "1", "L"}
    assert colors // 4 < found <= colors
    assert len(data) < len(saved(tmp_path, scene(), optimize=optimize))


def test_a_palette_keeps_soft_transparency(tmp_path):
    ramp = pyvips.Image.identity().embed(0, 0, 256, 40, extend="copy")
    shown = opened(saved(tmp_path, scene(256, 40).bandjoin(ramp), PngOutput(palette=True, colors=256)))
    assert shown.mode == "P"
    assert len(shown.convert("RGBA").getchannel("A").getcolors()) > 16


@pytest.mark.parametrize("optimize", Optimize)
def test_a_profile_stays_at_every_level(tmp_path, optimize):
    profile = bytes(pyvips.Image.profile_load("p3"))
    data = saved(tmp_path, scene(), optimize=optimize, attachments=Attachments(profile=profile))
    assert opened(data).info["icc_profile"] == profile


@pytest.mark.parametrize(("most", "level"), png.OXIPNG_LEVELS)
def test_the_levels_fall_as_pictures_grow(most, level):
    assert all(other < level for pixels, other in png.OXIPNG_LEVELS if pixels > most)


def test_what_is_too_large_for_oxipng_is_left_to_libvips(tmp_path, monkeypatch):
    monkeypatch.setattr(png, "OXIPNG_LEVELS", ())
    shown = opened(saved(tmp_path, scene(), optimize=Optimize.SIZE))
    assert differences(shown, opened(sample_images.png(160, 120))) == [0, 0, 0]
