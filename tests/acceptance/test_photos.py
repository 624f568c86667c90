"""Every camera photo through the HTTP API, compared with an independent decode by Pillow."""

import io
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps, ImageSequence

from running_service import IS_SOAK, upload, wait_for_result

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

WIDTHS = {"thumbnail": 150, "medium": 600, "large": 1200, "original": 4096}
ACCEPTED = {"JPEG", "PNG", "WEBP", "MPO"}  # MPO is how Pillow calls a JPEG with further pictures behind it
SRGB = ImageCms.createProfile("sRGB")
PIXEL_CHUNKS = {b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF"}
"""All that a WebP file of ours may hold: no EXIF, no XMP, no profile, nothing unknown."""

EXCESS = 1.25
"""
How much farther from Pillow's decode we may be than Pillow's own WebP of that decode, per channel, of 255.

The distance of WebP itself (chroma at half the size) is 2 to 14 in pictures of 150 pixels; what is measured
here is what our decode, our colours and our resampler add to it.
"""
BIAS = 1.25
"""How far the mean of a channel may be off that WebP, of 255: a missing colour conversion is off by more."""
COMPARED_WIDTH = 1200 if IS_SOAK else 600
NO_TRUTH = {"Channel_digital_image_CMYK_color_no_profile.jpg"}
"""CMYK without a profile: Pillow inverts the inks, we take the profile of a real press. Compared by eye."""


@dataclass(frozen=True)
class Comparison:
    """One picture against another: R, G, B (premultiplied) and alpha, each of 255."""

    distance: np.ndarray
    bias: np.ndarray


def _photos(folder: Path) -> list[Path]:
    """
    All of them; unless there is time, two of cameras and two of the orientations.

    The engine's own tests compare every file of a camera with Pillow; the orientations have a test below.
    """
    found = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix.lower() != ".md")
    if IS_SOAK:
        return found
    alike = {name: [path for path in found if path.parent.name == name] for name in ("camera", "orientation")}
    by_size = {name: sorted(paths, key=lambda path: path.stat().st_size) for name, paths in alike.items()}
    left_out = {path for paths in by_size.values() for path in paths[2:]}
    return [path for path in found if path not in left_out]


def _upright_srgb(path: Path) -> Image.Image:
    """The first frame as Pillow sees it: upright, sRGB, with alpha."""
    image = Image.open(path)
    content = image.info.get("icc_profile")
    image = ImageOps.exif_transpose(next(iter(ImageSequence.Iterator(image))))
    if image.mode.startswith("I;16") or image.mode == "I":
        image = Image.fromarray((np.asarray(image) / 257).round().astype("uint8"))
    alpha = image.convert("RGBA").getchannel("A")
    if content:
        image = _through_profile(image, ImageCms.ImageCmsProfile(io.BytesIO(content)))
    image = image.convert("RGBA")
    image.putalpha(alpha)
    return image


def _through_profile(image: Image.Image, profile: ImageCms.ImageCmsProfile) -> Image.Image:
    modes = {"RGB": "RGB", "CMYK": "CMYK", "GRAY": "L"}
    mode = modes[profile.profile.xcolor_space.strip()]
    return ImageCms.profileToProfile(image.convert(mode), profile, SRGB, outputMode="RGB")


def _premultiplied(image: Image.Image) -> np.ndarray:
    pixels = np.asarray(image, dtype=np.float32)
    return np.dstack([pixels[..., :3] * pixels[..., 3:] / 255, pixels[..., 3]])


def _compare(ours: Image.Image, reference: Image.Image) -> Comparison:
    difference = _premultiplied(ours.convert("RGBA")) - _premultiplied(reference)
    distance = np.abs(difference).mean(axis=(0, 1), dtype=np.float64)
    return Comparison(distance, np.abs(difference.mean(axis=(0, 1), dtype=np.float64)))


def _webp_by_pillow(image: Image.Image) -> Image.Image:
    content = io.BytesIO()
    image.save(content, "webp", quality=85)
    return Image.open(content)


def _reduced(image: Image.Image) -> Image.Image:
    """Twelve megapixels tell no more of colour and orientation than one does, and take ten times as long."""
    return image.resize((COMPARED_WIDTH, _height(COMPARED_WIDTH, image.size)), Image.Resampling.LANCZOS)


def _chunks(content: bytes) -> set[bytes]:
    assert content[:4] + content[8:12] == b"RIFFWEBP"
    assert int.from_bytes(content[4:8], "little") + 8 == len(content)
    names, offset = set(), 12
    while offset < len(content):
        names.add(content[offset : offset + 4])
        size = int.from_bytes(content[offset + 4 : offset + 8], "little")
        offset += 8 + size + size % 2
    return names


def _height(width: int, size: tuple[int, int]) -> int:
    return max(1, int(size[1] * width / size[0] + 0.5))


def _check_variant(
    name: str, body: dict, content: bytes, reference: Image.Image
) -> tuple[Comparison, np.ndarray]:
    width = min(WIDTHS[name], reference.width)
    assert (body["width"], body["height"]) == (width, _height(width, reference.size)), name
    assert (body["format"], body["size_bytes"]) == ("webp", len(content))
    assert body["aspect_ratio"] == round(body["width"] / body["height"], 4)
    assert _chunks(content) <= PIXEL_CHUNKS
    ours = Image.open(io.BytesIO(content))
    assert ours.format == "WEBP"
    assert ours.size == (body["width"], body["height"])
    if ours.width > COMPARED_WIDTH:
        ours = _reduced(ours)
    resized = reference.resize(ours.size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    webp = _webp_by_pillow(resized)
    comparison = Comparison(_compare(ours, resized).distance, _compare(ours, webp.convert("RGBA")).bias)
    return comparison, comparison.distance - _compare(webp, resized).distance


def _check_result(
    client: httpx.Client, path: Path, result: dict
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The largest distance, excess and bias of the four variants, per channel."""
    reference = _upright_srgb(path)
    dimensions = result["metadata"]["original_dimensions"]
    assert (dimensions["width"], dimensions["height"]) == reference.size
    assert set(result["urls"]) == set(WIDTHS)
    found = []
    for name, url in result["urls"].items():
        answer = client.get(url).raise_for_status()
        assert answer.headers["content-type"] == "image/webp"
        found.append(_check_variant(name, result["metadata"]["variants"][name], answer.content, reference))
    return (
        np.max([comparison.distance for comparison, _ in found], axis=0),
        np.max([excess for _, excess in found], axis=0),
        np.max([comparison.bias for comparison, _ in found], axis=0),
    )


def _line(name: str, *figures: np.ndarray) -> str:
    return f"{name[:44]:44}" + "".join(
        "  |" + "".join(f"{value:6.2f}" for value in figure) for figure in figures
    )


def test_every_photo_comes_out_right_or_is_refused_by_its_type(start_service, photos):
    service = start_service()
    refused, jobs, wrong = set(), {}, []
    print("\n" + " " * 44 + "  | distance R G B A       | beyond Pillow's own WebP | bias of the mean")
    with service.client() as client:
        for path in _photos(photos):
            answer = upload(client, path.read_bytes())
            if answer.status_code == 415:
                assert "JPEG, PNG, WebP" in answer.json()["error"]["message"]
                refused.add(path.parent.name)
            else:
                jobs[path] = answer.raise_for_status().json()["job_id"]
        for path, job_id in jobs.items():
            result = wait_for_result(client, job_id)
            assert result.status_code == 200, (path.name, result.text)
            distance, excess, bias = _check_result(client, path, result.json())
            print(_line(path.name, distance, excess, bias))
            if path.name not in NO_TRUTH and (max(excess) > EXCESS or max(bias) > BIAS):
                wrong.append(path.name)
    assert wrong == []
    assert refused == {"avif", "gif_anim", "heic", "tiff", "tiff_multipage"}
    assert len(jobs) >= (34 if IS_SOAK else 20)


def test_the_eight_orientations_are_one_picture(start_service, photos):
    service = start_service()
    with service.client() as client:
        pictures = []
        for number in range(1, 9):
            answer = upload(client, (photos / "orientation" / f"Landscape_{number}.jpg").read_bytes())
            result = wait_for_result(client, answer.json()["job_id"]).json()
            assert result["metadata"]["original_dimensions"] == {"width": 1800, "height": 1200}
            content = client.get(result["urls"]["medium"]).content
            pictures.append(np.asarray(Image.open(io.BytesIO(content)), dtype=float))
    for picture in pictures[1:]:
        assert np.abs(picture - pictures[0]).mean() < 3.5, "beyond what WebP makes of the eight JPEGs"
