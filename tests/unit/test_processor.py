"""The library's face: every method does what it says, from any thread, and leaves nothing behind."""

import inspect
import io
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import image_processor
from image_processor import (
    Convert,
    Crop,
    ImageProcessor,
    ImageProcessorError,
    InvalidOperationError,
    InvalidRequestError,
    JpegOutput,
    Limits,
    MissingExtraError,
    NotFoundError,
    Pipeline,
    PngOutput,
    Resize,
    Result,
    SourceOutput,
    StorageError,
    UnsupportedFormatError,
    Variant,
    WebpOutput,
)
from image_processor.errors import ImageTooLargeError
from image_processor.pipeline import BUILTIN_PRESETS
from image_processor.pipeline.chain import OPERATIONS
from image_processor.processor import Options
from image_processor.testing import sample_images

WIDTH, HEIGHT = 160, 120


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    path = tmp_path_factory.mktemp("photos") / "photo.jpg"
    path.write_bytes(sample_images.photo(WIDTH, HEIGHT, orientation=6))
    return path


@pytest.fixture(scope="module")
def processor():
    return ImageProcessor()


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    """Where temporary files go."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_every_name_that_is_offered_is_there():
    for name in image_processor.__all__:
        assert getattr(image_processor, name) is not None
    assert set(dir(image_processor)) == set(image_processor.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = image_processor.Nothing


@pytest.mark.parametrize(
    ("method", "parameters", "size"),
    [
        ("resize", {"width": 80}, (80, 60)),
        ("resize", {"width": 80, "height": 80}, (80, 80)),
        ("resize", {"width": 80, "height": 80, "preserve_aspect": True}, (80, 60)),
        ("resize", {"width": 80, "height": 80, "fit": "cover", "position": "north"}, (80, 80)),
        ("resize", {"width": 80, "height": 80, "fit": "contain", "background": "#ff0000"}, (80, 80)),
        ("resize", {"width": 80, "height": 80, "fit": "cover", "focus": {"x": 0, "y": 1}}, (80, 80)),
        ("resize", {"percent": 200}, (320, 240)),
        ("resize", {"width": 320}, (160, 120)),
        ("resize", {"width": 320, "allow_enlarge": True}, (320, 240)),
        ("crop", {"x": 10, "y": 20, "width": 30, "height": 40}, (30, 40)),
        ("crop", {"aspect": "1:1", "gravity": "west"}, (120, 120)),
        ("rotate", {"degrees": 90}, (120, 160)),
        ("flip", {}, (160, 120)),
        ("flop", {}, (160, 120)),
        ("pad", {"top": 1, "right": 2, "bottom": 3, "left": 4}, (166, 124)),
        ("convert", {"format": "png"}, (160, 120)),
        ("optimize", {}, (160, 120)),
    ],
)
def test_a_method_gives_the_size_it_announces(processor, photo, method, parameters, size):
    result = getattr(processor, method)(photo, **parameters)
    assert (result.size, result.source_size) == (size, (WIDTH, HEIGHT))
    assert Image.open(io.BytesIO(result.data)).size == size


LOOKS = [
    ("trim", {}),
    ("blur", {"sigma": 3}),
    ("sharpen", {}),
    ("grayscale", {}),
    ("tint", {"color": "#ff8800"}),
    ("adjust", {"brightness": 1.5}),
    ("gamma", {}),
    ("flatten", {}),
    ("watermark", {"text": "mine"}),
    ("rotate", {"degrees": 30}),
]


@pytest.mark.parametrize(("method", "parameters"), LOOKS)
def test_a_method_is_its_operation(processor, photo, method, parameters):
    """Both ways end in the same bytes, and so every parameter arrives."""
    by_method = getattr(processor, method)(photo, **parameters, output="png")
    by_chain = processor.process(photo, [{"op": method, **parameters}], output="png")
    assert by_method.data == by_chain.data


METHODS = {name for name in OPERATIONS if name not in {"convert", "strip", "metadata", "watermark"}}


@pytest.mark.parametrize("name", sorted(METHODS))
def test_a_method_has_the_fields_and_defaults_of_its_operation(name):
    parameters = dict(inspect.signature(getattr(ImageProcessor, name)).parameters)
    for beside in ("self", "source", "options"):
        del parameters[beside]
    fields = {field: info for field, info in OPERATIONS[name].model_fields.items() if field != "op"}
    assert set(parameters) == set(fields)
    for field, parameter in parameters.items():
        if parameter.default is not inspect.Parameter.empty and parameter.default is not None:
            assert parameter.default == fields[field].default, field


def test_every_operation_has_its_method():
    assert all(hasattr(ImageProcessor, name) for name in METHODS | {"convert", "watermark"})


def test_a_watermark_may_be_a_file(processor, photo, tmp_path):
    mark = tmp_path / "mark.png"
    mark.write_bytes(sample_images.png_with_alpha(32, 24))
    from_file = processor.watermark(photo, image=mark, width_percent=20)
    assert from_file.data == processor.watermark(photo, image=mark.read_bytes(), width_percent=20).data
    assert from_file.data != processor.resize(photo, percent=100).data
    with pytest.raises(InvalidRequestError, match=r"nowhere\.png cannot be read"):
        processor.watermark(photo, image=tmp_path / "nowhere.png")
    mark.write_bytes(bytes(300_000))
    with pytest.raises(InvalidOperationError, match=r"image is 262145 bytes; it must be .* 262144"):
        processor.watermark(photo, image=mark)


def test_a_chain_of_objects_and_values(processor, photo):
    objects = [
        {"op": "resize", "width": 100},
        {"op": "crop", "aspect": "16:9"},
        {"op": "convert", "format": "webp", "quality": 50},
    ]
    values = [Resize(width=100), Crop(aspect="16:9"), Convert(output=WebpOutput(quality=50))]
    result = processor.process(photo, objects)
    assert (result.size, result.format, result.media_type) == ((100, 56), "WEBP", "image/webp")
    assert processor.process(photo, values).data == result.data


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda p, s: p.blur(s, sigma=1000), "blur: sigma is 1000; it must be from 0.3 to 100."),
        (lambda p, s: p.resize(s), "resize needs a width, a height or both, or a percent."),
        (lambda p, s: p.convert(s, "webp", speed=3), "convert has no field 'speed'"),
        (lambda p, s: p.flip(s, metadata="gps"), "options: metadata is 'gps'"),
        (lambda p, s: p.flip(s, colour="red"), "options has no field 'colour'"),
        (lambda p, s: p.flip(s, output={"format": "png", "quality": 3}), "output png has no field 'quality'"),
        (lambda p, s: p.process(s, {"op": "flip"}), "The operations are a list"),
        (lambda p, s: p.crop(s, x=900, y=0, width=9, height=9), "outside the image"),
    ],
)
def test_what_cannot_be_done_is_told_in_a_sentence(processor, photo, call, sentence):
    with pytest.raises(InvalidOperationError, match=sentence.replace(".", r"\.")) as caught:
        call(processor, photo)
    assert str(caught.value).endswith(".")


def test_a_format_that_cannot_be_written_lists_the_others(processor, photo):
    with pytest.raises(UnsupportedFormatError, match="JPEG, PNG, WebP, AVIF, GIF, TIFF"):
        processor.convert(photo, "xyz")


def test_a_wrong_operation_is_told_before_the_source_is_touched(processor):
    with pytest.raises(InvalidOperationError):
        processor.rotate("nowhere.jpg", 999)
    with pytest.raises(NotFoundError, match=r"There is no file nowhere\.jpg\."):
        processor.rotate("nowhere.jpg", 9)


def test_a_clipped_crop_is_told(processor, photo):
    result = processor.crop(photo, x=100, y=0, width=100, height=100)
    assert result.size == (60, 100)
    (note,) = result.notes
    assert "clipped to 60 x 100" in note


@pytest.mark.parametrize(
    ("accept", "format_"),
    [("image/webp,*/*;q=0.8", "WEBP"), ("*/*", "JPEG"), (None, "JPEG"), ("image/png", "PNG")],
)
def test_a_format_for_a_client(processor, photo, accept, format_):
    assert processor.convert(photo, "auto", accept=accept, quality=50).format == format_


def test_transparency_counts_when_a_format_is_chosen(processor):
    clear = sample_images.webp(32, 24, lossless=True)
    assert processor.convert(clear, "auto").format == "JPEG"
    assert processor.convert(sample_images.png_with_alpha(32, 24), "auto").format == "PNG"
    padded = [{"op": "pad", "top": 9, "background": "#00000000"}, {"op": "convert", "format": "auto"}]
    assert processor.process(clear, padded).format == "PNG"
    assert processor.process(clear, [*padded[:1], {"op": "flatten"}, padded[1]]).format == "JPEG"


def test_options_reach_the_file(processor):
    source = sample_images.photo(WIDTH, HEIGHT, with_metadata=True)
    assert not processor.resize(source, 80).to_pillow().getexif()
    kept = processor.resize(source, 80, metadata="all", output=JpegOutput(quality=30))
    assert kept.to_pillow().getexif()[0x010F] == "Camera of nobody"
    assert len(kept) < len(processor.resize(source, 80, metadata="all"))
    assert processor.resize(source, 80, output="WebP").format == "WEBP"


def test_an_optimized_file_is_never_longer(processor):
    small = sample_images.photo(WIDTH, HEIGHT, quality=20)
    result = processor.optimize(small)
    assert (result.format, result.size) == ("JPEG", (WIDTH, HEIGHT))
    assert len(result) <= len(small)


def test_variants_of_a_preset_and_of_a_pipeline(processor, photo):
    web = processor.variants(photo, "web")
    assert {name: result.format for name, result in web.items()} == dict.fromkeys(web, "WEBP")
    assert [result.width for result in web.values()] == [150, 160, 160, 160]
    assert processor.variants(photo, BUILTIN_PRESETS["web"])["thumbnail"].data == web["thumbnail"].data
    own = Pipeline(variants=(Variant(name="own", output=SourceOutput()),))
    assert processor.variants(photo, own)["own"].format == "JPEG"
    assert processor.variants(np.zeros((9, 9, 3), np.uint8), own)["own"].format == "PNG"
    with pytest.raises(InvalidRequestError, match="'small'; there are web, thumbnails, avatar"):
        processor.variants(photo, "small")


def test_facts_of_a_source(processor, photo):
    facts = processor.inspect(photo)
    assert (facts.format, facts.width, facts.height, facts.orientation) == ("jpeg", WIDTH, HEIGHT, 6)
    assert facts.dominant_color is None
    assert processor.inspect(photo, dominant_color=True).dominant_color


def test_limits_are_the_callers_to_set(photo):
    with pytest.raises(ImageTooLargeError):
        ImageProcessor(limits=Limits(max_pixels=WIDTH * HEIGHT - 1)).flip(photo)
    assert ImageProcessor(limits=Limits(max_pixels=WIDTH * HEIGHT)).flip(photo).width == WIDTH


def test_many_threads_may_share_one(processor, photo):
    with ThreadPoolExecutor(8) as pool:
        widths = list(pool.map(lambda width: processor.resize(photo, width).width, range(10, 42)))
    assert widths == list(range(10, 42))


def test_nothing_is_left_behind(scratch, processor, photo):
    processor.resize(photo.read_bytes(), 10)
    for source in (sample_images.truncated_jpeg(), b"rubbish", "nowhere.jpg"):
        with pytest.raises(ImageProcessorError):
            processor.resize(source, 10)
    assert not list(scratch.iterdir())


@pytest.mark.slow
def test_isolated_pictures_are_decoded_elsewhere(scratch, photo):
    with ImageProcessor(isolated=True) as isolated:
        (folder,) = scratch.iterdir()
        assert isolated.resize(photo, 80).data == ImageProcessor().resize(photo, 80).data
        assert isolated.inspect(photo.read_bytes()).width == WIDTH
        with ThreadPoolExecutor(4) as pool:
            sizes = list(pool.map(lambda width: isolated.resize(photo, width).width, range(10, 18)))
        assert sizes == list(range(10, 18))
        assert not list(folder.iterdir())
        child = isolated._engine.child_pid
        assert Path(f"/proc/{child}").exists()
    assert not list(scratch.iterdir())
    assert not Path(f"/proc/{child}").exists()


def test_what_is_closed_says_so(photo):
    with ImageProcessor() as closed:
        closed.flip(photo)
    closed.close()
    with pytest.raises(InvalidRequestError, match="closed"):
        closed.flip(photo)


def result_of(image, format_="PNG", **options):
    file = io.BytesIO()
    image.save(file, format_, **options)
    known = {"PNG": PngOutput, "WEBP": WebpOutput}[format_]()
    return Result(
        data=file.getvalue(),
        image_format=image_processor.ImageFormat(known.format),
        size=image.size,
        source_size=image.size,
        dominant_color="#000000",
    )


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.new("L", (3, 2), 7), [7]),
        (Image.new("1", (3, 2), 1), [255]),
        (Image.new("RGB", (3, 2), (1, 2, 3)), [1, 2, 3]),
        (Image.new("RGBA", (3, 2), (1, 2, 3, 4)), [1, 2, 3, 4]),
        (Image.new("LA", (3, 2), (7, 9)), [7, 7, 7, 9]),
        (Image.new("RGB", (3, 2), (9, 9, 9)).quantize(2), [9, 9, 9]),
        (Image.new("I;16", (3, 2), 257 * 100), [100]),
    ],
    ids=lambda value: getattr(value, "mode", None),
)
def test_pixels_have_8_bits_and_1_3_or_4_channels(image, expected):
    array = result_of(image).to_numpy()
    assert (array.shape, array.dtype) == ((2, 3, len(expected)), np.uint8)
    assert array[0, 0].tolist() == expected
    array[0, 0] = 0


def test_without_numpy_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "numpy", None)
    with pytest.raises(MissingExtraError, match="extra 'numpy'"):
        result_of(Image.new("L", (1, 1))).to_numpy()


def test_a_result_is_a_value_without_its_bytes_in_the_way():
    result = result_of(Image.new("L", (3, 2)))
    assert len(result) == len(result.data) == len(bytes(result))
    assert repr(result) == f"<Result: PNG, 3 x 2 pixels, {len(result)} bytes>"
    assert (result.width, result.height, result.extension) == (3, 2, "png")
    with pytest.raises(AttributeError):
        result.data = b""


def test_a_file_is_saved_whole_or_not_at_all(tmp_path):
    result = result_of(Image.new("L", (3, 2)))
    target = tmp_path / ("x" * 250 + ".png")
    target.write_bytes(b"old")
    assert result.save(str(target)) == target
    assert target.read_bytes() == result.data
    assert target.stat().st_mode & 0o777 == 0o666 & ~_umask()
    with pytest.raises(NotFoundError, match="There is no folder"):
        result.save(tmp_path / "nowhere" / "x.png")
    (tmp_path / "folder").mkdir()
    with pytest.raises(StorageError, match="cannot be written"):
        result.save(tmp_path / "folder")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", target.name]


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_options_are_those_that_the_reference_names():
    text = (Path(__file__).parents[2] / "docs" / "reference" / "operations.md").read_text(encoding="utf-8")
    table = text.split("## For the whole chain")[1].split("##")[0]
    assert set(Options.__annotations__) == {
        line.split("`")[1] for line in table.splitlines() if line[:3] == "| `"
    }


@pytest.mark.parametrize("isolated", [False, True])
def test_drawings_are_read_where_they_are_switched_on(isolated):
    with ImageProcessor(svg=True, isolated=isolated) as with_svg:
        assert with_svg.resize(sample_images.svg(), width=40).format == "PNG"


def test_drawings_are_refused_by_default(processor):
    with pytest.raises(UnsupportedFormatError, match="SVG"):
        processor.resize(sample_images.svg(), width=40)
