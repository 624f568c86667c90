"""What every engine must do, as executable tests that need nothing but plain asserts."""
# ruff: noqa: D102 - a test's name is its docstring

import base64
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from image_processor.engine.base import (
    Engine,
    Facts,
    InspectRequest,
    OnProgress,
    Rendering,
    RenderRequest,
)
from image_processor.errors import (
    CorruptImageError,
    FileTooLargeError,
    ImageProcessorError,
    ImageTooLargeError,
    ImageTooSmallError,
    InvalidOperationError,
    UnsupportedFormatError,
)
from image_processor.pipeline import (
    BUILTIN_PRESETS,
    Crop,
    ImageFormat,
    JpegOutput,
    Limits,
    Pipeline,
    PngOutput,
    Resize,
    SourceOutput,
    Variant,
    WebpOutput,
)
from image_processor.testing import sample_images

DEADLINE_SECONDS = 60
UNCHANGED_LIMITS = Limits()
EVERYTHING = {"dominant_color": True, "palette": 4, "blurhash": True, "thumbhash": True, "gps": True}
SMALL_WEBP = Pipeline(variants=(Variant(name="small", operations=(Resize(width=80),), output=WebpOutput()),))


@dataclass(frozen=True)
class Original:
    """The bytes of a test, what they are given out for, and the limits they are held against."""

    data: bytes
    format: ImageFormat = ImageFormat.JPEG
    limits: Limits = UNCHANGED_LIMITS


def a_photo(limits: Limits = UNCHANGED_LIMITS) -> Original:
    """A JPEG of 640 x 480."""
    return Original(sample_images.photo(640, 480), limits=limits)


def an_animation(limits: Limits = UNCHANGED_LIMITS) -> Original:
    """A WebP of three frames of 160 x 120."""
    return Original(sample_images.animated_webp(160, 120), ImageFormat.WEBP, limits)


class EngineContract:
    """
    Subclass it in a test module and give it a fixture `engine`, and `folder`, an empty one that it may use.

    Without pytest, call each method with an engine and an empty folder.
    """

    def test_makes_all_variants_in_the_order_of_the_pipeline(self, engine: Engine, folder: Path) -> None:
        rendering = render(
            engine, folder, Original(sample_images.photo(1600, 1200)), BUILTIN_PRESETS["web"].pipeline
        )
        found = [(variant.name, variant.width, variant.height) for variant in rendering.variants]
        assert found == [
            ("thumbnail", 150, 113),
            ("medium", 600, 450),
            ("large", 1200, 900),
            ("original", 1600, 1200),
        ]
        assert (rendering.width, rendering.height, rendering.frames) == (1600, 1200, 1)

    def test_every_file_is_where_and_what_the_rendering_says(self, engine: Engine, folder: Path) -> None:
        rendering = render(engine, folder, a_photo(), BUILTIN_PRESETS["thumbnails"].pipeline)
        for variant in rendering.variants:
            assert variant.path == folder / "out" / f"{variant.name}.{variant.format.extension}"
            content = variant.path.read_bytes()
            assert (len(content), hashlib.sha256(content).hexdigest()) == (variant.size_bytes, variant.sha256)

    def test_writes_no_other_files(self, engine: Engine, folder: Path) -> None:
        rendering = render(engine, folder, a_photo(), BUILTIN_PRESETS["thumbnails"].pipeline)
        written = {path.name for path in (folder / "out").iterdir()}
        assert written == {variant.path.name for variant in rendering.variants}

    def test_progress_grows_to_one(self, engine: Engine, folder: Path) -> None:
        told: list[float] = []
        render(engine, folder, a_photo(), BUILTIN_PRESETS["web"].pipeline, told.append)
        assert told == sorted(told)
        assert told[0] > 0
        assert told[-1] == 1.0
        assert len(told) > 1

    def test_the_dominant_color_is_rrggbb(self, engine: Engine, folder: Path) -> None:
        rendering = render(engine, folder, a_photo(), SMALL_WEBP)
        assert re.fullmatch(r"#[0-9A-F]{6}", rendering.dominant_color)

    def test_never_enlarges_unasked(self, engine: Engine, folder: Path) -> None:
        pipeline = one(Resize(width=5000), output=WebpOutput())
        (variant,) = render(engine, folder, Original(sample_images.photo(200, 100)), pipeline).variants
        assert (variant.width, variant.height) == (200, 100)

    def test_source_output_keeps_the_format(self, engine: Engine, folder: Path) -> None:
        (variant,) = render(
            engine, folder, Original(sample_images.png(), ImageFormat.PNG), one(output=SourceOutput())
        ).variants
        assert variant.format is ImageFormat.PNG

    def test_never_larger_holds(self, engine: Engine, folder: Path) -> None:
        original = Original(sample_images.photo(quality=40))
        pipeline = one(output=JpegOutput(quality=100), never_larger=True)
        (variant,) = render(engine, folder, original, pipeline).variants
        assert variant.size_bytes <= len(original.data)

    def test_webp_keeps_the_frames_and_jpeg_takes_the_first(self, engine: Engine, folder: Path) -> None:
        pipeline = Pipeline(
            variants=(
                Variant(name="moving", output=WebpOutput()),
                Variant(name="still", output=JpegOutput()),
            )
        )
        rendering = render(engine, folder, an_animation(), pipeline)
        assert [variant.frames for variant in rendering.variants] == [3, 1]
        assert {(variant.width, variant.height) for variant in rendering.variants} == {(160, 120)}
        assert rendering.frames == 3

    def test_a_picture_of_one_pixel_works(self, engine: Engine, folder: Path) -> None:
        pixel = Original(sample_images.one_pixel(), ImageFormat.PNG)
        rendering = render(engine, folder, pixel, BUILTIN_PRESETS["web"].pipeline)
        assert {(variant.width, variant.height) for variant in rendering.variants} == {(1, 1)}

    def test_a_crop_is_clipped_to_the_image(self, engine: Engine, folder: Path) -> None:
        pipeline = one(Crop(x=600, y=400, width=500, height=500), output=PngOutput())
        (variant,) = render(engine, folder, a_photo(), pipeline).variants
        assert (variant.width, variant.height) == (40, 80)

    def test_a_crop_outside_the_image_is_refused(self, engine: Engine, folder: Path) -> None:
        pipeline = one(Crop(x=640, y=0, width=10, height=10), output=PngOutput())
        refuses(InvalidOperationError, engine, folder, a_photo(), pipeline)

    def test_a_variant_of_more_pixels_than_allowed_is_refused(self, engine: Engine, folder: Path) -> None:
        pipeline = one(Resize(width=60_000, height=60_000, fit="exact", allow_enlarge=True))
        refuses(InvalidOperationError, engine, folder, a_photo(), pipeline)

    def test_a_truncated_image_is_corrupt(self, engine: Engine, folder: Path) -> None:
        refuses(CorruptImageError, engine, folder, Original(sample_images.truncated_jpeg()))

    def test_bytes_of_another_format_are_unsupported(self, engine: Engine, folder: Path) -> None:
        refuses(UnsupportedFormatError, engine, folder, Original(sample_images.png()))

    def test_what_is_no_image_is_unsupported(self, engine: Engine, folder: Path) -> None:
        refuses(UnsupportedFormatError, engine, folder, Original(b"Dear diary, today"))

    def test_an_empty_file_is_unsupported(self, engine: Engine, folder: Path) -> None:
        refuses(UnsupportedFormatError, engine, folder, Original(b""))

    def test_a_format_without_a_decoder_is_unsupported(self, engine: Engine, folder: Path) -> None:
        refuses(UnsupportedFormatError, engine, folder, Original(sample_images.photo(), ImageFormat.HEIC))

    def test_too_long_a_side_is_refused(self, engine: Engine, folder: Path) -> None:
        refuses(ImageTooLargeError, engine, folder, a_photo(Limits(max_side=600)))

    def test_too_many_pixels_are_refused_from_the_header(self, engine: Engine, folder: Path) -> None:
        bomb = sample_images.png_header_only(30_000, 30_000)
        refuses(ImageTooLargeError, engine, folder, Original(bomb, ImageFormat.PNG))

    def test_the_frames_count_among_the_pixels(self, engine: Engine, folder: Path) -> None:
        limits = Limits(max_pixels=2 * 160 * 120)
        refuses(ImageTooLargeError, engine, folder, an_animation(limits))

    def test_too_many_frames_are_refused(self, engine: Engine, folder: Path) -> None:
        limits = Limits(max_frames=2)
        refuses(ImageTooLargeError, engine, folder, an_animation(limits))

    def test_too_short_a_side_is_refused(self, engine: Engine, folder: Path) -> None:
        limits = Limits(min_side=100)
        refuses(ImageTooSmallError, engine, folder, Original(sample_images.photo(300, 99), limits=limits))

    def test_too_many_bytes_are_refused(self, engine: Engine, folder: Path) -> None:
        refuses(FileTooLargeError, engine, folder, a_photo(Limits(max_bytes=1000)))

    def test_goes_on_after_an_error(self, engine: Engine, folder: Path) -> None:
        refuses(CorruptImageError, engine, folder, Original(sample_images.truncated_jpeg()))
        again = render(engine, folder, a_photo(), SMALL_WEBP)
        assert [variant.name for variant in again.variants] == ["small"]

    def test_inspect_tells_what_the_header_says(self, engine: Engine, folder: Path) -> None:
        original = a_photo()
        facts = inspect(engine, folder, original)
        assert (facts.format, facts.media_type) == (ImageFormat.JPEG, "image/jpeg")
        assert (facts.width, facts.height, facts.frames) == (640, 480, 1)
        assert facts.size_bytes == len(original.data)
        assert not facts.has_alpha

    def test_inspect_tells_the_size_of_the_upright_picture(self, engine: Engine, folder: Path) -> None:
        facts = inspect(engine, folder, Original(sample_images.photo(200, 100, orientation=6)))
        assert (facts.width, facts.height, facts.orientation) == (200, 100, 6)

    def test_inspect_counts_frames(self, engine: Engine, folder: Path) -> None:
        facts = inspect(engine, folder, an_animation())
        assert (facts.width, facts.height, facts.frames) == (160, 120, 3)

    def test_inspect_sees_transparency(self, engine: Engine, folder: Path) -> None:
        facts = inspect(engine, folder, Original(sample_images.png_with_alpha(), ImageFormat.PNG))
        assert facts.has_alpha

    def test_inspect_tells_no_more_than_was_asked(self, engine: Engine, folder: Path) -> None:
        facts = inspect(engine, folder, Original(sample_images.photo(with_metadata=True)))
        assert facts.exif is not None
        assert (facts.exif.camera_make, facts.exif.has_gps) == ("Camera of nobody", True)
        assert facts.exif.gps is None
        assert (facts.dominant_color, facts.palette, facts.blurhash, facts.thumbhash) == (
            None,
            (),
            None,
            None,
        )

    def test_inspect_tells_what_was_asked(self, engine: Engine, folder: Path) -> None:
        original = Original(sample_images.photo(with_metadata=True))
        facts = inspect(engine, folder, original, **EVERYTHING)
        assert facts.exif is not None
        assert facts.exif.gps is not None
        assert (facts.exif.gps.latitude, facts.exif.gps.longitude) == (48.858333, 2.294444)
        assert re.fullmatch(r"#[0-9A-F]{6}", facts.dominant_color or "")
        assert 1 <= len(facts.palette) <= 4
        assert len(facts.blurhash or "") == 28
        assert len(base64.b64decode(facts.thumbhash or "")) >= 5

    def test_inspect_writes_nothing(self, engine: Engine, folder: Path) -> None:
        inspect(engine, folder, a_photo(), **EVERYTHING)
        assert [path.name for path in folder.rglob("*")] == ["original"]

    def test_inspect_takes_what_is_cut_off_as_corrupt_or_tells_its_header(
        self, engine: Engine, folder: Path
    ) -> None:
        try:
            facts = inspect(engine, folder, Original(sample_images.truncated_jpeg()))
        except CorruptImageError:
            return
        assert (facts.width, facts.height) == (640, 480)

    def test_inspect_of_the_pixels_of_a_truncated_image_is_corrupt(
        self, engine: Engine, folder: Path
    ) -> None:
        cut_off = Original(sample_images.truncated_jpeg())
        raises(CorruptImageError, folder, lambda: inspect(engine, folder, cut_off, **EVERYTHING))

    def test_inspect_refuses_what_render_refuses(self, engine: Engine, folder: Path) -> None:
        for expected, original in (
            (UnsupportedFormatError, Original(b"Dear diary, today")),
            (UnsupportedFormatError, Original(sample_images.png())),
            (ImageTooLargeError, a_photo(Limits(max_side=600))),
            (ImageTooLargeError, Original(sample_images.png_header_only(), ImageFormat.PNG)),
            (FileTooLargeError, a_photo(Limits(max_bytes=1000))),
        ):
            raises(expected, folder, lambda: inspect(engine, folder, original))  # noqa: B023 - called at once

    def test_inspects_and_renders_in_turn(self, engine: Engine, folder: Path) -> None:
        assert inspect(engine, folder, a_photo()).width == 640
        assert len(render(engine, folder, a_photo(), SMALL_WEBP).variants) == 1
        assert inspect(engine, folder, an_animation()).width == 160

    def test_an_interrupt_of_an_idle_engine_does_nothing(self, engine: Engine, folder: Path) -> None:
        engine.interrupt()
        rendering = render(engine, folder, a_photo(), SMALL_WEBP)
        assert len(rendering.variants) == 1


def one(
    *operations: Crop | Resize,
    output: JpegOutput | PngOutput | WebpOutput | SourceOutput | None = None,
    never_larger: bool = False,
) -> Pipeline:
    """A pipeline of one variant, `only`."""
    variant = Variant(
        name="only", operations=operations, output=output or WebpOutput(), never_larger=never_larger
    )
    return Pipeline(variants=(variant,))


def render(
    engine: Engine,
    folder: Path,
    original: Original,
    pipeline: Pipeline,
    on_progress: OnProgress | None = None,
) -> Rendering:
    """The rendering of the original, its files in `out`, a directory of the folder that is emptied before."""
    output = folder / "out"
    output.mkdir(exist_ok=True)
    for leftover in output.iterdir():
        leftover.unlink()
    source = folder / "original"
    source.write_bytes(original.data)
    request = RenderRequest(
        source=source,
        source_format=original.format,
        pipeline=pipeline,
        output_directory=output,
        limits=original.limits,
    )
    return engine.render(request, deadline_seconds=DEADLINE_SECONDS, on_progress=on_progress)


def inspect(engine: Engine, folder: Path, original: Original, **wanted: Any) -> Facts:
    """The facts of the original; `wanted` is what the request asks for."""
    source = folder / "original"
    source.write_bytes(original.data)
    request = InspectRequest(source=source, source_format=original.format, limits=original.limits, **wanted)
    return engine.inspect(request, deadline_seconds=DEADLINE_SECONDS)


def refuses(
    expected: type[ImageProcessorError],
    engine: Engine,
    folder: Path,
    original: Original,
    pipeline: Pipeline = SMALL_WEBP,
) -> None:
    """Asserts that the render raises exactly this error, with a sentence that names no path."""
    raises(expected, folder, lambda: render(engine, folder, original, pipeline))


def raises(expected: type[ImageProcessorError], folder: Path, act: Callable[[], object]) -> None:
    """Asserts that exactly this error is raised, with a sentence that names no path."""
    try:
        act()
    except ImageProcessorError as error:
        raised = error
    else:
        raise AssertionError(f"{expected.__name__} was not raised")
    assert type(raised) is expected, raised
    assert str(folder) not in raised.message
    assert raised.message.endswith(".")
