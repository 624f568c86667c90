"""Which format suits a client and an image: from an Accept header, or from a list, to one format."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from image_processor.errors import UnsupportedFormatError
from image_processor.pipeline.formats import ImageFormat
from image_processor.pipeline.outputs import FIXED_OUTPUTS, AnyQuality, FixedOutput, MaxBytes
from image_processor.pipeline.value import Value

MAX_ACCEPT_LENGTH = 4096
"""Of an Accept header, in characters; browsers send less than 300."""
MAX_FORMATS = 20
OUTPUT_FORMATS: Mapping[ImageFormat, type[FixedOutput]] = {
    ImageFormat(output.model_fields["format"].default): output for output in FIXED_OUTPUTS
}
"""What can be written, and the settings of each."""
UNIVERSAL = frozenset({ImageFormat.JPEG, ImageFormat.PNG, ImageFormat.GIF})
"""What every client shows: all that a wildcard stands for."""

_OTHER_NAMES: Mapping[str, str] = {
    "jpg": "jpeg",
    "jpe": "jpeg",
    "jfif": "jpeg",
    "tif": "tiff",
    "heif": "heic",
}
_QUALITY = re.compile(r"(?:0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)")

_FOR_ANIMATIONS = ("webp", "gif", "avif", "png", "jpeg", "tiff")
_FOR_GRAPHICS = ("avif", "webp", "png", "jpeg", "gif", "tiff")
_FOR_PHOTOS = ("avif", "webp", "jpeg", "png", "gif", "tiff")
_GRAPHICS = frozenset({ImageFormat.PNG, ImageFormat.GIF, ImageFormat.BMP, ImageFormat.SVG})
_ANIMATED = frozenset({ImageFormat.WEBP, ImageFormat.GIF})

Rank = tuple[bool, float]
"""Whether the format keeps what the image has, and how much the client wants it (0 to 1)."""


@dataclass(frozen=True)
class Traits:
    """What of an image decides which formats suit it."""

    format: ImageFormat
    has_alpha: bool = False
    is_animated: bool = False

    @property
    def order(self) -> tuple[ImageFormat, ...]:
        """All formats, the one that suits best first."""
        is_graphic = self.has_alpha or self.format in _GRAPHICS
        names = _FOR_ANIMATIONS if self.is_animated else _FOR_GRAPHICS if is_graphic else _FOR_PHOTOS
        return tuple(map(ImageFormat, names))

    def survive_in(self, image_format: ImageFormat) -> bool:
        """Whether neither transparency nor movement is lost in that format."""
        if self.is_animated:
            return image_format in _ANIMATED
        return not (self.has_alpha and image_format is ImageFormat.JPEG)


class AutoOutput(Value):
    """The format that suits the client and the image best, known as soon as the source is."""

    format: Literal["auto"] = "auto"
    accept: str | None = Field(default=None, max_length=MAX_ACCEPT_LENGTH)
    """The client's Accept header."""
    formats: Annotated[tuple[ImageFormat, ...], Field(max_length=MAX_FORMATS)] | None = None
    """What the client shows, instead of a header; the order says nothing."""
    quality: AnyQuality | None = None
    """For the formats that have one; by default the format's own."""
    max_bytes: MaxBytes = None

    @field_validator("formats", mode="before")
    @classmethod
    def _are_known(cls, names: Any) -> Any:
        if isinstance(names, (list, tuple)):
            return tuple(output_format(name) if isinstance(name, str) else name for name in names)
        return names

    @model_validator(mode="after")
    def _is_one_question(self) -> Self:
        if self.accept is not None and self.formats is not None:
            raise ValueError("either accept or formats is given, not both")
        return self

    def resolve(self, traits: Traits) -> FixedOutput:
        """The output for an image of these traits."""
        wanted = read_accept(self.accept) if self.formats is None else dict.fromkeys(self.formats, 1.0)
        output = OUTPUT_FORMATS[negotiate(wanted, traits)]
        settings = {"quality": self.quality, "max_bytes": self.max_bytes}
        return output(
            **{
                name: value
                for name, value in settings.items()
                if value is not None and name in output.model_fields and not _is_beyond(output, name, value)
            }
        )


def negotiate(wanted: Mapping[ImageFormat, float], traits: Traits) -> ImageFormat:
    """
    The format for a client that wants each of these so much, from 0 (never) to 1.

    What keeps transparency and movement goes first, then what the client wants more, then what suits the
    image better: AVIF before WebP before PNG (for graphics) or JPEG. Where nothing is wanted that can be
    written, it is what every client shows: GIF for animations, PNG for graphics, else JPEG.
    """

    def rank(image_format: ImageFormat) -> Rank:
        return traits.survive_in(image_format), wanted[image_format]

    accepted = [image_format for image_format in traits.order if wanted.get(image_format, 0) > 0]
    return max(accepted, key=rank, default=next(known for known in traits.order if known in UNIVERSAL))


def read_accept(header: str | None) -> dict[ImageFormat, float]:
    """
    How much each format is wanted, by an Accept header as RFC 9110, section 12.5.1, has it.

    The most specific range decides. A wildcard stands for `UNIVERSAL` alone: clients that send one and
    nothing else do not all show AVIF and WebP. What cannot be read is left out.
    """
    ranges = dict(_ranges(header or ""))
    wanted = {known: ranges.get(known.media_type) for known in OUTPUT_FORMATS}
    by_wildcard = ranges.get("image/*", ranges.get("*/*", 0.0))
    return {
        known: (by_wildcard if known in UNIVERSAL else 0.0) if quality is None else quality
        for known, quality in wanted.items()
    }


def output_format(name: str) -> ImageFormat:
    """
    The format by its name: `webp`, `WebP`, `jpg`, `tif`.

    Raises UnsupportedFormatError, which lists what can be written.
    """
    lowered = name.strip().lower()
    lowered = _OTHER_NAMES.get(lowered, lowered)
    known = next((known for known in OUTPUT_FORMATS if known.value == lowered), None)
    if known is None:
        labels = ", ".join(known.label for known in OUTPUT_FORMATS)
        shown = name if len(name) <= 40 else f"{name[:40]}…"
        raise UnsupportedFormatError(
            f"{shown!r} cannot be written; supported are {labels}.",
            supported=[known.media_type for known in OUTPUT_FORMATS],
        )
    return known


def _ranges(header: str) -> Iterable[tuple[str, float]]:
    for part in header[:MAX_ACCEPT_LENGTH].split(","):
        media_range, *parameters = (piece.strip().lower() for piece in part.split(";"))
        quality = next((text[2:] for text in parameters if text.startswith("q=")), "1")
        if _QUALITY.fullmatch(quality):
            yield media_range.replace("image/jpg", "image/jpeg"), float(quality)


def _is_beyond(output: type[FixedOutput], name: str, value: Any) -> bool:
    """TIFF has a quality, but none that could be searched for."""
    return output is OUTPUT_FORMATS[ImageFormat.TIFF] and name == "quality" and value == "auto"
