"""Watermarks: pixels worked out by hand, places, tiles, letters, and files that are no marks."""

import io

import numpy as np
import pytest
import pyvips
from PIL import Image

from image_processor.engine.vips.color import in_own_space
from image_processor.engine.vips.geometry import Size
from image_processor.engine.vips.picture import Picture
from image_processor.engine.vips.steps.watermark import LONGEST_SIDE, watermark
from image_processor.engine.vips.text import letters_of
from image_processor.errors import InvalidOperationError
from image_processor.pipeline import Gravity, ImageWatermark, TextWatermark
from image_processor.testing import sample_images
from pictures import picture

RED = (200, 20, 40)
BLUE = (10, 60, 250)


def flat(color, width=100, height=60, dtype=np.uint8):
    pixels = np.full((height, width, len(color)), color, dtype=dtype)
    interpretation = {1: "b-w", 2: "b-w"}.get(len(color), "srgb")
    if dtype is np.uint16:
        interpretation = {"b-w": "grey16", "srgb": "rgb16"}[interpretation]
    return pyvips.Image.new_from_array(pixels, interpretation=interpretation)


def mark_of(color=BLUE, width=20, height=10, kind="png", **options):
    modes = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
    pixels = np.full((height, width, len(color)), color, dtype=np.uint8).squeeze()
    file = io.BytesIO()
    Image.frombytes(modes[len(color)], (width, height), pixels.tobytes()).save(file, kind, **options)
    return file.getvalue()


def laid(under, **fields):
    fields.setdefault("image", mark_of())
    return watermark(Picture((under,)), ImageWatermark(**fields)).first


def marked(image, background=RED):
    """Left, top, width and height of what differs from the background."""
    pixels = image.numpy().reshape(image.height, image.width, -1)
    where = (pixels != np.array(background)).any(axis=2)
    columns, rows = where.any(axis=0).nonzero()[0], where.any(axis=1).nonzero()[0]
    left, top = int(columns[0]), int(rows[0])
    assert where[top : rows[-1] + 1, left : columns[-1] + 1].all()
    return left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1


def at(image, x=0, y=0):
    return tuple(round(level) for level in image.getpoint(x, y))


@pytest.mark.parametrize(("opacity", "color"), [
    (1, BLUE), (0, RED), (0.5, (105, 40, 145)), (0.25, (152.5, 30, 92.5)),
])  # fmt: skip
def test_the_colour_is_the_mean_weighed_by_the_opacity(opacity, color):
    """0.25 x 10 + 0.75 x 200 = 152.5, and so on; halves go to the even."""
    shown = laid(flat(RED), gravity="northwest", opacity=opacity)
    assert at(shown) == pytest.approx(color, abs=0.5)
    assert at(shown, 20, 10) == RED
    assert (shown.width, shown.height, shown.bands, shown.format) == (100, 60, 3, "uchar")


def test_the_marks_own_alpha_counts():
    shown = laid(flat(RED), image=mark_of((*BLUE, 102)), gravity="northwest", opacity=0.5)
    assert at(shown) == tuple(round(0.2 * new + 0.8 * old) for new, old in zip(BLUE, RED, strict=True))


@pytest.mark.parametrize(("under", "over", "result"), [
    # alpha 0.4 + 0.5 x 0.6 = 0.7; red (0.4 x 10 + 0.3 x 200) / 0.7 = 91.4
    ((*RED, 128), 102, (91, 43, 160, 179)),
    ((*RED, 0), 102, (*BLUE, 102)),
    ((*RED, 0), 0, (0, 0, 0, 0)),
    ((*RED, 255), 102, (124, 36, 124, 255)),
])  # fmt: skip
def test_on_a_transparent_picture_it_is_laid_over(under, over, result):
    shown = laid(flat(under), image=mark_of((*BLUE, over)), gravity="northwest")
    assert at(shown) == pytest.approx(result, abs=1)
    assert at(shown, 50, 30) == under


PLACES = {
    Gravity.NORTHWEST: (5, 5), Gravity.NORTH: (40, 5), Gravity.NORTHEAST: (75, 5),
    Gravity.WEST: (5, 25), Gravity.CENTER: (40, 25), Gravity.EAST: (75, 25),
    Gravity.SOUTHWEST: (5, 45), Gravity.SOUTH: (40, 45), Gravity.SOUTHEAST: (75, 45),
}  # fmt: skip


@pytest.mark.parametrize(("gravity", "corner"), PLACES.items())
def test_gravity_and_margin_place_it(gravity, corner):
    assert marked(laid(flat(RED), gravity=gravity, margin=5)) == (*corner, 20, 10)


@pytest.mark.parametrize(("fields", "box"), [
    ({"margin": 28}, (64, 28, 8, 4)),
    ({"margin": 45}, (53, 30, 2, 1)),
    ({"margin": 10_000}, (50, 30, 1, 1)),
    ({"image": mark_of(width=400, height=10)}, (0, 57, 100, 3)),
    ({"image": mark_of(width=400, height=10), "margin": 10}, (10, 48, 80, 2)),
    ({"image": mark_of(width=10, height=600)}, (99, 0, 1, 60)),
    ({"width_percent": 50}, (50, 35, 50, 25)),
    ({"width_percent": 10}, (90, 55, 10, 5)),
    ({"width_percent": 0.1}, (99, 59, 1, 1)),
    ({"width_percent": 100, "margin": 10}, (0, 5, 100, 50)),
    ({"width_percent": 100, "image": mark_of(width=10, height=20)}, (70, 0, 30, 60)),
])  # fmt: skip
def test_it_fits_in(fields, box):
    found = marked(laid(flat(RED), **fields))
    assert found == box


def test_tiles_cover_the_picture():
    assert marked(laid(flat(RED), tile=True)) == (0, 0, 100, 60)


@pytest.mark.parametrize(
    ("gravity", "first"), [("northwest", (0, 0)), ("southeast", (80, 50)), ("center", (40, 25))]
)
def test_tiles_repeat_from_where_gravity_puts_them(gravity, first):
    pixels = laid(flat(RED), tile=True, margin=7, gravity=gravity).numpy()
    y, x = np.mgrid[0:60, 0:100]
    is_marked = ((x - first[0]) % 27 < 20) & ((y - first[1]) % 17 < 10)
    assert (pixels == np.where(is_marked[:, :, None], BLUE, RED)).all()


def test_tiles_of_one_pixel_and_gaps_beyond_the_picture():
    tiny = mark_of(width=1, height=1)
    shown = laid(flat(RED, 1000, 700), image=tiny, tile=True, margin=1, gravity="northwest").numpy()
    assert (shown[::2, ::2] == BLUE).all()
    assert (shown[1::2] == RED).all()
    assert marked(laid(flat(RED), image=tiny, tile=True, margin=10_000, gravity="northwest")) == (0, 0, 1, 1)


@pytest.mark.parametrize(("color", "bands"), [(BLUE, 3), ((90, 90, 90), 1), ((90,), 1), ((90, 255), 1)])
def test_grey_stays_grey_under_a_grey_mark(color, bands):
    shown = laid(flat((30,)), image=mark_of(color), gravity="northwest")
    assert shown.bands == bands
    assert at(shown)[0] == color[0]
    assert at(shown, 50, 30) == (30,) * bands
    assert shown.interpretation == ("srgb" if bands == 3 else "b-w")


def test_a_grey_mark_lies_on_a_coloured_picture():
    assert at(laid(flat(RED), image=mark_of((90,)), gravity="northwest")) == (90, 90, 90)


@pytest.mark.parametrize("bands", [1, 2, 3, 4])
def test_16_bit_stays_16_bit(bands):
    under = flat((1000,) * (bands - (bands % 2 == 0)) + (65535,) * (bands % 2 == 0), dtype=np.uint16)
    shown = laid(under, image=mark_of((100,) if bands < 3 else BLUE), gravity="northwest", opacity=0.5)
    top = 100 if bands < 3 else BLUE[0]
    assert (shown.format, shown.bands) == ("ushort", bands)
    assert at(shown)[0] == pytest.approx((1000 + top * 257) / 2, abs=1)
    assert shown.hasalpha() == (bands % 2 == 0)


def test_a_picture_that_kept_its_profile_is_marked_in_its_own_colours():
    wide = in_own_space(pyvips.Image.new_from_buffer(sample_images.p3_jpeg(), "")).copy_memory()
    seen = laid(wide, gravity="northwest").icc_transform("srgb", embedded=True, intent="perceptual")
    assert at(seen, 5, 5) == pytest.approx(BLUE, abs=6)
    assert at(laid(wide, gravity="northwest"), 5, 5) != pytest.approx(BLUE, abs=6)


def test_every_frame_is_marked():
    frames = Picture((flat(RED), flat(BLUE)), delays=(80, 120), loop=3)
    shown = watermark(frames, ImageWatermark(image=mark_of((1, 2, 3)), gravity="west"))
    assert [at(frame, 0, 30) for frame in shown.frames] == [(1, 2, 3), (1, 2, 3)]
    assert [at(frame, 99, 30) for frame in shown.frames] == [RED, BLUE]
    assert (shown.delays, shown.loop) == ((80, 120), 3)


@pytest.mark.parametrize(
    ("kind", "options"), [("png", {}), ("webp", {"lossless": True}), ("jpeg", {"quality": 95})]
)
def test_marks_are_png_webp_and_jpeg(kind, options):
    shown = laid(flat(RED), image=mark_of((90, 90, 90), kind=kind, **options), gravity="northwest")
    assert at(shown) == pytest.approx((90, 90, 90), abs=1)


def test_a_mark_is_laid_on_upright():
    exif = Image.Exif()
    exif[0x0112] = 6
    shown = laid(flat(RED), image=mark_of(kind="jpeg", exif=exif, quality=95), gravity="northwest")
    assert marked(shown) == (0, 0, 10, 20)


@pytest.mark.parametrize(("data", "fault"), [
    (b"no image at all", "none of PNG, JPEG and WebP"),
    (b"GIF89a" + bytes(40), "none of PNG, JPEG and WebP"),
    (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "none of PNG, JPEG and WebP"),
    (b"RIFF\x04\0\0\0WAVE", "watermark cannot be read"),
    (mark_of()[:40], "watermark cannot be read"),
    (mark_of(kind="jpeg")[:-30], "watermark cannot be read"),
    (sample_images.png_header_only(LONGEST_SIDE + 1, 1), "4001 x 1 pixels; a side may have at most 4000"),
    (sample_images.png_header_only(10, 30_000), "10 x 30000 pixels"),
])  # fmt: skip
def test_bytes_that_are_no_mark_are_an_invalid_operation(data, fault):
    with pytest.raises(InvalidOperationError, match=fault):
        laid(flat(RED), image=data)


def written(width=300, height=100, **fields):
    return watermark(Picture((flat(RED, width, height),)), TextWatermark(**fields)).first


def ink(image):
    """Left, top, right and bottom of what is not the background."""
    where = (image.numpy() != np.array(RED)).any(axis=2)
    columns, rows = where.any(axis=0).nonzero()[0], where.any(axis=1).nonzero()[0]
    return int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])


def test_a_text_stands_in_its_colour_where_it_is_put():
    shown = written(text="HHH", size=40, color="#0a3cfa", margin=6)
    left, top, right, bottom = ink(shown)
    assert right == pytest.approx(299 - 6, abs=1)
    assert bottom == pytest.approx(99 - 6, abs=1)
    assert 25 <= bottom - top <= 40
    assert 60 <= right - left <= 120
    assert (shown.numpy() == np.array(BLUE)).all(axis=2).any()


def test_a_faint_text_is_faint():
    pixels = written(text="MMM", size=60, color="#ffffff", opacity=0.5).numpy()
    assert tuple(pixels.reshape(-1, 3).max(axis=0)) == (228, 138, 148)


def test_a_larger_font_is_larger():
    small, large = (letters_of("Sample", size, Size(5000, 5000)) for size in (20, 60))
    assert large.width == pytest.approx(3 * small.width, rel=0.1)
    assert large.height == pytest.approx(3 * small.height, rel=0.15)


@pytest.mark.parametrize("size", [(300, 100), (40, 300), (3, 3), (1, 1), (2000, 8)])
def test_a_text_that_is_too_long_shrinks(size):
    shown = written(*size, text="W" * 200, size=1000)
    assert (shown.width, shown.height) == size


def test_the_font_shrinks_and_not_the_drawn_letters():
    """Letters of 30 pixels, not of 1000: so no picture of them is ever larger than what it is laid on."""
    letters = letters_of("W" * 10, 1000, Size(300, 100))
    assert 290 <= letters.width <= 305
    assert letters.height < 40


def test_a_text_is_tiled():
    shown = (written(text="ab", size=16, tile=True, margin=10).numpy() != np.array(RED)).any(axis=2)
    assert all(part.any() for half in np.array_split(shown, 3) for part in np.array_split(half, 6, axis=1))


@pytest.mark.parametrize(("text", "fault"), [
    ("one\ntwo", r"one line without control characters; it has U\+000A"),
    ("tab\there", r"U\+0009"),
    ("\x00", r"U\+0000"),
    ("ab\u202ecd", r"U\+202E"),
    ("two\u2028lines", r"U\+2028"),
    ("ab\ufffe", r"U\+FFFE"),
    ("   ", "no letter that can be seen"),
    ("\u00a0", "no letter that can be seen"),
    ("hieroglyph \U00013000", "letters that no font here has: \U00013000"),
])  # fmt: skip
def test_texts_that_cannot_be_written_are_refused(text, fault):
    with pytest.raises(InvalidOperationError, match=fault):
        written(text=text)


def test_letters_may_come_in_parts():
    """Decomposed and composed, plain and hard space: the same picture, or the same complaint."""

    def outcome(text):
        try:
            return bytes(letters_of(text, 30, Size(500, 500)).write_to_memory())
        except InvalidOperationError as error:
            return str(error)

    assert outcome("Mu\u0308ller") == outcome("M\u00fcller")
    assert outcome("a\u00a0b") == outcome("a b")


def test_operations_lead_here(tmp_path):
    operations = (ImageWatermark(image=mark_of(), gravity="northwest"), TextWatermark(text="(c) me", size=20))
    shown = picture(tmp_path, sample_images.photo(200, 100), *operations)
    assert shown.size == (200, 100)
    assert shown.getpixel((5, 5)) == BLUE
