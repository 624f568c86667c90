"""Result: one produced file in memory, and its ways out: a file, a Pillow image, a NumPy array."""

import io
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from image_processor.errors import (
    MissingExtraError,
    NotFoundError,
    StorageError,
    StorageFullError,
    is_disk_full,
)
from image_processor.pipeline import ImageFormat

if TYPE_CHECKING:
    from numpy import uint8
    from numpy.typing import NDArray
    from PIL.Image import Image


@dataclass(frozen=True, kw_only=True, repr=False)
class Result:
    """One produced file, and what is known of it and of its source."""

    data: bytes
    """The file's bytes."""
    image_format: ImageFormat
    size: tuple[int, int]
    """Width and height, in pixels."""
    source_size: tuple[int, int]
    """Width and height of the source, in pixels, after orientation."""
    frames: int = 1
    dominant_color: str
    """Of the source: `#RRGGBB` in sRGB."""
    notes: tuple[str, ...] = ()
    """What was understood otherwise than it may have been meant, as sentences: a region that was clipped."""

    @property
    def width(self) -> int:
        """In pixels."""
        return self.size[0]

    @property
    def height(self) -> int:
        """In pixels, of one frame."""
        return self.size[1]

    @property
    def format(self) -> str:
        """`JPEG`, `PNG`, `WEBP`, `AVIF`, `GIF` or `TIFF`, as Pillow names them."""
        return self.image_format.name

    @property
    def media_type(self) -> str:
        """The IANA media type, such as `image/webp`."""
        return self.image_format.media_type

    @property
    def extension(self) -> str:
        """The usual file extension without its dot, such as `jpg`."""
        return self.image_format.extension

    def __repr__(self) -> str:
        return f"<Result: {self.format}, {self.width} x {self.height} pixels, {len(self.data)} bytes>"

    def __len__(self) -> int:
        return len(self.data)

    def __bytes__(self) -> bytes:
        return self.data

    def save(self, path: str | os.PathLike[str]) -> Path:
        """
        Write the file whole or not at all, replacing one that is there; gives its path.

        The bytes stay what they are, whatever the suffix says. The folder must exist.

        Raises:
            NotFoundError: there is no such folder.
            StorageFullError, StorageError: the file cannot be written.
        """
        target = Path(path)
        with _saving(target) as unfinished:
            unfinished.write_bytes(self.data)
            unfinished.replace(target)
        return target

    def to_pillow(self) -> "Image":
        """The file, opened by Pillow; an animation with all its frames."""
        from PIL import Image  # noqa: PLC0415 - only those who ask for it load it

        return Image.open(io.BytesIO(self.data))

    def to_numpy(self) -> "NDArray[uint8]":
        """
        The pixels of the first frame, 8 bits each: (height, width, 1), or 3 for colours, or 4 with alpha.

        Raises MissingExtraError without NumPy.
        """
        try:
            import numpy as np  # noqa: PLC0415 - an extra
        except ImportError as error:
            raise MissingExtraError(
                "Arrays need NumPy, which the extra 'numpy' installs: pip install image-processor[numpy]."
            ) from error
        pixels = np.array(_in_8_bits(self.to_pillow()))
        return pixels if pixels.ndim == 3 else pixels[:, :, np.newaxis]


def _in_8_bits(image: "Image") -> "Image":
    if image.mode.startswith("I"):
        return image.convert("I").point(lambda level: level / 257 + 0.5).convert("L")
    if image.mode in {"L", "RGB", "RGBA"}:
        return image
    return image.convert("RGBA" if image.has_transparency_data else "L" if image.mode == "1" else "RGB")


@contextmanager
def _saving(target: Path) -> Iterator[Path]:
    """A new file beside the target, which is gone afterwards: renamed, or removed."""
    unfinished = target.parent / f".{secrets.token_hex(8)}.unfinished"
    try:
        yield unfinished
    except FileNotFoundError as error:
        raise NotFoundError(f"There is no folder {target.parent} to write {target.name} into.") from error
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and is_disk_full(error):
            raise StorageFullError(f"There is no room left for {target.name}.") from error
        reason = error.strerror if isinstance(error, OSError) else error
        raise StorageError(f"{target.name} cannot be written: {reason}.") from error
    finally:
        unfinished.unlink(missing_ok=True)
