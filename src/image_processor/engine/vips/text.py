"""A line of text as a picture of its letters. Where it is laid, and in which colour, is decided elsewhere."""

import unicodedata
from collections.abc import Iterator

import pyvips
from PIL import Image, ImageDraw, ImageFont

from image_processor.engine.vips.geometry import Size
from image_processor.errors import InvalidOperationError

FALLBACKS = ("DejaVuSans.ttf", "NotoSans-Regular.ttf", "LiberationSans-Regular.ttf", "Arial.ttf")
"""The font that comes with Pillow has ASCII and little more; these are asked for what it lacks."""
NO_CHARACTER = "\uffff"
"""Unicode promises that no font has it: what is drawn for it stands for every missing letter."""
SHOWN_LETTERS = 10


def letters_of(text: str, size: int, most: Size) -> pyvips.Image:
    """
    How much of each pixel the letters cover, 0 to 255, cut to what is seen; the font shrinks to fit.

    Raises InvalidOperationError for letters that no font here has, control characters, and blank text.
    """
    line = _line(text)
    font = _font(line, size)
    left, top, right, bottom = font.getbbox(line)
    if right <= left or bottom <= top:
        raise InvalidOperationError("The watermark's text has no letter that can be seen.")
    shrink = min(1.0, most.width / (right - left), most.height / (bottom - top))
    return _drawn(line, font if shrink == 1 else font.font_variant(size=max(1.0, size * shrink)))


def _line(text: str) -> str:
    """Letters composed with their accents, every kind of space plain; anything that controls is refused."""
    composed = unicodedata.normalize("NFC", text)
    for character in composed:
        if unicodedata.category(character) in {"Cc", "Cf", "Cs", "Cn", "Zl", "Zp"}:
            raise InvalidOperationError(
                f"The watermark's text is one line without control characters; it has U+{ord(character):04X}."
            )
    return "".join(" " if unicodedata.category(letter) == "Zs" else letter for letter in composed)


def _font(line: str, size: int) -> ImageFont.FreeTypeFont:
    missing: list[str] = []
    for font in _fonts(size):
        lacking = _lacking(font, line)
        if not lacking:
            return font
        missing = missing or lacking
    shown = " ".join(missing[:SHOWN_LETTERS])
    raise InvalidOperationError(f"The watermark's text has letters that no font here has: {shown}.")


def _fonts(size: int) -> Iterator[ImageFont.FreeTypeFont]:
    built_in = ImageFont.load_default(size)
    if isinstance(built_in, ImageFont.FreeTypeFont):
        yield built_in
    for name in FALLBACKS:
        try:
            yield ImageFont.truetype(name, size)
        except OSError:
            continue


def _lacking(font: ImageFont.FreeTypeFont, line: str) -> list[str]:
    """The letters for which the font draws what it draws for every missing one, each once."""
    small = font.font_variant(size=16)
    blank = bytes(small.getmask(NO_CHARACTER))
    return [letter for letter in dict.fromkeys(line) if bytes(small.getmask(letter)) == blank]


def _drawn(line: str, font: ImageFont.FreeTypeFont) -> pyvips.Image:
    left, top, right, bottom = (round(edge) for edge in font.getbbox(line))
    mask = Image.new("L", (max(1, right - left), max(1, bottom - top)))
    ImageDraw.Draw(mask).text((-left, -top), line, fill=255, font=font)
    mask = mask.crop(mask.getbbox() or (0, 0, 1, 1))
    drawn = pyvips.Image.new_from_memory(mask.tobytes(), mask.width, mask.height, 1, "uchar")
    return drawn.copy(interpretation="b-w")
