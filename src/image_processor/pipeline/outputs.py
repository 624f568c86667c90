"""How a variant is written: one value per output format, with the ranges of its settings."""

from typing import Annotated, Literal

from pydantic import Field

from image_processor.pipeline.formats import ImageFormat
from image_processor.pipeline.value import Value

Quality = Annotated[int, Field(ge=1, le=100)]


class JpegOutput(Value):
    """JPEG; transparency is laid on the background, files over 10 KB are progressive."""

    format: Literal["jpeg"] = "jpeg"
    quality: Quality = 85
    background: Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")] = "#ffffff"


class PngOutput(Value):
    """PNG, 8 bit."""

    format: Literal["png"] = "png"
    compression: Annotated[int, Field(ge=0, le=9)] = 9


class WebpOutput(Value):
    """WebP; an animated source stays animated."""

    format: Literal["webp"] = "webp"
    quality: Quality = 85
    lossless: bool = False


class SourceOutput(Value):
    """The source's own format, with the settings given here for each."""

    format: Literal["source"] = "source"
    jpeg: JpegOutput = JpegOutput()
    png: PngOutput = PngOutput()
    webp: WebpOutput = WebpOutput()

    def resolve(self, source_format: ImageFormat) -> "FixedOutput":
        """The settings for a source of this format; a format that cannot be written becomes PNG."""
        outputs: dict[ImageFormat, FixedOutput] = {
            ImageFormat.JPEG: self.jpeg,
            ImageFormat.HEIC: self.jpeg,
            ImageFormat.PNG: self.png,
            ImageFormat.WEBP: self.webp,
        }
        return outputs.get(source_format, self.png)


FixedOutput = JpegOutput | PngOutput | WebpOutput
Output = Annotated[JpegOutput | PngOutput | WebpOutput | SourceOutput, Field(discriminator="format")]


def resolve_output(
    output: JpegOutput | PngOutput | WebpOutput | SourceOutput, source: ImageFormat
) -> FixedOutput:
    """The output with `source` replaced by the format that the source has."""
    return output.resolve(source) if isinstance(output, SourceOutput) else output
