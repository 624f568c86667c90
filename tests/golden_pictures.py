"""The golden pictures: one for every operation. `python tests/golden_pictures.py` records them anew."""

import io
import sys
import tempfile
from itertools import product
from pathlib import Path

from PIL import Image, ImageDraw

from image_processor.engine.base import RenderRequest
from image_processor.engine.vips.engine import VipsEngine
from image_processor.pipeline import (
    Adjust,
    Blur,
    Crop,
    Flatten,
    Flip,
    Flop,
    Focus,
    Gamma,
    Grayscale,
    ImageFormat,
    ImageWatermark,
    Limits,
    Operation,
    Pad,
    Pipeline,
    PngOutput,
    Resize,
    Rotate,
    Sharpen,
    TextWatermark,
    Tint,
    Trim,
    Variant,
)
from image_processor.testing import sample_images

FOLDER = Path(__file__).parent / "golden" / "pictures"
SCENE, GLASS = "scene", "glass"
"""A drawing of 320 x 240, and a half transparent picture of 160 x 120."""


def scene() -> bytes:
    """Soft and hard, fine and flat, colours and greys: a sky, a sun, a roof, a fence, a chequered lane."""
    sky = [
        Image.linear_gradient("L").resize((320, 240)).point(lambda level, end=end: level * end // 255)
        for end in (250, 170, 90)
    ]
    image = Image.merge("RGB", sky).transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    draw = ImageDraw.Draw(image)
    draw.ellipse((220, 20, 290, 90), fill="#fff3c0")
    draw.rectangle((0, 170, 320, 240), fill="#2f6b2f")
    draw.polygon([(40, 120), (95, 70), (150, 120)], fill="#b03020")
    draw.rectangle((55, 120, 135, 190), fill="#d8cfc0", outline="#202020")
    for x in range(160, 320, 6):
        draw.line((x, 150, x + 3, 200), fill="#f0f0f0", width=1)
    for x, y in product(range(0, 320, 8), range(208, 240, 8)):
        draw.rectangle((x, y, x + 7, y + 7), fill="#101010" if (x + y) % 16 else "#e0e0e0")
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


ORIGINALS = {
    SCENE: (ImageFormat.PNG, scene()),
    GLASS: (ImageFormat.PNG, sample_images.png_with_alpha(160, 120)),
}
MARK = sample_images.png_with_alpha(32, 24)
BOX = {"width": 96, "height": 96}
PICTURES: dict[str, tuple[str, tuple[Operation, ...]]] = {
    "resize-exact": (SCENE, (Resize(**BOX),)),
    "resize-inside": (SCENE, (Resize(**BOX, fit="inside"),)),
    "resize-outside": (SCENE, (Resize(**BOX, fit="outside"),)),
    "resize-cover": (SCENE, (Resize(**BOX, fit="cover"),)),
    "resize-cover-west": (SCENE, (Resize(**BOX, fit="cover", position="west"),)),
    "resize-cover-focus": (SCENE, (Resize(**BOX, fit="cover", focus=Focus(x=0.4, y=0.5)),)),
    "resize-cover-attention": (SCENE, (Resize(**BOX, fit="cover", position="attention"),)),
    "crop-attention": (SCENE, (Crop(width=96, height=72, smart="attention"),)),
    "crop-entropy": (SCENE, (Crop(width=96, height=72, smart="entropy"),)),
    "resize-pad": (SCENE, (Resize(**BOX, fit="pad", background="#204080"),)),
    "resize-glass": (GLASS, (Resize(width=64),)),
    "enlarge": (SCENE, (Crop(x=120, y=100, width=32, height=24), Resize(percent=300))),
    "crop-region": (SCENE, (Crop(x=40, y=30, width=96, height=72),)),
    "crop-aspect": (SCENE, (Crop(aspect="21:9"), Resize(width=96))),
    "rotate-90": (SCENE, (Resize(width=96), Rotate(degrees=90))),
    "rotate-30": (SCENE, (Resize(width=96), Rotate(degrees=30, background="#204080"))),
    "rotate-30-glass": (GLASS, (Rotate(degrees=-30, background="#00000000"),)),
    "flip": (SCENE, (Resize(width=96), Flip())),
    "flop": (SCENE, (Resize(width=96), Flop())),
    "trim": (SCENE, (Resize(width=64), Pad(top=9, right=8, bottom=7, left=6), Trim())),
    "pad": (SCENE, (Resize(width=64), Pad(top=4, right=8, bottom=12, left=16, background="#204080"))),
    "blur": (SCENE, (Resize(width=96), Blur(sigma=3))),
    "blur-glass": (GLASS, (Resize(width=96), Blur(sigma=3))),
    "sharpen": (SCENE, (Resize(width=96), Sharpen(sigma=2))),
    "grayscale": (SCENE, (Resize(width=96), Grayscale())),
    "tint": (SCENE, (Resize(width=96), Tint(color="#ff8000"))),
    "brightness": (SCENE, (Resize(width=96), Adjust(brightness=1.4))),
    "contrast": (SCENE, (Resize(width=96), Adjust(contrast=1.5))),
    "saturation": (SCENE, (Resize(width=96), Adjust(saturation=2))),
    "hue": (SCENE, (Resize(width=96), Adjust(hue=120))),
    "gamma": (SCENE, (Resize(width=96), Gamma(gamma=2.2))),
    "flatten": (GLASS, (Resize(width=96), Flatten(background="#ff0000"))),
    "watermark-image": (SCENE, (Resize(width=96), ImageWatermark(image=MARK, opacity=0.6, margin=4))),
    "watermark-tile": (
        SCENE,
        (Resize(width=96), ImageWatermark(image=MARK, opacity=0.4, tile=True, margin=6)),
    ),
    "watermark-text": (SCENE, (Resize(width=96), TextWatermark(text="Ada © 1843", size=14, margin=3))),
}


def drawn(name: str, folder: Path) -> bytes:
    """The PNG that the engine makes of one of the pictures."""
    source, operations = PICTURES[name]
    kind, data = ORIGINALS[source]
    original = folder / "original"
    original.write_bytes(data)
    variant = Variant(name="only", operations=operations, output=PngOutput())
    request = RenderRequest(
        source=original,
        source_format=kind,
        pipeline=Pipeline(variants=(variant,)),
        output_directory=folder,
        limits=Limits(),
    )
    (done,) = VipsEngine().render(request, deadline_seconds=60).variants
    return done.path.read_bytes()


def record() -> None:
    """Draw all pictures anew. Look at each before it is committed."""
    FOLDER.mkdir(exist_ok=True)
    for name in PICTURES:
        with tempfile.TemporaryDirectory() as folder:
            (FOLDER / f"{name}.png").write_bytes(drawn(name, Path(folder)))


if __name__ == "__main__":
    sys.exit(record())
