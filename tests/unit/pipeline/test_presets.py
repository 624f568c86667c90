"""The presets that ship, as they are promised; and presets of one's own, good and bad."""

import re

import pytest
from pydantic import ValidationError

from image_processor.errors import ConfigurationError
from image_processor.pipeline import (
    BUILTIN_PRESETS,
    Crop,
    Fit,
    ImageFormat,
    JpegOutput,
    Limits,
    Resize,
    SourceOutput,
    WebpOutput,
    load_presets,
    web_preset,
)
from image_processor.pipeline.outputs import PngOutput
from image_processor.pipeline.presets import DEFAULT_KEY_TEMPLATE

MIB = 1024 * 1024
WEB = [("thumbnail", 150), ("medium", 600), ("large", 1200), ("original", 4096)]
SQUARES = [("small", 150), ("medium", 400), ("large", 800)]
WEB_FORMATS = (ImageFormat.JPEG, ImageFormat.PNG, ImageFormat.WEBP)


def test_three_presets_ship():
    assert set(BUILTIN_PRESETS) == {"web", "thumbnails", "avatar"}


def test_web_is_four_widths_in_webp_85_never_enlarged():
    preset = BUILTIN_PRESETS["web"]
    assert [(v.name, v.operations, v.output) for v in preset.pipeline.variants] == [
        (
            name,
            (Resize(width=width, fit=Fit.INSIDE, allow_enlarge=False),),
            WebpOutput(quality=85, lossless=False),
        )
        for name, width in WEB
    ]
    assert preset.accepts == WEB_FORMATS
    assert preset.key_template == "{bucket}/processed/{variant}/{image_id}_{variant}.{ext}"
    assert preset.limits.max_bytes == 10 * MIB


def test_thumbnails_are_covered_squares_in_the_sources_format_and_in_webp():
    preset = BUILTIN_PRESETS["thumbnails"]
    expected = [("original", None, (), SourceOutput())]
    for name, side in SQUARES:
        cover = (Resize(width=side, height=side, fit=Fit.COVER, allow_enlarge=True),)
        expected += [
            (name, None, cover, SourceOutput()),
            (f"{name}-webp", name, cover, WebpOutput(quality=85)),
        ]
    assert [(v.name, v.key_name, v.operations, v.output) for v in preset.pipeline.variants] == expected
    assert [v.name for v in preset.pipeline.variants if v.never_larger] == ["original"]
    assert preset.key_template == "images/{image_id}/{size}.{format}"
    assert preset.accepts == WEB_FORMATS


def test_thumbnails_take_100_to_10000_pixels_a_side_and_10_mb():
    limits = BUILTIN_PRESETS["thumbnails"].limits
    assert (limits.min_side, limits.max_side, limits.max_bytes) == (100, 10_000, 10 * MIB)


def test_the_optimised_original_is_jpeg_85_or_png_9():
    output = SourceOutput()
    assert output.resolve(ImageFormat.JPEG) == JpegOutput(quality=85)
    assert output.resolve(ImageFormat.PNG) == PngOutput(compression=9)


def test_avatar_is_padded_white_in_jpeg():
    preset = BUILTIN_PRESETS["avatar"]
    assert [(v.name, v.operations, v.output) for v in preset.pipeline.variants] == [
        ("original", (), JpegOutput()),
        ("profile", (Resize(width=512, height=512, fit=Fit.PAD, background="#ffffff"),), JpegOutput()),
        ("thumbnail", (Resize(width=128, height=128, fit=Fit.PAD, background="#ffffff"),), JpegOutput()),
    ]
    assert preset.accepts == (ImageFormat.JPEG, ImageFormat.PNG, ImageFormat.HEIC)
    assert preset.limits.max_bytes == 5 * MIB
    assert preset.key_template == "profile_pictures/{user_id}/{image_id}_{variant}.{ext}"


def test_web_takes_other_sizes_and_another_quality():
    preset = web_preset({"tiny": 16}, quality=40)
    assert [(v.name, v.operations, v.output) for v in preset.pipeline.variants] == [
        ("tiny", (Resize(width=16),), WebpOutput(quality=40))
    ]


@pytest.mark.parametrize(
    ("sizes", "quality"), [({"tiny": 0}, 85), ({"Tiny": 1}, 85), ({}, 85), ({"tiny": 1}, 0)]
)
def test_web_refuses_what_is_out_of_range(sizes, quality):
    with pytest.raises(ValidationError):
        web_preset(sizes, quality)


@pytest.mark.parametrize("name", sorted(BUILTIN_PRESETS))
def test_a_preset_comes_back_from_json_as_it_was(name):
    preset = BUILTIN_PRESETS[name]
    assert type(preset).model_validate_json(preset.model_dump_json()) == preset


OWN = """
[presets.card]
accepts = ["image/jpeg", "image/png"]
limits = { max_bytes = 5242880, min_side = 200 }
key_template = "cards/{image_id}/{variant}.{ext}"

[[presets.card.variants]]
name = "front"
operations = [
    { op = "crop", x = 0, y = 0, width = 100, height = 50 },
    { op = "resize", width = 640, height = 360, fit = "cover" },
]
output = { format = "webp", quality = 80 }

[[presets.card.variants]]
name = "print"
never_larger = true
output = { format = "source", jpeg = { quality = 95 } }

[[presets."plain".variants]]
name = "only"
output = { format = "png" }
"""


@pytest.fixture
def read(tmp_path):
    """The presets of a file with this text."""

    def read(text):
        path = tmp_path / "own.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load_presets(path)

    return read


def test_presets_of_ones_own_are_what_the_file_says(read):
    presets = read(OWN)
    assert list(presets) == ["card", "plain"]
    card = presets["card"]
    assert card.accepts == (ImageFormat.JPEG, ImageFormat.PNG)
    assert card.limits == Limits(max_bytes=5 * MIB, min_side=200)
    assert card.key_template == "cards/{image_id}/{variant}.{ext}"
    front, printed = card.pipeline.variants
    assert front.operations == (
        Crop(x=0, y=0, width=100, height=50),
        Resize(width=640, height=360, fit=Fit.COVER),
    )
    assert front.output == WebpOutput(quality=80)
    assert (printed.never_larger, printed.output) == (True, SourceOutput(jpeg=JpegOutput(quality=95)))


def test_a_preset_of_ones_own_has_the_defaults_of_web(read):
    plain = read(OWN)["plain"]
    assert (plain.accepts, plain.limits, plain.key_template) == (WEB_FORMATS, Limits(), DEFAULT_KEY_TEMPLATE)


def test_what_a_preset_does_not_limit_is_limited_as_everywhere(tmp_path):
    path = tmp_path / "own.toml"
    path.write_text(OWN)
    presets = load_presets(path, Limits(max_bytes=20 * MIB, max_frames=7))
    assert presets["plain"].limits == Limits(max_bytes=20 * MIB, max_frames=7)
    assert presets["card"].limits == Limits(max_bytes=5 * MIB, min_side=200, max_frames=7)


VARIANT = '[[presets.card.variants]]\nname = "front"\noutput = { format = "webp" }\n'
BAD = {
    "an unknown operation": (
        '[[presets.card.variants]]\nname = "a"\noperations = [{ op = "sepia" }]\noutput = { format = "png" }',
        r"variants\.0\.operations\.0: .*sepia",
    ),
    "a number out of its range": (
        '[[presets.card.variants]]\nname = "a"\noutput = { format = "webp", quality = 101 }',
        r"variants\.0\.output\.webp\.quality: .*100",
    ),
    "a field that there is not": (VARIANT + "colour = 1", r"variants\.0\.colour: "),
    "an unknown format": (
        '[[presets.card.variants]]\nname = "a"\noutput = { format = "bmp" }',
        r"variants\.0\.output: ",
    ),
    "no output": ('[[presets.card.variants]]\nname = "a"', r"variants\.0\.output: Field required"),
    "no name": (
        '[[presets.card.variants]]\noutput = { format = "png" }',
        r"variants\.0\.name: Field required",
    ),
    "a bad name": (
        '[[presets.card.variants]]\nname = "A b"\noutput = { format = "png" }',
        r"variants\.0\.name: ",
    ),
    "the same name twice": (VARIANT * 2, "two variants of a pipeline have the same name"),
    "no variants": ("[presets.card]\nvariants = []", "variants: "),
    "nothing at all": ("[presets.card]", "variants: Field required"),
    "an unknown limit": (VARIANT + "[presets.card.limits]\nmax_colours = 3", r"limits\.max_colours: "),
    "a limit out of its range": (VARIANT + "[presets.card.limits]\nmax_side = 0", r"limits\.max_side: "),
    "an unknown media type": ('[presets.card]\naccepts = ["image/nope"]\n' + VARIANT, "accepts: .*nope"),
    "no media type": ('[presets.card]\naccepts = ["text/plain"]\n' + VARIANT, "accepts: .*text/plain"),
    "a number as media type": ("[presets.card]\naccepts = [7]\n" + VARIANT, r"accepts\.0: "),
    "no accepted type": ("[presets.card]\naccepts = []\n" + VARIANT, "accepts: "),
    "an empty template": ('[presets.card]\nkey_template = ""\n' + VARIANT, "key_template: "),
    "an endless template": (f'[presets.card]\nkey_template = "{"x" * 201}"\n' + VARIANT, "key_template: "),
    "no table": ("[presets]\ncard = 3", "valid dictionary"),
}


@pytest.mark.parametrize(("text", "fault"), BAD.values(), ids=BAD.keys())
def test_a_bad_preset_is_refused_by_file_preset_and_field(read, text, fault):
    with pytest.raises(ConfigurationError) as refused:
        read(text)
    sentence = str(refused.value)
    assert re.search(r"'card' in .*own\.toml is not valid: ", sentence)
    assert re.search(fault, sentence), sentence
    assert "\n" not in sentence
    assert "pydantic" not in sentence
    assert sentence.endswith(".")


BAD_FILES = {
    "no TOML": ("presets {", "cannot be read"),
    "no text": (b"\xff\xfe\x00", "cannot be read"),
    "a table twice": ("[presets.a]\n[presets.a]", "cannot be read"),
    "an empty file": ("", r"has no table \[presets"),
    "a word": ("presets = 3", r"has no table \[presets"),
    "no preset": ("[presets]", r"has no table \[presets"),
    "a misspelt table": (VARIANT + "[preset.other]", "has preset beside"),
}


@pytest.mark.parametrize(("text", "fault"), BAD_FILES.values(), ids=BAD_FILES.keys())
def test_a_bad_file_is_refused_by_its_name(read, text, fault):
    with pytest.raises(ConfigurationError, match=rf"own\.toml {fault}"):
        read(text)


def test_a_missing_file_and_a_folder_are_refused_by_their_names(tmp_path):
    for path in (tmp_path / "absent.toml", tmp_path):
        with pytest.raises(ConfigurationError, match=re.escape(str(path))):
            load_presets(path)


def test_one_bad_preset_stops_the_good_ones_too(read):
    with pytest.raises(ConfigurationError, match="'bad'"):
        read(OWN + "\n[presets.bad]\n")
