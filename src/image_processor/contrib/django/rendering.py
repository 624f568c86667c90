"""Rendering: an upload becomes a Picture in memory, decoded in a limited process. Nothing is stored here."""

import os
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.utils.translation import gettext_lazy as _

from image_processor.contrib.django.conf import conf
from image_processor.engine.base import Facts
from image_processor.errors import (
    ConfigurationError,
    CorruptImageError,
    FileTooLargeError,
    ImageTooLargeError,
    ImageTooSmallError,
    InvalidRequestError,
    RejectedError,
    UnsupportedFormatError,
    disk_errors,
)
from image_processor.intake.stage import check_file
from image_processor.pipeline import BUILTIN_PRESETS, Preset
from image_processor.pipeline.presets import load_presets
from image_processor.processor import ImageProcessor
from image_processor.result import Result

if TYPE_CHECKING:
    from django_stubs_ext import StrPromise

MIB = 1024 * 1024
GRAY = "#808080"


@dataclass(frozen=True, kw_only=True)
class Picture:
    """All variants of one upload, and what is shown until they are loaded."""

    width: int
    """Pixels, upright."""
    height: int
    color: str
    """`#RRGGBB`, the dominant colour."""
    thumbhash: str | None
    variants: Mapping[str, Result]
    """By their names, in the order of the preset."""


class Renderer(Protocol):
    """Makes pictures of uploads."""

    def render(self, source: bytes, preset: Preset) -> Picture:
        """
        All variants of `preset`.

        Raises image_processor.errors: RejectedError for the picture's own fault, others for ours.
        """
        ...


class LocalRenderer:
    """Decodes in a process of its own, one picture at a time; threads wait for each other."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owner: ImageProcessor | None = None
        self._owner_pid = 0

    def render(self, source: bytes, preset: Preset) -> Picture:
        """See Renderer."""
        check_upload(source, preset)
        facts = self.inspect(source)
        return Picture(
            width=facts.width,
            height=facts.height,
            color=facts.dominant_color or GRAY,
            thumbhash=facts.thumbhash,
            variants=self._processor().variants(source, preset),
        )

    def inspect(self, source: bytes) -> Facts:
        """Size, dominant colour and ThumbHash; raises as `render` does."""
        return self._processor().inspect(source, dominant_color=True, thumbhash=True)

    def close(self) -> None:
        """End the process that decodes; the next picture starts another."""
        with self._lock:
            owner, self._owner = self._owner, None
        if owner:
            owner.close()

    def _processor(self) -> ImageProcessor:
        """One per process: a server that forks after the first picture must not share its pipe."""
        with self._lock:
            if self._owner is None or self._owner_pid != os.getpid():
                self._owner, self._owner_pid = ImageProcessor(isolated=True), os.getpid()
            return self._owner


@cache
def local_renderer() -> LocalRenderer:
    """The one of this process."""
    return LocalRenderer()


def check_upload(source: bytes, preset: Preset) -> None:
    """What a header tells: raises RejectedError for a file that the preset does not take."""
    if len(source) > preset.limits.max_bytes:
        allowed = preset.limits.max_bytes / MIB
        raise FileTooLargeError(f"The file is larger than {allowed:g} MB.", max_bytes=preset.limits.max_bytes)
    no_room = disk_errors(
        full="There is no room left to take in the file.", failed="The file could not be checked"
    )
    with no_room, tempfile.TemporaryDirectory(prefix="image-processor-") as folder:
        path = Path(folder, "upload")
        path.write_bytes(source)
        check_file(path, preset.accepts, preset.limits)


def preset_named(name: str) -> Preset:
    """One of the project's own or of those that ship; raises ImproperlyConfigured where there is none."""
    presets = {**BUILTIN_PRESETS, **_own_presets(conf().presets)}
    try:
        return presets[name]
    except KeyError:
        known = ", ".join(presets)
        raise ImproperlyConfigured(f"There is no preset {name!r}; there are {known}.") from None


@cache
def _own_presets(path: Path | None) -> Mapping[str, Preset]:
    try:
        return load_presets(path) if path else {}
    except ConfigurationError as error:
        raise ImproperlyConfigured(str(error)) from error


def as_validation_error(error: RejectedError, preset: Preset) -> ValidationError:
    """The sentence for whoever uploaded the picture, with the code of this package's error."""
    sentence = next(
        (text for kind, text in SENTENCES.items() if isinstance(error, kind)), _("The picture was refused.")
    )
    values = {
        "megabytes": f"{preset.limits.max_bytes / MIB:g}",
        "formats": ", ".join(accepted.label for accepted in preset.accepts),
        "side": preset.limits.min_side,
    }
    return ValidationError(sentence, code=error.code, params=values)


SENTENCES: "Mapping[type[RejectedError], StrPromise]" = {
    UnsupportedFormatError: _("This is no picture of a kind that is accepted: %(formats)s."),
    CorruptImageError: _("The picture is damaged or incomplete."),
    FileTooLargeError: _("The file is larger than %(megabytes)s MB."),
    ImageTooLargeError: _("The picture has too many pixels."),
    ImageTooSmallError: _("Each side of the picture must have at least %(side)s pixels."),
    InvalidRequestError: _("The file is empty, or cannot be read."),
}
