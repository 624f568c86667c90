"""Our rules of size and place against what sharp did: its record lies in sharp_sizes.json."""

import io
import json
from pathlib import Path

import pytest
from PIL import Image, ImageDraw
from pydantic import ValidationError

from image_processor.engine.base import RenderRequest
from image_processor.engine.vips.geometry import Cut, Pad, Size
from image_processor.engine.vips.load import read_header
from image_processor.engine.vips.plan import PlannedVariant, make_plan
from image_processor.engine.vips.trim import without_trims
from image_processor.pipeline import (
    Fit,
    ImageFormat,
    Limits,
    Pipeline,
    PngOutput,
    Resize,
    Rotate,
    Trim,
    Variant,
)

RECORD = json.loads((Path(__file__).parent / "sharp_sizes.json").read_text(encoding="utf-8"))
"""Written by `node bench/sharp/sizes.mjs`."""
FITS = {
    "fill": Fit.EXACT,
    "inside": Fit.INSIDE,
    "outside": Fit.OUTSIDE,
    "cover": Fit.COVER,
    "contain": Fit.PAD,
}
GRAVITIES = {
    "centre": "center",
    "top": "north",
    "right top": "northeast",
    "right": "east",
    "right bottom": "southeast",
    "bottom": "south",
    "left bottom": "southwest",
    "left": "west",
    "left top": "northwest",
}
BOUNDLESS = Limits(max_pixels=10**12)

HALVES = {
    ("outside", (3, 2), (77, 99), True): (149, 99),
    ("outside", (2, 3), (99, 77), True): (99, 149),
}
"""148.5 exactly, which sharp's division makes a little less: ours is by whole numbers, halves rounded up."""


def plan(original, operation) -> PlannedVariant:
    pipeline = Pipeline(variants=(Variant(name="only", operations=(operation,), output=PngOutput()),))
    return make_plan(pipeline, ImageFormat.PNG, Size(*original), BOUNDLESS).variants[0]


def size(original, operation):
    planned = plan(original, operation).size
    return planned.width, planned.height


def resize(fit, box, *, enlarge, position="centre") -> Resize:
    return Resize(
        width=box[0],
        height=box[1],
        fit=FITS[fit],
        allow_enlarge=enlarge,
        position=GRAVITIES[position],
    )


def recorded(fit):
    """(original, box, enlarge, sharp's size) of every row; sharp was not asked for very large results."""
    for original, row in zip(RECORD["originals"], RECORD["sizes"][fit], strict=True):
        for box, sizes in zip(RECORD["boxes"], row, strict=True):
            for enlarge, found in zip((False, True), sizes, strict=True):
                if found:
                    yield tuple(original), tuple(box), enlarge, tuple(found)


def asks_for_both_sides(fit, box) -> bool:
    """Our fits other than `inside` want a width and a height; sharp's do without."""
    return fit != "inside" and None in box


@pytest.mark.parametrize("fit", FITS)
def test_resize_gives_sharps_sizes(fit):
    rows = [row for row in recorded(fit) if not asks_for_both_sides(fit, row[1])]
    ours = {row: size(row[0], resize(fit, row[1], enlarge=row[2])) for row in rows}
    differ = {(fit, *row[:3]): found for row, found in ours.items() if found != row[3]}
    assert differ == {key: found for key, found in HALVES.items() if key[0] == fit}
    assert len(rows) > 300


@pytest.mark.parametrize("fit", [fit for fit in FITS if fit != "inside"])
def test_one_side_is_asked_for_with_inside_alone(fit):
    for _, box, enlarge, _ in recorded(fit):
        if None in box:
            with pytest.raises(ValidationError, match="needs both a width and a height"):
                resize(fit, box, enlarge=enlarge)


@pytest.mark.parametrize("fit", ["outside", "cover"])
def test_with_one_side_sharps_other_fits_do_what_our_inside_does(fit):
    for original, box, enlarge, found in recorded(fit):
        if None in box:
            assert size(original, resize("inside", box, enlarge=enlarge)) == found


@pytest.mark.parametrize("fit", ["cover", "contain"])
def test_cover_and_pad_place_as_sharp_does(fit):
    for kind, original, box, without_enlargement, found, offsets in RECORD["positions"]:
        if kind != fit:
            continue
        for position, offset in zip(RECORD["position_names"], offsets, strict=True):
            planned = plan(original, resize(fit, box, enlarge=not without_enlargement, position=position))
            placed = [step for step in planned.steps if isinstance(step, Cut | Pad)]
            at = (placed[0].x, placed[0].y) if placed else (0, 0)
            assert (planned.size, at) == (Size(*found), tuple(offset)), (original, box, position)


def test_any_angle_gives_sharps_size():
    for original, row in zip(RECORD["angle_originals"], RECORD["angles"], strict=True):
        for angle, found in zip(RECORD["angle_degrees"], row, strict=True):
            assert size(original, Rotate(degrees=angle)) == tuple(found), (original, angle)


def framed(canvas, region) -> bytes:
    """The picture that sharp was given: a red region on white."""
    image = Image.new("RGB", canvas, "#ffffff")
    left, top, width, height = region
    ImageDraw.Draw(image).rectangle((left, top, left + width - 1, top + height - 1), fill="#c02020")
    target = io.BytesIO()
    image.save(target, "png")
    return target.getvalue()


@pytest.mark.parametrize(("canvas", "region", "found"), RECORD["trims"])
def test_trim_leaves_what_sharp_leaves(canvas, region, found, tmp_path):
    source = tmp_path / "framed.png"
    source.write_bytes(framed(canvas, region))
    pipeline = Pipeline(variants=(Variant(name="only", operations=(Trim(),), output=PngOutput()),))
    request = RenderRequest(
        source=source,
        source_format=ImageFormat.PNG,
        pipeline=pipeline,
        output_directory=tmp_path,
        limits=BOUNDLESS,
    )
    _, crops = without_trims(pipeline, read_header(request), BOUNDLESS)
    (left,) = crops["only"]
    assert (left.x, left.y, left.width, left.height) == tuple(found)
