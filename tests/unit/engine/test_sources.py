"""Every kind of file that comes in shows the picture that another decoder shows."""

import io
import socket

import numpy as np
import pillow_heif
import pytest
from PIL import Image, ImageCms, ImageOps

from image_processor.engine.base import RenderRequest
from image_processor.engine.isolate import IsolatedEngine
from image_processor.errors import CorruptImageError, FileTooLargeError, UnsupportedFormatError
from image_processor.pipeline import Fit, GifOutput, ImageFormat, Limits, Resize, WebpOutput
from image_processor.testing import sample_images
from pictures import SRGB, differences, in_srgb, opened, picture, pipeline_of, render

CLOSE = 1.5
"""Mean difference per channel, of 255: two decoders, two roundings, one picture."""
HEVC = 3.0
"""The same for pictures that a lossy encoder has had: its noise is in both."""

SRGB_BYTES = ImageCms.ImageCmsProfile(SRGB).tobytes()


@pytest.fixture
def scene():
    return opened(sample_images.png(96, 64))


def decoded(heic):
    """By pillow-heif itself, as it shows pictures."""
    return pillow_heif.open_heif(io.BytesIO(heic)).to_pillow()


class TestHeic:
    def test_looks_as_its_own_library_shows_it(self, tmp_path):
        original = sample_images.heic()
        assert max(differences(picture(tmp_path, original, kind="heic"), decoded(original))) < 0.1

    @pytest.mark.parametrize("turns", [0, 1, 2, 3])
    def test_is_turned_once_and_not_twice(self, tmp_path, scene, turns):
        """Its own orientation is in the container; the EXIF beside it repeats it."""
        original = sample_images.heic(turns=turns)
        rendering = render(tmp_path, original, pipeline_of(), "heic")
        assert (rendering.width, rendering.height) == (96, 64)
        shown = opened(rendering.variants[0].path.read_bytes())
        assert max(differences(shown, scene)) < HEVC

    def test_keeps_its_alpha(self, tmp_path):
        shown = np.asarray(picture(tmp_path, sample_images.heic(alpha=True), kind="heic"))
        assert shown.shape[2] == 4
        assert shown[:, :40, 3].min() > 250
        assert np.abs(shown[:, 56:, 3].astype(int) - 128).max() <= 3

    def test_ten_bits_become_eight(self, tmp_path, scene):
        shown = picture(tmp_path, sample_images.heic(bits=10), kind="heic")
        assert max(differences(shown, scene)) < HEVC

    def test_the_white_of_ten_bits_is_white(self, tmp_path):
        white = np.full((64, 96, 3), 65535, np.uint16).tobytes()
        written = io.BytesIO()
        pillow_heif.from_bytes("RGB;16", (96, 64), white).save(written, quality=-1)
        assert picture(tmp_path, written.getvalue(), kind="heic").getextrema() == ((255, 255),) * 3

    def test_display_p3_without_a_profile_is_converted(self, tmp_path):
        """As some telephones say it: in three numbers."""
        profile = opened(sample_images.p3_jpeg()).info["icc_profile"]
        pixels = opened(sample_images.p3_jpeg(96, 64))
        pixels.info.clear()
        written = io.BytesIO()
        file = pillow_heif.from_pillow(pixels)
        file.info["nclx_profile"] = {
            "color_primaries": 12,
            "transfer_characteristics": 13,
            "matrix_coefficients": 6,
            "full_range_flag": 1,
        }
        file.save(written, quality=95, chroma=444, save_nclx_profile=True)
        bare = decoded(written.getvalue())
        tagged = io.BytesIO()
        bare.save(tagged, "PNG", icc_profile=profile)
        shown = picture(tmp_path, written.getvalue(), kind="heic")
        assert max(differences(shown, in_srgb(tagged.getvalue()))) < CLOSE
        assert max(differences(bare, in_srgb(tagged.getvalue()))) > 3 * CLOSE

    def test_of_several_pictures_the_primary_one_counts(self, tmp_path, scene):
        file = pillow_heif.from_pillow(Image.new("RGB", (32, 32), "red"))
        file.add_from_pillow(scene)
        written = io.BytesIO()
        file.save(written, quality=90, chroma=444, primary_index=1)
        assert max(differences(picture(tmp_path, written.getvalue(), kind="heic"), scene)) < HEVC

    def test_comes_through_the_protected_child(self, tmp_path, scene):
        (tmp_path / "out").mkdir()
        source = tmp_path / "original"
        source.write_bytes(sample_images.heic(turns=1))
        request = RenderRequest(
            source=source,
            source_format=ImageFormat.HEIC,
            pipeline=pipeline_of(),
            output_directory=tmp_path / "out",
            limits=Limits(),
        )
        engine = IsolatedEngine(readable=(tmp_path,), writable=(tmp_path / "out",))
        try:
            (variant,) = engine.render(request, deadline_seconds=30).variants
        finally:
            engine.close()
        assert max(differences(opened(variant.path.read_bytes()), scene)) < HEVC


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA"])
def test_every_kind_of_bmp_looks_as_pillow_shows_it(tmp_path, mode):
    original = sample_images.bmp(97, 64, mode=mode)
    assert max(differences(picture(tmp_path, original, kind="bmp"), opened(original))) == 0


TIFFS = {
    "tiled": {"tile": True, "tile_width": 32, "tile_height": 32},
    "lzw": {"compression": "lzw", "predictor": "horizontal"},
    "jpeg": {"compression": "jpeg", "Q": 95},
    "plain": {"compression": "none"},
    "big": {"bigtiff": True},
}


@pytest.mark.parametrize("kind", sorted(TIFFS))
def test_every_kind_of_tiff_looks_as_pillow_shows_it(tmp_path, kind):
    original = sample_images.tiff(96, 64, **TIFFS[kind])
    assert max(differences(picture(tmp_path, original, kind="tiff"), opened(original))) < 0.5


def test_a_tiff_of_16_bits_shows_the_same_picture(tmp_path, scene):
    shown = picture(tmp_path, sample_images.tiff_16bit(96, 64), kind="tiff")
    assert max(differences(shown, scene)) < 0.6  # libvips makes 255 * 256 of 255, and not 65535


def test_a_tiff_whose_zero_is_white_is_no_negative(tmp_path):
    levels = np.tile(np.arange(256, dtype=np.uint8), (4, 1))
    shown = picture(tmp_path, raw_tiff(levels, white_is_zero=True), kind="tiff")
    assert (np.asarray(shown) == 255 - levels).all()


def test_a_tiff_of_inks_shows_what_the_press_would(tmp_path):
    cmyk = opened(sample_images.cmyk_jpeg(96, 64))
    written = io.BytesIO()
    cmyk.save(written, "TIFF", icc_profile=cmyk.info["icc_profile"])
    shown = picture(tmp_path, written.getvalue(), kind="tiff")
    assert max(differences(shown, in_srgb(written.getvalue()))) < CLOSE


def test_a_tiff_keeps_its_alpha(tmp_path):
    written = io.BytesIO()
    opened(sample_images.png_with_alpha(96, 64)).save(written, "TIFF")
    shown = picture(tmp_path, written.getvalue(), kind="tiff")
    assert shown.mode == "RGBA"
    assert shown.tobytes() == opened(written.getvalue()).tobytes()


@pytest.mark.parametrize(
    ("dtype", "white"),
    [(np.float32, 1.0), (np.uint32, 2**32 - 1), (np.int32, 2**31 - 1), (np.int16, 2**15 - 1)],
)
def test_a_tiff_of_rare_numbers_runs_from_black_to_white(tmp_path, dtype, white):
    levels = (np.linspace(0, 1, 64) * white).astype(dtype)
    shown = picture(tmp_path, raw_tiff(np.tile(levels, (4, 1))), kind="tiff")
    row = np.asarray(shown)[0].astype(int)
    assert (row[0], row[-1]) == (0, 255)
    assert (np.diff(row) >= 0).all()


def raw_tiff(pixels, *, white_is_zero=False):
    """A grey TIFF of these numbers, whatever their type; Pillow writes some of them only."""
    kind = {"u": 1, "i": 2, "f": 3}[pixels.dtype.kind]
    height, width = pixels.shape
    data = pixels.tobytes()
    tags = [
        (256, width),
        (257, height),
        (258, pixels.itemsize * 8),
        (259, 1),
        (262, 0 if white_is_zero else 1),
        (273, 8),
        (277, 1),
        (278, height),
        (279, len(data)),
        (339, kind),
    ]
    entries = b"".join(
        tag.to_bytes(2, "little") + b"\4\0" + (1).to_bytes(4, "little") + value.to_bytes(4, "little")
        for tag, value in tags
    )
    directory = len(tags).to_bytes(2, "little") + entries + bytes(4)
    return b"II*\0" + (8 + len(data)).to_bytes(4, "little") + data + directory


def test_of_a_tiff_of_several_pages_the_first_counts(tmp_path):
    rendering = render(tmp_path, sample_images.tiff_of_pages(96, 64), pipeline_of(), "tiff")
    assert (rendering.width, rendering.height, rendering.frames) == (96, 64, 1)
    shown = opened(rendering.variants[0].path.read_bytes())
    assert max(differences(shown, opened(sample_images.png(96, 64)))) == 0


def test_of_an_animated_png_the_first_frame_counts(tmp_path, scene):
    rendering = render(tmp_path, sample_images.animated_png(), pipeline_of(), "png")
    assert rendering.frames == 1
    assert max(differences(opened(rendering.variants[0].path.read_bytes()), scene)) == 0


def test_of_an_animated_avif_the_first_frame_counts(tmp_path):
    original = sample_images.animated_avif()
    rendering = render(tmp_path, original, pipeline_of(), "avif")
    assert rendering.frames == 1
    assert max(differences(opened(rendering.variants[0].path.read_bytes()), opened(original))) < CLOSE


@pytest.mark.parametrize("bits", [8, 10, 12])
def test_an_avif_of_any_depth_shows_the_same_picture(tmp_path, scene, bits):
    shown = picture(tmp_path, sample_images.avif(96, 64, bits=bits), kind="avif")
    assert max(differences(shown, scene)) < 2 * HEVC


def test_an_avif_keeps_its_alpha(tmp_path):
    shown = np.asarray(picture(tmp_path, sample_images.avif(96, 64, alpha=True), kind="avif"))
    assert shown[:, :40, 3].min() > 250
    assert np.abs(shown[:, 56:, 3].astype(int) - 128).max() <= 3


def test_a_png_with_a_palette_looks_as_pillow_shows_it(tmp_path):
    original = sample_images.palette_png(96, 64)
    assert max(differences(picture(tmp_path, original, kind="png"), opened(original))) == 0


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["heic", "tiff", "tiff_multipage", "avif"])
def test_real_files_look_as_pillow_shows_them(tmp_path, photos, folder):
    """Upright, in sRGB: telephones' Display P3 and TIFF with old-style JPEG are among them."""
    pillow_heif.register_heif_opener()
    paths = sorted((photos / folder).iterdir())
    assert paths
    for path in paths:
        kind = folder.removesuffix("_multipage")
        shown = picture(tmp_path, path.read_bytes(), Resize(width=600, height=600, fit=Fit.INSIDE), kind=kind)
        expected = ImageOps.exif_transpose(opened(path.read_bytes()))
        ratio = expected.width / expected.height
        assert shown.width / shown.height == pytest.approx(ratio, rel=0.005)
        written = io.BytesIO()
        expected.convert("RGB").resize(shown.size, Image.Resampling.LANCZOS, reducing_gap=2).save(
            written, "PNG", icc_profile=expected.info.get("icc_profile") or SRGB_BYTES
        )
        assert max(differences(shown, in_srgb(written.getvalue()))) < CLOSE, path.name


@pytest.mark.parametrize("kind", ["gif", "webp"])
@pytest.mark.parametrize("output", [WebpOutput(lossless=True), GifOutput()], ids=["to webp", "to gif"])
def test_animations_keep_frames_delays_and_loop(tmp_path, kind, output):
    sample = sample_images.animated_gif if kind == "gif" else sample_images.animated_webp
    original = sample(80, 60, delays=(80, 120, 200))
    shown = picture(tmp_path, original, Resize(width=40), kind=kind, output=output)
    # A GIF says how often it is shown again, a WebP how often it is shown.
    assert shown.info["loop"] == (1 if shown.format == "GIF" else 2)
    assert (shown.size, shown.n_frames) == ((40, 30), 3)
    delays = []
    for frame in range(3):
        shown.seek(frame)
        shown.load()
        delays.append(shown.info["duration"])
    assert delays == [80, 120, 200]


@pytest.fixture
def beside(tmp_path_factory):
    """Red things to be had by file name and by address, and how often somebody came for them."""
    folder = tmp_path_factory.mktemp("beside")
    Image.new("RGB", (120, 80), "red").save(folder / "red.png")
    (folder / "red.css").write_text("path { fill: red }", encoding="ascii")
    paint = '<linearGradient id="paint"><stop stop-color="red"/></linearGradient>'
    (folder / "red.svg").write_bytes(
        sample_images.svg(f'{paint}<rect id="all" width="120" height="80" fill="red"/>')
    )
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield Beside(folder, server)


class Beside:
    def __init__(self, folder, server):
        self._server = server
        self.names = {
            "red": folder / "red.png",
            "css": folder / "red.css",
            "svg": folder / "red.svg",
            "port": server.getsockname()[1],
        }

    def calls(self):
        try:
            self._server.accept()[0].close()
        except BlockingIOError:
            return 0
        return 1


class TestSvg:
    def test_is_drawn_in_its_own_size(self, tmp_path):
        rendering = render(tmp_path, sample_images.svg(), pipeline_of(), "svg")
        assert (rendering.width, rendering.height) == (120, 80)
        shown = opened(rendering.variants[0].path.read_bytes())
        assert shown.getpixel((30, 20)) == (200, 30, 60, 255)
        assert shown.getpixel((90, 60))[3] == 0

    @pytest.mark.parametrize(
        "body",
        [
            '<image href="file://{red}" width="120" height="80"/>',
            '<image xlink:href="{red}" width="120" height="80"/>',
            '<image href="red.png" width="120" height="80"/>',
            '<image href="http://127.0.0.1:{port}/red.png" width="120" height="80"/>',
            '<xi:include href="file://{svg}" parse="xml"/>',
            '<use href="file://{svg}#all"/>',
            '<style>@import url("file://{css}");</style><g class="red"><path d="M0 0h120v80h-120z"/></g>',
            '<style>@import url("http://127.0.0.1:{port}/red.css");</style>',
            '<style>@font-face {{font-family: x; src: url("http://127.0.0.1:{port}/x.ttf")}}</style>',
            '<rect width="120" height="80" style="fill: url(file://{svg}#paint)"/>',
        ],
    )
    def test_loads_nothing_from_elsewhere(self, tmp_path, beside, body):
        original = sample_images.svg(body.format(**beside.names))
        shown = np.asarray(picture(tmp_path, original, kind="svg").convert("RGBA")).reshape(-1, 4)
        assert not ((shown[:, 0] > 100) & (shown[:, 3] > 0)).any()
        assert beside.calls() == 0

    def test_text_may_say_what_addresses_may_not(self, tmp_path):
        original = sample_images.svg("<title>data: a-b</title><desc>\\(</desc>")
        assert len(render(tmp_path, original, pipeline_of(), "svg").variants) == 1

    @pytest.mark.parametrize(
        ("document", "said"),
        [
            (b'<!DOCTYPE svg [<!ENTITY a "b">]>' + sample_images.svg(), "document type"),
            (b"<!doctype svg>" + sample_images.svg(), "document type|damaged"),
            (sample_images.svg().decode().encode("utf-16"), "UTF-8|first bytes"),
            (b'<?xml version="1.0" encoding="UTF-7"?>' + sample_images.svg(), "UTF-8"),
            (sample_images.svg('<image href="data:image/png;base64,AAAA"/>'), "embedded"),
            (sample_images.svg('<image xlink:href=" &#100;ATA:image/png,A"/>'), "embedded"),
            (
                sample_images.svg('<image q:href="data:,A" xmlns:q="http://www.w3.org/1999/xlink"/>'),
                "embedded",
            ),
            (sample_images.svg('<image href="da&#10;ta:image/png,A"/>'), "embedded"),
            (sample_images.svg('<use href="data:image/svg+xml,A#a"/>'), "embedded"),
            (sample_images.svg("<style>a{fill:url(da<!-- -->ta:,A)}</style>"), "embedded"),
            (sample_images.svg("<style>a{fill:url(da<g/>ta:,A)}</style>"), "elements"),
            (b'<?xml-stylesheet href="&#100;ata:text/css,"?>' + sample_images.svg(), "another place"),
            (sample_images.svg(r"<style>a{fill:url(\64 ata:image/svg+xml,A)}</style>"), "embedded"),
            (sample_images.svg('<rect style="fill:url(data:image/svg+xml,A#b)"/>'), "embedded"),
            (sample_images.svg()[:-9], "damaged"),
            (b"<html></html>", "damaged"),
        ],
    )
    def test_refuses_what_is_more_than_a_drawing(self, tmp_path, document, said):
        with pytest.raises((UnsupportedFormatError, CorruptImageError), match=said):
            render(tmp_path, document, pipeline_of(), "svg")

    def test_refuses_long_documents(self, tmp_path):
        with pytest.raises(FileTooLargeError, match="1048576"):
            render(tmp_path, sample_images.svg(" " * 2**20), pipeline_of(), "svg")
