"""The engine protocol and the values that cross it. Nothing here decodes."""

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Protocol

from pydantic import AfterValidator, Field

from image_processor.pipeline import Crop, ImageFormat, Limits, Pipeline
from image_processor.pipeline.value import Value

MAX_NOTE_LENGTH = 200
MAX_FACT_LENGTH = 200
MAX_PALETTE_COLORS = 16
UNNAMED_PROFILE = "unnamed"
OnProgress = Callable[[float], None]
"""Told the share of a render that is done: over 0, at most 1, never falling. It raises nothing."""


class Original(Protocol):
    """What every request says of the file it is about."""

    @property
    def source(self) -> Path:
        """The original, as a file that only the engine opens."""
        ...

    @property
    def source_format(self) -> ImageFormat:
        """What intake found by its magic bytes; the engine uses that format's decoder and no other."""
        ...

    @property
    def limits(self) -> Limits:
        """What the file is held against before it is decoded."""
        ...


class RenderRequest(Value):
    """One original and what to make of it."""

    source: Path
    """The original, as a file that only the engine opens."""
    source_format: ImageFormat
    """What intake found by its magic bytes; the engine uses that format's decoder and no other."""
    pipeline: Pipeline
    output_directory: Path
    """An empty, existing directory; the engine writes one file per variant into it."""
    limits: Limits


class RenderedVariant(Value):
    """One produced file."""

    name: str
    path: Path
    format: ImageFormat
    width: int
    """Pixels, after orientation."""
    height: int
    """Pixels of one frame, after orientation."""
    frames: int = 1
    size_bytes: int
    sha256: str
    """Hexadecimal, of the file's bytes."""
    notes: tuple[Annotated[str, Field(max_length=MAX_NOTE_LENGTH)], ...] = ()
    """What the caller should know of how the operations were understood, as sentences."""
    trims: tuple[Crop, ...] = ()
    """The region that each trim left, in the order of the operations."""


class Rendering(Value):
    """What one decode gave: the facts of the original and all its variants."""

    width: int
    """Pixels of the original, after orientation."""
    height: int
    """Pixels of one frame of the original, after orientation."""
    frames: int = 1
    dominant_color: str
    """`#RRGGBB` in sRGB."""
    variants: tuple[RenderedVariant, ...]
    """In the order of the pipeline."""


class InspectRequest(Value):
    """One original and what to find out about it; what needs its pixels is asked for by name."""

    source: Path
    source_format: ImageFormat
    limits: Limits
    dominant_color: bool = False
    palette: int = Field(default=0, ge=0, le=MAX_PALETTE_COLORS)
    """How many colours at most."""
    blurhash: bool = False
    thumbhash: bool = False
    gps: bool = False
    """Whether the place is told, and not only that there is one."""

    @property
    def needs_pixels(self) -> bool:
        """Whether the header is not enough."""
        return bool(self.dominant_color or self.palette or self.blurhash or self.thumbhash)


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("characters that cannot be printed")
    return text


FactText = Annotated[str, Field(min_length=1, max_length=MAX_FACT_LENGTH), AfterValidator(_printable)]
"""What a file says of itself, as one line that cannot steer a terminal or a log."""
HexColor = Annotated[str, Field(pattern=r"^#[0-9A-F]{6}$")]


class ColorSpace(StrEnum):
    """How pixels are stored."""

    RGB = "rgb"
    """sRGB, unless a profile says which other."""
    GRAY = "gray"
    CMYK = "cmyk"
    LAB = "lab"
    OTHER = "other"


class Position(Value):
    """Where a picture was taken, in degrees."""

    latitude: float = Field(ge=-90, le=90)
    """North is positive."""
    longitude: float = Field(ge=-180, le=180)
    """East is positive."""


class ExifSummary(Value):
    """What the camera wrote; what is missing, damaged or impossible is None. Untrusted."""

    camera_make: FactText | None = None
    camera_model: FactText | None = None
    lens: FactText | None = None
    software: FactText | None = None
    taken_at: Annotated[str, Field(pattern=r"^[0-9T:-]{19}([+-][0-9]{2}:[0-9]{2})?$")] | None = None
    """ISO 8601 by the camera's clock, with the offset from UTC where the camera knew it."""
    exposure_seconds: float | None = Field(default=None, gt=0)
    f_number: float | None = Field(default=None, gt=0)
    iso: int | None = Field(default=None, ge=1)
    focal_length_mm: float | None = Field(default=None, gt=0)
    focal_length_35mm: int | None = Field(default=None, ge=1)
    """The focal length that gives the same angle of view on 35 mm film, in millimetres."""
    artist: FactText | None = None
    copyright: FactText | None = None
    has_gps: bool = False
    """Whether it says anything of the place."""
    gps: Position | None = None
    """Only where it was asked for."""


class PaletteColor(Value):
    """One colour of a palette."""

    color: HexColor
    share: float = Field(gt=0, le=1)
    """Of what can be seen of the picture."""


class Facts(Value):
    """What an original is, and what it says of itself."""

    format: ImageFormat
    media_type: FactText
    size_bytes: int = Field(ge=1)
    width: int = Field(ge=1)
    """Pixels, after orientation."""
    height: int = Field(ge=1)
    """Pixels of one frame, after orientation."""
    orientation: int = Field(default=1, ge=1, le=8)
    """EXIF's: how the pixels lie in the file."""
    frames: int = Field(default=1, ge=1)
    duration_ms: int | None = Field(default=None, ge=0)
    """How long one run of an animation takes, as its delays say; None for a still image."""
    has_alpha: bool = False
    """Whether pixels can be transparent; always true of a GIF."""
    bits_per_channel: int = Field(default=8, ge=1, le=64)
    color_space: ColorSpace
    icc_profile: FactText | None = None
    """The name that the embedded profile gives itself, `unnamed` where it gives none; None without one."""
    has_gain_map: bool = False
    """Whether the file announces a second layer for HDR screens."""
    exif: ExifSummary | None = None
    """None where the file tells nothing of this."""
    dominant_color: HexColor | None = None
    palette: tuple[PaletteColor, ...] = Field(default=(), max_length=MAX_PALETTE_COLORS)
    """The largest share first."""
    blurhash: Annotated[str, Field(pattern=r"^[0-9A-Za-z#$%*+,\-.:;=?@\[\]^_{|}~]{6,28}$")] | None = None
    thumbhash: Annotated[str, Field(pattern=r"^[0-9A-Za-z+/]{6,40}={0,2}$")] | None = None
    """In base64."""


class Engine(Protocol):
    """Turns one original into all its variants, or tells what it is."""

    def render(
        self, request: RenderRequest, *, deadline_seconds: float, on_progress: OnProgress | None = None
    ) -> Rendering:
        """
        Make every variant of `request` from one decode.

        `on_progress` is called from this thread, with 1.0 last; the time that it takes counts.

        Raises:
            UnsupportedFormatError: the bytes are not what `source_format` says, or cannot be decoded here.
            CorruptImageError: truncated or damaged.
            ImageTooLargeError: over `request.limits`, checked before the decode.
            ImageTooComplexError: within them, and still in need of more memory than the engine has.
            EngineTimeoutError: `deadline_seconds` (wall clock) passed.
            EngineCrashedError: the process that decodes died.
        """
        ...

    def inspect(self, request: InspectRequest, *, deadline_seconds: float) -> Facts:
        """
        The facts of an original: from its header, and from small pixels where the request needs them.

        Raises what `render` raises.
        """
        ...

    def interrupt(self) -> None:
        """Stop a render that runs in another thread, at once; it raises EngineCrashedError. Idle: nothing."""
        ...

    def close(self) -> None:
        """Give back what the engine holds; it is not used afterwards."""
        ...
