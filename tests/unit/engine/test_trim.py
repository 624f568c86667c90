"""Trims: what is border and what is not, alpha and frames included; and how they become crops."""

import io

import numpy as np
import pytest
import pyvips
from PIL import Image

from image_processor.engine.base import RenderRequest
from image_processor.engine.vips.load import read_header
from image_processor.engine.vips.picture import Picture
from image_processor.engine.vips.trim import find_crop, without_trims
from image_processor.engine.vips.trimmed import with_crops
from image_processor.pipeline import (
    Crop,
    Flop,
    ImageFormat,
    Limits,
    Pipeline,
    PngOutput,
    Resize,
    Rotate,
    Trim,
    Variant,
    WebpOutput,
)
from image_processor.testing import sample_images

WHITE = (255, 255, 255)


def page(content=(10, 20, 30), border=WHITE, box=(20, 10, 50, 40), size=(100, 80)):
    """One colour with a rectangle of another: left, top, width, height."""
    pixels = np.full((size[1], size[0], len(border)), border, dtype=np.uint8)
    left, top, width, height = box
    pixels[top : top + height, left : left + width] = content
    return pixels


def shown(*frames):
    return Picture(tuple(pyvips.Image.new_from_array(frame, interpretation="srgb") for frame in frames))


def box_of(crop: Crop):
    return crop.x, crop.y, crop.width, crop.height


@pytest.mark.parametrize("box", [(20, 10, 50, 40), (0, 10, 50, 40), (97, 77, 3, 3), (1, 1, 99, 79)])
def test_a_border_of_the_corners_colour_is_cut_off(box):
    assert box_of(find_crop(shown(page(box=box)), Trim())) == box


def test_a_picture_of_nothing_but_border_stays_whole():
    assert box_of(find_crop(shown(page(content=WHITE)), Trim())) == (0, 0, 100, 80)


def test_the_smallest_picture_stays_whole():
    assert box_of(find_crop(shown(np.zeros((1, 1, 3), dtype=np.uint8)), Trim())) == (0, 0, 1, 1)


@pytest.mark.parametrize(("difference", "is_border"), [(9, True), (10, True), (11, False)])
def test_the_threshold_is_in_levels(difference, is_border):
    grey = page(content=(200 - difference, 200, 200), border=(200, 200, 200))
    found = box_of(find_crop(shown(grey), Trim(threshold=10)))
    assert found == ((0, 0, 100, 80) if is_border else (20, 10, 50, 40))


@pytest.mark.parametrize(("difference", "is_border"), [(10, True), (11, False)])
def test_the_threshold_is_the_same_in_16_bit(difference, is_border):
    deep = np.full((80, 100, 3), 200 * 257, dtype=np.uint16)
    deep[10:50, 20:70] = (200 - difference) * 257
    found = find_crop(
        Picture((pyvips.Image.new_from_array(deep, interpretation="rgb16"),)), Trim(threshold=10)
    )
    assert box_of(found) == ((0, 0, 100, 80) if is_border else (20, 10, 50, 40))


@pytest.mark.parametrize("turn", [lambda pixels: pixels, lambda pixels: pixels.transpose(1, 0, 2)])
def test_slivers_are_trimmed_too(turn):
    sliver = np.full((1, 90, 3), 255, dtype=np.uint8)
    sliver[:, 30:45] = 0
    assert box_of(find_crop(shown(turn(sliver)), Trim())) in {(30, 0, 15, 1), (0, 30, 1, 15)}


def test_a_speck_is_no_content():
    assert box_of(find_crop(shown(page(box=(20, 10, 1, 1))), Trim())) == (0, 0, 100, 80)


def test_a_background_that_is_given_stands_for_the_corner():
    pixels = page(box=(0, 0, 50, 40))
    assert box_of(find_crop(shown(pixels), Trim(background="#ffffff"))) == (0, 0, 50, 40)
    assert box_of(find_crop(shown(pixels), Trim())) == (0, 0, 100, 80)


def test_a_background_that_is_given_is_held_against_grey_too():
    grey = Picture((pyvips.Image.new_from_array(page()[:, :, 0], interpretation="b-w"),))
    assert box_of(find_crop(grey, Trim(background="#ffffff"))) == (20, 10, 50, 40)
    assert box_of(find_crop(grey, Trim(background="#ff0000"))) == (0, 0, 100, 80)


@pytest.mark.parametrize("hidden", [(0, 0, 0, 0), (255, 255, 255, 0)])
@pytest.mark.parametrize("content", [(0, 0, 0, 255), (255, 255, 255, 255), (200, 10, 10, 90)])
def test_transparent_borders_go_whatever_colour_hides_in_them(hidden, content):
    assert box_of(find_crop(shown(page(content, hidden)), Trim())) == (20, 10, 50, 40)


def test_noise_that_nobody_sees_is_border():
    pixels = page((0, 200, 0, 255), (0, 0, 0, 0))
    noise = np.random.default_rng(1).integers(0, 256, (80, 100, 3), dtype=np.uint8)
    pixels[:, :, :3] = np.where(pixels[:, :, 3:] == 0, noise, pixels[:, :, :3])
    assert box_of(find_crop(shown(pixels), Trim())) == (20, 10, 50, 40)


def test_a_hole_within_an_opaque_border_is_kept():
    assert box_of(find_crop(shown(page((255, 255, 255, 0), (255, 255, 255, 255))), Trim())) == (
        20,
        10,
        50,
        40,
    )


def test_what_a_given_background_shows_through_is_border():
    pixels = page((0, 0, 0, 255), (0, 0, 0, 0))
    pixels[:, 90:] = (255, 255, 255, 255)
    assert box_of(find_crop(shown(pixels), Trim(background="#ffffff"))) == (20, 10, 50, 40)


def test_all_frames_are_kept_whole():
    frames = [page(box=(20, 10, 10, 10)), page(content=WHITE), page(box=(60, 50, 20, 20))]
    assert box_of(find_crop(shown(*frames), Trim())) == (20, 10, 60, 60)


def header_of(folder, original: bytes, kind="png"):
    source = folder / "original"
    source.write_bytes(original)
    return read_header(
        RenderRequest(
            source=source,
            source_format=ImageFormat(kind),
            pipeline=Pipeline(variants=(Variant(name="any", output=PngOutput()),)),
            output_directory=folder,
            limits=Limits(),
        )
    )


def pipeline_of(*operations, output=None):
    variants = [
        Variant(name=f"v{at}", operations=each, output=output or PngOutput())
        for at, each in enumerate(operations)
    ]
    return Pipeline(variants=tuple(variants))


def png_of(pixels) -> bytes:
    return bytes(pyvips.Image.new_from_array(pixels, interpretation="srgb").pngsave_buffer())


def test_each_trim_becomes_the_crop_that_it_means(tmp_path):
    """One after another: the second trim looks at what the first and the turn have left."""
    pixels = page()
    pixels[15:45, 25:65] = (0, 200, 0)
    pipeline = pipeline_of((Trim(), Rotate(degrees=90), Trim(), Resize(width=10)), (Flop(), Trim()), ())
    cropped, crops = without_trims(pipeline, header_of(tmp_path, png_of(pixels)), Limits())
    assert {name: tuple(map(box_of, each)) for name, each in crops.items()} == {
        "v0": ((20, 10, 50, 40), (5, 5, 30, 40)),
        "v1": ((30, 10, 50, 40),),
    }
    assert cropped == with_crops(pipeline, crops)
    assert [type(each) for each in cropped.variants[0].operations] == [Crop, Rotate, Crop, Resize]
    assert cropped.variants[2] == pipeline.variants[2]


def test_a_trim_that_comes_after_a_resize_is_found_in_the_smaller_picture(tmp_path):
    original = png_of(page(box=(40, 20, 100, 80), size=(200, 160)))
    _, crops = without_trims(
        pipeline_of((Resize(width=100), Trim())), header_of(tmp_path, original), Limits()
    )
    assert box_of(crops["v0"][0]) == pytest.approx((20, 10, 50, 40), abs=2)


def test_an_original_is_trimmed_as_it_is_seen(tmp_path):
    seen = Image.fromarray(page())
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    seen.transpose(Image.Transpose.ROTATE_90).save(file, "jpeg", quality=95, exif=exif)
    header = header_of(tmp_path, file.getvalue(), "jpeg")
    _, crops = without_trims(pipeline_of((Trim(threshold=60),)), header, Limits())
    assert box_of(crops["v0"][0]) == pytest.approx((20, 10, 50, 40), abs=1)


@pytest.mark.parametrize(
    ("output", "box"), [(WebpOutput(), (20, 10, 60, 60)), (PngOutput(), (20, 10, 10, 10))]
)
def test_frames_count_where_they_are_written(tmp_path, output, box):
    first, second = Image.fromarray(page(box=(20, 10, 10, 10))), Image.fromarray(page(box=(60, 50, 20, 20)))
    file = io.BytesIO()
    first.save(file, "webp", save_all=True, append_images=[second], lossless=True)
    header = header_of(tmp_path, file.getvalue(), "webp")
    _, crops = without_trims(pipeline_of((Trim(),), output=output), header, Limits())
    assert box_of(crops["v0"][0]) == box


def test_variants_that_begin_alike_are_looked_at_once(tmp_path, monkeypatch):
    import image_processor.engine.vips.trim as trim_module  # noqa: PLC0415

    decoded = []
    real = trim_module.prepare
    monkeypatch.setattr(trim_module, "prepare", lambda *given: decoded.append(1) or real(*given))
    operations = [(Trim(), Resize(width=width)) for width in (10, 20, 30)]
    header = header_of(tmp_path, png_of(page()))
    without_trims(pipeline_of(*operations, (Flop(), Trim())), header, Limits())
    assert len(decoded) == 2


def test_without_trims_nothing_is_decoded(tmp_path):
    header = header_of(tmp_path, sample_images.png())
    header.path.unlink()
    pipeline = pipeline_of((Resize(width=10),))
    assert without_trims(pipeline, header, Limits()) == (pipeline, {})


REGION = Crop(x=1, y=2, width=3, height=4)


@pytest.mark.parametrize(("crops", "fault"), [
    ({}, "1 trims, not 0"),
    ({"v0": (REGION, REGION)}, "1 trims, not 2"),
    ({"v0": (REGION,), "v1": (REGION,)}, "0 trims, not 1"),
    ({"v0": (Crop(width=3, height=4),)}, "no region"),
    ({"v0": (Crop(aspect="1:1"),)}, "no region"),
    ({"v0": (REGION,), "other": ()}, "do not exist"),
])  # fmt: skip
def test_crops_that_do_not_stand_for_the_trims_are_refused(crops, fault):
    with pytest.raises(ValueError, match=fault):
        with_crops(pipeline_of((Trim(),), (Flop(),)), crops)


def test_crops_take_the_places_of_the_trims():
    other = Crop(x=5, y=6, width=7, height=8)
    cropped = with_crops(pipeline_of((Trim(), Flop(), Trim()), ()), {"v0": (REGION, other), "v1": ()})
    assert cropped == pipeline_of((REGION, Flop(), other), ())
