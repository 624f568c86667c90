"""The operations on how pixels look, against levels worked out by hand and against Pillow."""

from functools import cache

import numpy as np
import pytest
import pyvips
from PIL import Image, ImageFilter, ImageSequence

from image_processor.engine.vips.color import in_depth
from image_processor.engine.vips.geometry import Paint
from image_processor.engine.vips.picture import Picture
from image_processor.engine.vips.steps import apply
from image_processor.pipeline import (
    Adjust,
    Blur,
    Flatten,
    Gamma,
    Grayscale,
    Sharpen,
    Tint,
    WebpOutput,
)
from image_processor.testing import sample_images
from pictures import differences, picture

LOOKS = (
    Blur(sigma=2),
    Sharpen(sigma=2),
    Grayscale(),
    Tint(color="#ff8000"),
    Adjust(brightness=1.2, contrast=1.1, saturation=1.3, hue=30),
    Gamma(),
)


def painted(image, operation):
    return apply((Paint(operation),), Picture((image,))).first


def flat(*color, interpretation="srgb"):
    image = (pyvips.Image.black(5, 4, bands=len(color)) + list(color)).cast("uchar")
    return image.copy(interpretation=interpretation)


@cache
def sources():
    scene = sample_images.scene(90, 70)
    alpha = pyvips.Image.xyz(90, 70)[0].linear(255 / 89, 0).cast("uchar")
    return {
        "colour": scene,
        "grey": scene.colourspace("b-w"),
        "16 bit": in_depth(scene, 16),
        "grey, 16 bit": in_depth(scene.colourspace("b-w"), 16),
        "alpha": scene.bandjoin(alpha),
        "grey, alpha": scene.colourspace("b-w").bandjoin(alpha),
    }


@pytest.mark.parametrize(
    ("operation", "before", "after"),
    [
        (Adjust(brightness=0), (10, 200, 90), (0, 0, 0)),
        (Adjust(brightness=0.5), (119, 119, 119), (59, 59, 59)),  # L* 50.03 -> 25.02
        (Adjust(brightness=10), (119, 119, 119), (255, 255, 255)),
        (Adjust(saturation=0), (255, 0, 0), (127, 127, 127)),
        (Adjust(hue=180), (90, 90, 90), (90, 90, 90)),
        (Adjust(contrast=0), (3, 128, 250), (128, 128, 128)),
        (Adjust(contrast=1.5), (100, 200, 20), (86, 236, 0)),
        (Adjust(brightness=0.5, contrast=2), (119, 119, 119), (0, 0, 0)),  # 59 -> -9.5
        (Gamma(gamma=2.2), (0, 128, 255), (0, 186, 255)),
        (Gamma(gamma=0.5), (0, 128, 255), (0, 64, 255)),
        (Grayscale(), (255, 0, 0), (127,)),
        (Grayscale(), (0, 255, 0), (220,)),
        (Grayscale(), (0, 0, 255), (76,)),
        (Tint(color="#ff0000"), (0, 0, 0), (0, 0, 0)),
        (Tint(color="#ff0000"), (255, 255, 255), (255, 255, 255)),
        (Tint(color="#808080"), (255, 0, 0), (127, 127, 127)),
        (Blur(sigma=30), (10, 200, 90), (10, 200, 90)),
        (Sharpen(sigma=3), (10, 200, 90), (10, 200, 90)),
        (Flatten(background="#000000"), (200, 100, 50, 51), (40, 20, 10)),
        (Flatten(), (200, 100, 50, 51), (244, 224, 214)),
        (Flatten(background="#ff0000"), (200, 100, 50), (200, 100, 50)),
    ],
    ids=repr,
)
def test_flat_colours_become_what_the_formulas_say(operation, before, after):
    assert np.unique(painted(flat(*before), operation).numpy().reshape(20, -1), axis=0).tolist() == [[*after]]


@pytest.mark.parametrize("kind", sources())
@pytest.mark.parametrize(
    "operation",
    [Adjust(), Adjust(hue=360), Gamma(gamma=1), Sharpen(flat=0, jagged=0)],
    ids=repr,
)
def test_what_asks_for_no_change_makes_none(operation, kind):
    image = sources()[kind]
    assert np.array_equal(painted(image, operation).numpy(), image.numpy())


@pytest.mark.parametrize("kind", sources())
@pytest.mark.parametrize("operation", LOOKS, ids=repr)
def test_size_depth_alpha_and_grey_stay(operation, kind):
    image = sources()[kind]
    result = painted(image, operation)
    assert (result.width, result.height, result.format) == (90, 70, image.format)
    assert result.hasalpha() == image.hasalpha()
    is_grey = operation.op == "grayscale" or ("grey" in kind and operation.op != "tint")
    space = {("uchar", True): "b-w", ("uchar", False): "srgb", ("ushort", True): "grey16"}
    assert result.interpretation == space.get((image.format, is_grey), "rgb16")
    if image.hasalpha() and operation.op != "blur":
        last = (result.bands - 1, image.bands - 1)
        assert np.array_equal(result[last[0]].numpy(), image[last[1]].numpy())


@pytest.mark.parametrize("operation", [*LOOKS, Flatten()], ids=repr)
def test_sixteen_bits_look_as_eight_do(operation):
    shallow = painted(sources()["colour"], operation).numpy()
    deep = painted(sources()["16 bit"], operation).numpy()
    assert np.abs(deep / 257 - shallow).max() <= 0.51


@pytest.mark.parametrize("operation", LOOKS, ids=repr)
def test_grey_looks_as_the_same_colour_does(operation):
    grey = sources()["grey"]
    assert (
        np.abs(
            _in_color(painted(grey, operation)) - _in_color(painted(grey.colourspace("srgb"), operation))
        ).max()
        <= 1
    )


def _in_color(image):
    return image.colourspace("srgb").numpy().astype(int)


@pytest.mark.parametrize("sigma", [0.8, 3, 7, 30])
def test_blur_has_the_standard_deviation_that_was_asked_for(sigma):
    line = pyvips.Image.black(401, 3).insert(pyvips.Image.black(1, 3) + 65_535, 200, 0)
    profile = (
        painted(line.cast("ushort").copy(interpretation="grey16"), Blur(sigma=sigma)).numpy()[1].astype(float)
    )
    x = np.arange(401) - 200
    assert profile.sum() == pytest.approx(65_535, rel=0.01)
    assert np.sqrt((profile * x**2).sum() / profile.sum()) == pytest.approx(sigma, rel=0.03)


@pytest.mark.parametrize(("sigma", "mean"), [(1, 0.6), (4, 0.6), (12, 0.9)])
def test_blur_agrees_with_pillow(sigma, mean):
    image = sample_images.scene(240, 180)
    blurred = Image.fromarray(painted(image, Blur(sigma=sigma)).numpy())
    expected = Image.fromarray(image.numpy()).filter(ImageFilter.GaussianBlur(sigma))
    assert max(differences(blurred, expected)) < mean


@pytest.mark.parametrize("operation", [Blur(sigma=3), Blur(sigma=9), Sharpen(sigma=2)], ids=repr)
def test_the_unseen_colour_of_transparent_pixels_stays_unseen(tmp_path, operation):
    disc = picture(tmp_path, sample_images.png_with_alpha(), operation, kind="png")
    pixels = np.asarray(disc)
    seen = pixels[pixels[..., 3] > 30][:, :3].astype(int)
    assert np.abs(seen - (230, 40, 40)).max() <= 3


def test_blur_softens_the_edge_of_what_is_transparent(tmp_path):
    disc = picture(tmp_path, sample_images.png_with_alpha(), Blur(sigma=3), kind="png")
    assert len(np.unique(np.asarray(disc)[120, :, 3])) > 10


@pytest.mark.parametrize("sigma", [0.5, 1, 4])
def test_sharpen_agrees_with_libvips(sigma):
    image = sample_images.scene(240, 180)
    expected = image.sharpen(sigma=sigma, x1=2, y2=10, y3=20, m1=1, m2=2).colourspace("srgb").numpy()
    result = painted(image, Sharpen(sigma=sigma)).numpy()
    assert np.abs(result.astype(int) - expected).max() <= 1
    assert (result != image.numpy()).any()


@pytest.mark.parametrize("color", ["#ff8000", "#204080", "#00c040"])
def test_tint_keeps_the_lightness_and_has_one_hue(color):
    grey = pyvips.Image.identity().copy(interpretation="b-w")
    before, after = (image.colourspace("lab").numpy() for image in (grey, painted(grey, Tint(color=color))))
    assert np.abs(after[0, 80:160, 0] - before[0, 80:160, 0]).max() < 6
    assert np.abs(after[0, [0, 255], 0] - before[0, [0, 255], 0]).max() < 0.1
    wanted = flat(*bytes.fromhex(color[1:])).colourspace("lch")(0, 0)[2]
    hues = painted(grey, Tint(color=color)).colourspace("lch").numpy()[0, 100:150, 2]
    assert np.abs((hues - wanted + 180) % 360 - 180).max() < 12


def test_adjust_turns_the_hue_as_lch_does():
    image = sources()["colour"]
    expected = image.colourspace("lch").linear([1.1, 0.8, 1], [0, 0, 50]).colourspace("srgb").numpy()
    result = painted(image, Adjust(brightness=1.1, saturation=0.8, hue=50)).numpy()
    assert np.abs(result.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("kind", ["alpha", "grey, alpha"])
@pytest.mark.parametrize("background", ["#ffffff", "#3060c0"])
def test_flatten_agrees_with_pillow(kind, background):
    image = sources()[kind]
    result = painted(image, Flatten(background=background))
    own = Image.fromarray(image.numpy()).convert("RGBA")
    expected = Image.alpha_composite(Image.new("RGBA", own.size, background), own).convert("RGB")
    assert not result.hasalpha()
    assert np.abs(_in_color(result) - np.asarray(expected)).max() <= 1


@pytest.mark.parametrize("operation", [Grayscale(), Adjust(brightness=0.5)], ids=repr)
def test_every_frame_of_an_animation_changes(tmp_path, operation):
    output = WebpOutput(lossless=True)
    data = sample_images.animated_webp()
    before = frames(picture(tmp_path, data, kind="webp", output=output))
    after = frames(picture(tmp_path, data, operation, kind="webp", output=output))
    assert len(before) == len(after) == 3
    assert all(max(differences(one, other)) > 1 for one, other in zip(before, after, strict=True))


def frames(animation):
    return [frame.convert("RGB") for frame in ImageSequence.Iterator(animation)]


def test_a_blur_does_not_reach_into_the_next_frame(tmp_path):
    output = WebpOutput(lossless=True)
    data = sample_images.animated_webp()
    blurred = picture(tmp_path, data, Blur(sigma=20), kind="webp", output=output)
    assert [frame.getcolors() for frame in frames(blurred)] == [
        frame.getcolors() for frame in frames(picture(tmp_path, data, kind="webp", output=output))
    ]


def test_two_looks_that_cancel_out_leave_no_bands():
    ramp = pyvips.Image.identity().copy(interpretation="b-w")
    there_and_back = painted(painted(ramp, Gamma(gamma=0.8)), Gamma(gamma=1.25)).numpy().astype(int)
    assert np.abs(there_and_back - ramp.numpy()).max() <= 1


def test_grey_made_of_colour_has_no_profile_for_colour():
    image = flat(10, 200, 90).copy()
    image.set_type(pyvips.GValue.blob_type, "icc-profile-data", b"for RGB")
    assert painted(image, Gamma()).get_typeof("icc-profile-data")
    assert not painted(image, Grayscale()).get_typeof("icc-profile-data")
