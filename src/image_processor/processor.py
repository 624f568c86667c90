"""ImageProcessor: the library's face. Each method builds operations; the engine does the work."""

import contextlib
import os
import shutil
import tempfile
import threading
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias, TypedDict, Unpack

from image_processor.engine.base import (
    Engine,
    Facts,
    InspectRequest,
    RenderedVariant,
    Rendering,
    RenderRequest,
)
from image_processor.engine.isolate import IsolatedEngine
from image_processor.errors import InvalidRequestError
from image_processor.pipeline import (
    BUILTIN_PRESETS,
    Fit,
    Focus,
    Gravity,
    ImageFormat,
    Limits,
    Metadata,
    Optimize,
    Pipeline,
    Preset,
    Profile,
    Smart,
)
from image_processor.pipeline.chain import RESULT, Chain, ChainOperation, OutputLike, read_chain
from image_processor.pipeline.negotiation import AutoOutput, Traits
from image_processor.pipeline.operations.watermark import MAX_WATERMARK_BYTES
from image_processor.pipeline.outputs import resolve_output
from image_processor.result import Result
from image_processor.sources import SUPPORTED, WITH_SVG, Source, StagedSource, stage

LIBRARY_LIMITS = Limits(max_bytes=4 * 1024**3)
"""The limit on uploads is for strangers; a caller of the library has files of their own."""
DEADLINE_SECONDS = 600.0
"""For one call; kept by the isolated engine alone, which can stop its work."""

MetadataName: TypeAlias = Metadata | Literal["none", "copyright", "all"]
OptimizeName: TypeAlias = Optimize | Literal["speed", "balanced", "size"]
ProfileName: TypeAlias = Profile | Literal["srgb", "source"]
FitName: TypeAlias = Fit | Literal["exact", "inside", "outside", "cover", "pad", "contain"]
SmartName: TypeAlias = Smart | Literal["attention", "entropy", "face"]
GravityName: TypeAlias = (
    Gravity
    | Literal["center", "north", "northeast", "east", "southeast", "south", "southwest", "west", "northwest"]
)
FocusLike: TypeAlias = Focus | Mapping[str, float]
QualityLike: TypeAlias = int | Literal["auto"]


class Options(TypedDict, total=False):
    """What every method takes beside its own parameters."""

    output: OutputLike | None
    """How the result is written; by default in the source's own format."""
    metadata: MetadataName
    """What of the source's metadata is kept; by default nothing."""
    optimize: OptimizeName
    """How much time a smaller file is worth; by default `balanced`."""
    profile: ProfileName
    """The colour space of the result; by default sRGB."""
    linear_light: bool
    """Whether sizes are changed in linear light."""


class ConvertOptions(Options, total=False):
    """The settings of the formats; each format has some of them."""

    quality: QualityLike
    max_bytes: int
    lossless: bool
    near_lossless: bool
    compression: int | Literal["none", "lzw", "deflate", "jpeg"]
    palette: bool
    colors: int
    dither: float
    bit_depth: int
    speed: int
    subsampling: Literal["auto", "4:2:0", "4:4:4"]
    background: str
    gain_map: bool
    accept: str | None
    formats: Sequence[str | ImageFormat] | None


class ImageProcessor:
    """
    Reads, changes and writes pictures; each method takes a source and gives a Result.

    Any number of threads may share one. Close it, or use it as a context manager, to give back what it holds.

    Args:
        limits: what is refused before it is decoded; by default 120 megapixels and 4 GiB.
        isolated: whether pictures are decoded in a limited process of their own, one at a time: for
            strangers' files. By default it happens in this process: faster, for files that you trust.
        svg: whether SVG drawings are read too; nothing that they refer to is loaded.

    All methods raise:
        UnsupportedFormatError: no image, or of a format that cannot be read or written.
        CorruptImageError: truncated or damaged.
        FileTooLargeError, ImageTooLargeError: over the limits.
        InvalidOperationError: a parameter out of its range, or impossible for this image.
        NotFoundError, InvalidRequestError: a file that is not there, or not readable.
    """

    def __init__(self, *, limits: Limits | None = None, isolated: bool = False, svg: bool = False) -> None:
        self._limits = limits or LIBRARY_LIMITS
        self._accepts = WITH_SVG if svg else SUPPORTED
        self._is_isolated = isolated
        self._turn = threading.Lock() if isolated else contextlib.nullcontext()
        """Waiting for the isolated engine is not to count against a call's deadline."""
        self._folder = Path(tempfile.mkdtemp(prefix="image-processor-")) if isolated else None
        self._engine = _isolated_engine(self._folder) if self._folder else _local_engine()
        self._give_back = weakref.finalize(self, _give_back, self._engine, self._folder, os.getpid())

    def close(self) -> None:
        """Give back what is held; calls that come later raise InvalidRequestError."""
        self._give_back()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def process(
        self, source: Source, operations: Iterable[ChainOperation], **options: Unpack[Options]
    ) -> Result:
        """
        The operations in their order, from one decode.

        They are values (`Resize(width=800)`) or objects as JSON has them (`{"op": "resize", "width": 800}`),
        at most 20; `convert`, `strip` and `metadata` among them say how the result is written.
        """
        return self._run(source, operations, options)

    def resize(  # noqa: PLR0913 - each is the caller's to choose
        self,
        source: Source,
        width: int | None = None,
        height: int | None = None,
        *,
        percent: float | None = None,
        preserve_aspect: bool | None = None,
        fit: FitName | None = None,
        position: GravityName | SmartName = "center",
        focus: FocusLike | None = None,
        background: str = "#ffffff",
        allow_enlarge: bool | None = None,
        **options: Unpack[Options],
    ) -> Result:
        """
        Another size: exactly `width` x `height`, or one of them, or `percent`.

        With `preserve_aspect=True` it is as large as fits inside; `fit` says otherwise. Nothing is enlarged
        but to an exact size, in percent, or with `allow_enlarge=True`.
        """
        given = _given(
            width=width,
            height=height,
            percent=percent,
            preserve_aspect=preserve_aspect,
            fit=fit,
            focus=focus,
            allow_enlarge=allow_enlarge,
        )
        operation = {"op": "resize", "position": position, "background": background, **given}
        return self._run(source, [operation], options)

    def crop(  # noqa: PLR0913 - each is the caller's to choose
        self,
        source: Source,
        x: int | None = None,
        y: int | None = None,
        width: int | None = None,
        height: int | None = None,
        *,
        aspect: str | None = None,
        gravity: GravityName = "center",
        smart: SmartName | None = None,
        focus: FocusLike | None = None,
        **options: Unpack[Options],
    ) -> Result:
        """
        A region: at `x`, `y`; or of a size or an `aspect` such as `16:9`, placed by gravity, smart or focus.

        A region that reaches beyond the image is clipped to it; `Result.notes` says so.
        """
        given = _given(x=x, y=y, width=width, height=height, aspect=aspect, smart=smart, focus=focus)
        return self._run(source, [{"op": "crop", "gravity": gravity, **given}], options)

    def rotate(
        self, source: Source, degrees: float, *, background: str = "#ffffff", **options: Unpack[Options]
    ) -> Result:
        """Turned clockwise; what the corners uncover has the background's colour."""
        return self._run(source, [{"op": "rotate", "degrees": degrees, "background": background}], options)

    def flip(self, source: Source, **options: Unpack[Options]) -> Result:
        """Upside down."""
        return self._run(source, [{"op": "flip"}], options)

    def flop(self, source: Source, **options: Unpack[Options]) -> Result:
        """Left and right swapped, as in a mirror."""
        return self._run(source, [{"op": "flop"}], options)

    def trim(
        self,
        source: Source,
        *,
        threshold: float = 10,
        background: str | None = None,
        **options: Unpack[Options],
    ) -> Result:
        """Borders of one colour cut off."""
        operation = {"op": "trim", "threshold": threshold, "background": background}
        return self._run(source, [operation], options)

    def pad(  # noqa: PLR0913 - each is the caller's to choose
        self,
        source: Source,
        *,
        top: int = 0,
        right: int = 0,
        bottom: int = 0,
        left: int = 0,
        background: str = "#ffffff",
        **options: Unpack[Options],
    ) -> Result:
        """Borders added, in pixels."""
        sides = {"top": top, "right": right, "bottom": bottom, "left": left}
        return self._run(source, [{"op": "pad", **sides, "background": background}], options)

    def blur(self, source: Source, sigma: float = 1.0, **options: Unpack[Options]) -> Result:
        """A Gaussian blur; `sigma` is its standard deviation in pixels, 0.3 to 100."""
        return self._run(source, [{"op": "blur", "sigma": sigma}], options)

    def sharpen(
        self,
        source: Source,
        sigma: float = 1.0,
        *,
        flat: float = 1.0,
        jagged: float = 2.0,
        **options: Unpack[Options],
    ) -> Result:
        """An unsharp mask on the lightness, milder in flat areas than at jagged edges."""
        operation = {"op": "sharpen", "sigma": sigma, "flat": flat, "jagged": jagged}
        return self._run(source, [operation], options)

    def grayscale(self, source: Source, **options: Unpack[Options]) -> Result:
        """Shades of grey by lightness."""
        return self._run(source, [{"op": "grayscale"}], options)

    def tint(self, source: Source, color: str, **options: Unpack[Options]) -> Result:
        """The hue of one colour over the lightness of the image."""
        return self._run(source, [{"op": "tint", "color": color}], options)

    def adjust(
        self,
        source: Source,
        *,
        brightness: float = 1.0,
        contrast: float = 1.0,
        saturation: float = 1.0,
        hue: float = 0.0,
        **options: Unpack[Options],
    ) -> Result:
        """Brightness, contrast and saturation as factors from 0 to 10, and a turn of the hue in degrees."""
        factors = {"brightness": brightness, "contrast": contrast, "saturation": saturation}
        return self._run(source, [{"op": "adjust", **factors, "hue": hue}], options)

    def gamma(self, source: Source, gamma: float = 2.2, **options: Unpack[Options]) -> Result:
        """A brightness curve: above 1 brightens the middle tones, below 1 darkens them."""
        return self._run(source, [{"op": "gamma", "gamma": gamma}], options)

    def flatten(self, source: Source, *, background: str = "#ffffff", **options: Unpack[Options]) -> Result:
        """Transparency laid on a colour."""
        return self._run(source, [{"op": "flatten", "background": background}], options)

    def watermark(  # noqa: PLR0913 - each is the caller's to choose
        self,
        source: Source,
        *,
        image: str | os.PathLike[str] | bytes | None = None,
        text: str | None = None,
        gravity: GravityName = "southeast",
        opacity: float = 1.0,
        tile: bool = False,
        margin: int = 0,
        width_percent: float | None = None,
        size: int | None = None,
        color: str | None = None,
        **options: Unpack[Options],
    ) -> Result:
        """
        An image or a line of text laid over the image.

        `image` is a PNG, JPEG or WebP file of at most 256 KiB, as its path or its bytes; `width_percent` is
        its width. `size` and `color` are the text's.
        """
        given = _given(
            image=_watermark_bytes(image), text=text, width_percent=width_percent, size=size, color=color
        )
        placing = {"gravity": gravity, "opacity": opacity, "tile": tile, "margin": margin}
        return self._run(source, [{"op": "watermark", **placing, **given}], options)

    def convert(
        self,
        source: Source,
        format: str | ImageFormat,  # noqa: A002 - the word that everybody looks for
        **settings: Unpack[ConvertOptions],
    ) -> Result:
        """
        Another format: `jpeg`, `png`, `webp`, `avif`, `gif`, `tiff`, with the settings of that format.

        `auto` chooses for a client, by its `accept` header or by the `formats` that it shows.
        """
        options, output = _divided(settings)
        return self._run(source, [{"op": "convert", "format": str(format), **output}], options)

    def optimize(self, source: Source, **options: Unpack[Options]) -> Result:
        """The same picture with fewer bytes, in its own format unless `output` names one; never with more."""
        return self._run(source, [], {"optimize": Optimize.SIZE, **options}, never_larger=True)

    def variants(self, source: Source, pipeline: str | Preset | Pipeline) -> dict[str, Result]:
        """
        All variants of a pipeline by their names, from one decode.

        Args:
            source: the picture.
            pipeline: a pipeline, a preset, or the name of one: `web`, `thumbnails`, `avatar`. What a preset
                accepts and where it stores are for the service.
        """
        chosen = _pipeline(pipeline)
        keeps = any(variant.metadata is not Metadata.NONE for variant in chosen.variants)
        with self._staged(source, with_metadata=keeps) as (staged, folder):
            return self._render(staged, folder, chosen)

    def inspect(  # noqa: PLR0913 - each is the caller's to choose
        self,
        source: Source,
        *,
        dominant_color: bool = False,
        palette: int = 0,
        blurhash: bool = False,
        thumbhash: bool = False,
        gps: bool = False,
    ) -> Facts:
        """
        What a picture is and says of itself, from its header; `palette` is a number of colours, at most.

        What is asked for by name needs a decode, at a small size. `gps=True` tells where it was taken.
        """
        with self._staged(source, with_metadata=True) as (staged, _):
            return self._inspect(
                staged,
                dominant_color=dominant_color,
                palette=palette,
                blurhash=blurhash,
                thumbhash=thumbhash,
                gps=gps,
            )

    def _run(
        self,
        source: Source,
        operations: Iterable[ChainOperation],
        options: Options,
        *,
        never_larger: bool = False,
    ) -> Result:
        policies: dict[str, Any] = {name: value for name, value in options.items() if name != "output"}
        chain = read_chain(operations, output=options.get("output"), policies=policies)
        keeps = chain.policies.metadata is not Metadata.NONE
        with self._staged(source, with_metadata=keeps) as (staged, folder):
            pipeline = chain.pipeline(self._traits(chain, staged), never_larger=never_larger)
            return self._render(staged, folder, pipeline)[RESULT]

    @contextlib.contextmanager
    def _staged(self, source: Source, *, with_metadata: bool) -> Iterator[tuple[StagedSource, Path]]:
        """The source as a file, and an empty folder for the files that are made of it."""
        if not self._give_back.alive:
            raise InvalidRequestError("This processor is closed.")
        with tempfile.TemporaryDirectory(prefix="image-processor-", dir=self._folder) as name:
            folder = Path(name)
            yield (
                stage(
                    source,
                    folder,
                    self._limits,
                    accepts=self._accepts,
                    in_place=not self._is_isolated,
                    with_metadata=with_metadata,
                ),
                folder,
            )

    def _traits(self, chain: Chain, staged: StagedSource) -> Traits:
        """The header is only read where the format depends on it."""
        if not isinstance(chain.output, AutoOutput) or staged.format is ImageFormat.JPEG:
            return Traits(staged.own_format)
        facts = self._inspect(staged)
        return Traits(staged.own_format, facts.has_alpha, facts.frames > 1)

    def _inspect(self, staged: StagedSource, **wanted: Any) -> Facts:
        request = InspectRequest(
            source=staged.path, source_format=staged.format, limits=self._limits, **wanted
        )
        with self._turn:
            return self._engine.inspect(request, deadline_seconds=DEADLINE_SECONDS)

    def _render(self, staged: StagedSource, folder: Path, pipeline: Pipeline) -> dict[str, Result]:
        request = RenderRequest(
            source=staged.path,
            source_format=staged.format,
            pipeline=_in_own_format(pipeline, staged.own_format),
            output_directory=folder,
            limits=self._limits,
        )
        with self._turn:
            rendering = self._engine.render(request, deadline_seconds=DEADLINE_SECONDS)
        return {variant.name: _result(variant, rendering) for variant in rendering.variants}


def _local_engine() -> Engine:
    from image_processor.engine.vips.engine import VipsEngine  # noqa: PLC0415 - isolated, there is no libvips here

    return VipsEngine()


def _isolated_engine(folder: Path) -> Engine:
    return IsolatedEngine(readable=(folder,), writable=(folder,))


def _give_back(engine: Engine, folder: Path | None, owner_pid: int) -> None:
    """A process that was forked off with a copy of it must not end what its parent still uses."""
    if os.getpid() != owner_pid:
        return
    engine.close()
    if folder:
        shutil.rmtree(folder, ignore_errors=True)


def _given(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _divided(settings: ConvertOptions) -> tuple[Options, dict[str, Any]]:
    """What holds for every method, and what is of the format."""
    options = {name: value for name, value in settings.items() if name in Options.__annotations__}
    output = {name: value for name, value in settings.items() if name not in Options.__annotations__}
    return Options(**options), output  # type: ignore[typeddict-item]


def _pipeline(pipeline: str | Preset | Pipeline) -> Pipeline:
    if isinstance(pipeline, Pipeline):
        return pipeline
    if isinstance(pipeline, Preset):
        return pipeline.pipeline
    if pipeline not in BUILTIN_PRESETS:
        known = ", ".join(BUILTIN_PRESETS)
        raise InvalidRequestError(f"There is no preset {pipeline!r}; there are {known}.")
    return BUILTIN_PRESETS[pipeline].pipeline


def _in_own_format(pipeline: Pipeline, own_format: ImageFormat) -> Pipeline:
    """The pipeline with the outputs `source` replaced by what counts as the source's format."""
    variants = tuple(
        variant.model_copy(update={"output": resolve_output(variant.output, own_format)})
        for variant in pipeline.variants
    )
    return pipeline.model_copy(update={"variants": variants})


def _watermark_bytes(image: str | os.PathLike[str] | bytes | None) -> bytes | None:
    """One byte more than is allowed tells that there are too many."""
    if image is None or isinstance(image, bytes):
        return image
    path = Path(image)
    try:
        with path.open("rb") as file:
            return file.read(MAX_WATERMARK_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InvalidRequestError(f"The watermark {path.name} cannot be read: {reason}.") from error


def _result(variant: RenderedVariant, rendering: Rendering) -> Result:
    return Result(
        data=variant.path.read_bytes(),
        image_format=variant.format,
        size=(variant.width, variant.height),
        source_size=(rendering.width, rendering.height),
        frames=variant.frames,
        dominant_color=rendering.dominant_color,
        notes=variant.notes,
    )
