"""Where a file goes and what is decided about it beside its format's own settings."""

from dataclasses import dataclass
from pathlib import Path

from image_processor.engine.vips.attachments import NOTHING, Attachments
from image_processor.pipeline import Metadata, Optimize


@dataclass(frozen=True)
class Target:
    """One file to write."""

    path: Path
    optimize: Optimize = Optimize.BALANCED
    metadata: Metadata = Metadata.NONE
    attachments: Attachments = NOTHING
