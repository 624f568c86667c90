"""How a variant is written: one value per output format, with the ranges of its settings."""

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from image_processor.pipeline.formats import ImageFormat
from image_processor.pipeline.operations.fields import OpaqueColour
from image_processor.pipeline.value import Value

Quality = Annotated[int, Field(ge=1, le=100)]


def _check_quality(quality: object) -> object:
    """One fault for one field, where a union would tell of each of its members."""
    is_number = isinstance(quality, int) and not isinstance(quality, bool) and 1 <= quality <= 100
    if not is_number and quality != "auto":
        raise ValueError("Input should be a whole number from 1 to 100, or 'auto'")
    return quality


AnyQuality = Annotated[
    int | Literal["auto"],
    BeforeValidator(_check_quality),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1, "maximum": 100}, {"const": "auto"}]}),
]
"""`auto` is the lowest quality that still looks like the original."""
MaxBytes = Annotated[int, Field(ge=100)] | None
"""Upper bound on the length of the file, in bytes: the best quality that fits is taken."""
Subsampling = Literal["auto", "4:2:0", "4:4:4"]
"""Whether colour has half the resolution of lightness; `auto` is 4:2:0 below quality 90, as libvips does."""


class _Output(Value):
    @property
    def is_searched(self) -> bool:
        """Whether the quality is to be found, and is not a number yet."""
        return getattr(self, "quality", None) == "auto" or getattr(self, "max_bytes", None) is not None

    @model_validator(mode="after")
    def _has_one_goal(self) -> Self:
        if getattr(self, "quality", None) == "auto" and getattr(self, "max_bytes", None) is not None:
            raise ValueError("either quality is 'auto' or max_bytes is given, not both")
        is_lossless = getattr(self, "lossless", False) or getattr(self, "near_lossless", False)
        if self.is_searched and is_lossless:
            raise ValueError("a lossless file has no quality to choose: no 'auto', no max_bytes")
        return self


class JpegOutput(_Output):
    """JPEG; transparency is laid on the background, files over 10 KB are progressive."""

    format: Literal["jpeg"] = "jpeg"
    quality: AnyQuality = 85
    max_bytes: MaxBytes = None
    subsampling: Subsampling = "4:2:0"
    background: OpaqueColour = "#ffffff"
    gain_map: bool = False
    """Whether an Ultra HDR original keeps its gain map; dropped otherwise."""


class PngOutput(_Output):
    """PNG, lossless unless `palette` is asked for."""

    format: Literal["png"] = "png"
    compression: Annotated[int, Field(ge=0, le=9)] = 9
    palette: bool = False
    """Whether the colours are reduced to a palette."""
    colors: Annotated[int, Field(ge=2, le=256)] = 256
    """The most that a palette may have."""
    bit_depth: Literal[8, 16] = 8
    """16 keeps what an original of 16 bits a channel has; any other is written with 8."""


class WebpOutput(_Output):
    """WebP; an animated source stays animated."""

    format: Literal["webp"] = "webp"
    quality: AnyQuality = 85
    max_bytes: MaxBytes = None
    lossless: bool = False
    near_lossless: bool = False
    """Lossless after a preprocessing whose strength is 100 - quality."""


class AvifOutput(_Output):
    """AVIF, coded with AV1; the first frame of an animation."""

    format: Literal["avif"] = "avif"
    quality: AnyQuality = 60
    max_bytes: MaxBytes = None
    speed: Annotated[int, Field(ge=0, le=9)] | None = None
    """0 is slowest and smallest; by default what `optimize` stands for."""
    lossless: bool = False
    subsampling: Subsampling = "4:2:0"
    bit_depth: Literal[8, 10, 12] = 8


class GifOutput(_Output):
    """GIF; an animated source stays animated."""

    format: Literal["gif"] = "gif"
    colors: Annotated[int, Field(ge=2, le=256)] = 256
    dither: Annotated[float, Field(ge=0, le=1)] = 1.0


class TiffOutput(_Output):
    """TIFF, one page."""

    format: Literal["tiff"] = "tiff"
    compression: Literal["none", "lzw", "deflate", "jpeg"] = "deflate"
    quality: Quality = 85
    """Of `jpeg` compression."""
    bit_depth: Literal[8, 16] = 8
    """16 keeps what an original of 16 bits a channel has; any other is written with 8."""


FixedOutput = JpegOutput | PngOutput | WebpOutput | AvifOutput | GifOutput | TiffOutput


class SourceOutput(Value):
    """The source's own format, with the settings given here for each."""

    format: Literal["source"] = "source"
    jpeg: JpegOutput = JpegOutput()
    png: PngOutput = PngOutput()
    webp: WebpOutput = WebpOutput()
    avif: AvifOutput = AvifOutput()
    gif: GifOutput = GifOutput()
    tiff: TiffOutput = TiffOutput()

    def resolve(self, source_format: ImageFormat) -> FixedOutput:
        """The settings for a source of this format; HEIC becomes JPEG, BMP and SVG become PNG."""
        outputs: dict[ImageFormat, FixedOutput] = {
            ImageFormat.JPEG: self.jpeg,
            ImageFormat.HEIC: self.jpeg,
            ImageFormat.PNG: self.png,
            ImageFormat.WEBP: self.webp,
            ImageFormat.AVIF: self.avif,
            ImageFormat.GIF: self.gif,
            ImageFormat.TIFF: self.tiff,
        }
        return outputs.get(source_format, self.png)


Output = Annotated[
    JpegOutput | PngOutput | WebpOutput | AvifOutput | GifOutput | TiffOutput | SourceOutput,
    Field(discriminator="format"),
]
FIXED_OUTPUTS: tuple[type[FixedOutput], ...] = (
    JpegOutput,
    PngOutput,
    WebpOutput,
    AvifOutput,
    GifOutput,
    TiffOutput,
)


def resolve_output(output: FixedOutput | SourceOutput, source: ImageFormat) -> FixedOutput:
    """The output with `source` replaced by the format that the source has."""
    return output.resolve(source) if isinstance(output, SourceOutput) else output
