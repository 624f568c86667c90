"""Every colour space ends in sRGB: held against Pillow's decoders and its colour management (LittleCMS)."""

import numpy as np
import pytest
from PIL import Image

from image_processor.pipeline import Fit, JpegOutput, Resize
from image_processor.testing import sample_images
from pictures import differences, in_srgb, opened, picture, pipeline_of, render

CLOSE = 1.5
"""Mean difference per channel, of 255: two decoders, two roundings, one picture."""


def test_display_p3_is_converted(tmp_path):
    original = sample_images.p3_jpeg()
    shown = picture(tmp_path, original)
    assert max(differences(shown, in_srgb(original))) < CLOSE
    # What an engine would show that drops the profile unread: the test can fail.
    assert max(differences(opened(original), in_srgb(original))) > 5 * CLOSE


def test_cmyk_with_a_profile_is_converted(tmp_path):
    original = sample_images.cmyk_jpeg()
    assert max(differences(picture(tmp_path, original), in_srgb(original))) < CLOSE
    assert max(differences(opened(original), in_srgb(original))) > 5 * CLOSE


def test_cmyk_without_a_profile_is_taken_for_the_usual_press(tmp_path):
    press = opened(sample_images.cmyk_jpeg()).info["icc_profile"]
    original = sample_images.cmyk_jpeg(with_profile=False)
    assert "icc_profile" not in opened(original).info
    assert max(differences(picture(tmp_path, original), in_srgb(original, press))) < CLOSE


def test_a_broken_profile_is_ignored(tmp_path):
    original = sample_images.jpeg_with_broken_profile()
    assert max(differences(picture(tmp_path, original), opened(original))) < CLOSE


def test_a_profile_for_other_channels_is_ignored(tmp_path):
    """A press profile in a grey picture, as careless software leaves it."""
    press = opened(sample_images.cmyk_jpeg()).info["icc_profile"]
    path = tmp_path / "grey.png"
    grey = opened(sample_images.grey_jpeg())
    grey.save(path, icc_profile=press)
    assert max(differences(picture(tmp_path, path.read_bytes(), kind="png"), grey)) < CLOSE


def test_grey_stays_grey(tmp_path):
    original = sample_images.grey_jpeg()
    shown = picture(tmp_path, original)
    assert shown.mode == "L"
    assert max(differences(shown, opened(original))) < CLOSE


def test_grey_with_a_colored_border_becomes_color(tmp_path):
    resize = Resize(width=200, height=200, fit=Fit.PAD, background="#ff0000")
    shown = picture(tmp_path, sample_images.grey_jpeg(160, 120), resize)
    assert shown.getpixel((0, 0)) == (255, 0, 0)
    assert len(set(shown.getpixel((100, 100)))) == 1


def test_sixteen_bits_become_eight(tmp_path):
    eight = opened(sample_images.png())
    assert max(differences(picture(tmp_path, sample_images.png_16bit(), kind="png"), eight)) < CLOSE


def test_sixteen_bit_grey_becomes_eight_bit_grey(tmp_path):
    original = sample_images.png_16bit(grey=True)
    sixteen = np.asarray(opened(original), dtype=np.float64)
    assert sixteen.max() > 255
    shown = picture(tmp_path, original, kind="png")
    assert shown.mode == "L"
    assert np.abs(np.asarray(shown) - sixteen / 257).mean() < CLOSE


def test_adobe_rgb_is_converted(tmp_path):
    """A matrix and a plain gamma, as cameras write it; libvips knows the space by no name."""
    profile = adobe_rgb()
    path = tmp_path / "adobe.png"
    opened(sample_images.png(96, 64)).save(path, icc_profile=profile)
    shown = picture(tmp_path, path.read_bytes(), kind="png")
    assert max(differences(shown, in_srgb(path.read_bytes()))) < 0.1
    assert max(differences(shown, opened(path.read_bytes()))) > CLOSE


def adobe_rgb():
    """Adobe RGB (1998), section 4.3: primaries adapted to D50 and a gamma of 563/256, as an ICC profile."""

    def fixed(number):
        return round(number * 65536).to_bytes(4, "big", signed=True)

    def xyz(*numbers):
        return b"XYZ " + bytes(4) + b"".join(map(fixed, numbers))

    curve = b"curv" + bytes(4) + (1).to_bytes(4, "big") + (563).to_bytes(2, "big") + bytes(2)
    tags = {
        b"wtpt": xyz(0.9642, 1.0, 0.8249),
        b"rXYZ": xyz(0.60974, 0.31111, 0.01947),
        b"gXYZ": xyz(0.20528, 0.62567, 0.06087),
        b"bXYZ": xyz(0.14919, 0.06322, 0.74457),
        **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve),
    }
    at, table, data = 128 + 4 + 12 * len(tags), b"", b""
    for name, value in tags.items():
        table += name + (at + len(data)).to_bytes(4, "big") + len(value).to_bytes(4, "big")
        data += value
    head = bytes(8) + b"\2\x10\0\0mntrRGB XYZ " + bytes(12) + b"acsp" + bytes(28)
    head += b"".join(map(fixed, (0.9642, 1.0, 0.8249)))
    body = head[4:].ljust(124, b"\0") + len(tags).to_bytes(4, "big") + table + data
    return (len(body) + 4).to_bytes(4, "big") + body


def test_grey_with_alpha_stays_grey_with_alpha(tmp_path):
    path = tmp_path / "grey.png"
    grey = opened(sample_images.png_with_alpha(96, 64)).convert("LA")
    grey.save(path)
    shown = picture(tmp_path, path.read_bytes(), kind="png")
    assert shown.mode == "LA"
    assert shown.tobytes() == grey.tobytes()


def test_lab_is_converted(tmp_path):
    plain = opened(sample_images.png())
    assert max(differences(picture(tmp_path, sample_images.tiff(lab=True), kind="tiff"), plain)) < CLOSE


@pytest.mark.parametrize(
    ("original", "kind"),
    [(sample_images.webp, "webp"), (sample_images.tiff, "tiff"), (sample_images.avif, "avif")],
)
def test_other_formats_show_the_same_picture(tmp_path, original, kind):
    shown = picture(tmp_path, original(), kind=kind)
    assert max(differences(shown, opened(original()))) < CLOSE


def test_progressive_jpeg_shows_the_same_picture(tmp_path):
    original = sample_images.progressive_jpeg()
    assert max(differences(picture(tmp_path, original), opened(original))) < CLOSE


@pytest.mark.parametrize("mode", ["1", "P", "L", "LA", "RGBA"])
def test_every_kind_of_png_looks_as_pillow_shows_it(tmp_path, mode):
    path = tmp_path / "kind.png"
    opened(sample_images.png()).convert(mode).save(path)
    shown = picture(tmp_path, path.read_bytes(), kind="png")
    assert max(differences(shown, opened(path.read_bytes()).convert("RGB"))) == 0


def test_the_dominant_color_is_the_one_there_is_most_of(tmp_path):
    path = tmp_path / "flag.png"
    flag = Image.new("RGB", (300, 200), (250, 250, 250))
    flag.paste((200, 16, 46), (0, 0, 220, 200))
    flag.save(path)
    assert render(tmp_path, path.read_bytes(), pipeline_of(), "png").dominant_color == "#C8102E"


def test_the_dominant_color_is_no_mean_of_all(tmp_path):
    path = tmp_path / "halves.png"
    halves = Image.new("RGB", (100, 100), (255, 0, 0))
    halves.paste((0, 0, 255), (0, 0, 49, 100))
    halves.save(path)
    assert render(tmp_path, path.read_bytes(), pipeline_of(), "png").dominant_color == "#FF0000"


def test_transparent_pixels_have_no_say_in_the_dominant_color(tmp_path):
    color = render(tmp_path, sample_images.png_with_alpha(), pipeline_of(), "png").dominant_color
    assert color == "#E62828"
    assert render(tmp_path, sample_images.transparent_png(), pipeline_of(), "png").dominant_color == "#000000"


def test_edges_of_transparent_pictures_are_not_darkened(tmp_path):
    shown = picture(tmp_path, sample_images.png_with_alpha(), Resize(width=77), kind="png")
    pixels = np.asarray(shown, dtype=np.int16)
    edge = pixels[(pixels[..., 3] > 40) & (pixels[..., 3] < 215)]
    assert len(edge) > 30
    assert np.abs(edge[:, :3] - (230, 40, 40)).max() <= 4


def test_jpeg_lays_transparency_on_its_background(tmp_path):
    output = JpegOutput(quality=95, background="#00ff00")
    shown = picture(tmp_path, sample_images.png_with_alpha(), kind="png", output=output)
    assert all(abs(a - b) <= 4 for a, b in zip(shown.getpixel((2, 2)), (0, 255, 0), strict=True))
    assert all(abs(a - b) <= 6 for a, b in zip(shown.getpixel((160, 120)), (230, 40, 40), strict=True))
