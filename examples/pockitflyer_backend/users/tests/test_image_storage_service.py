"""ImageStorageService, as the task asks for it."""

import io
from uuid import UUID

import pytest
from django.core.exceptions import ValidationError
from django.core.files.uploadedfile import SimpleUploadedFile
from image_processor.contrib.django.rendering import local_renderer
from image_processor.errors import EngineCrashedError, UnavailableError
from PIL import Image

from users.models import Profile
from users.services.image_storage import ImageStorageService, set_profile_picture

pytestmark = pytest.mark.tdd_green
FIVE_MB = 5 * 1024 * 1024
WHITE = (255, 255, 255)


def upload_of(data: bytes, name: str = "me.jpg", content_type: str = "image/jpeg") -> SimpleUploadedFile:
    return SimpleUploadedFile(name, data, content_type)


def is_near(color: tuple[int, ...], other: tuple[int, ...]) -> bool:
    return all(abs(one - two) < 12 for one, two in zip(color, other, strict=True))


def pixels_of(path) -> Image.Image:
    with Image.open(path) as image:
        assert image.format == "JPEG"
        return image.convert("RGB")


class BrokenRenderer:
    """Fails so many times, for no fault of the picture; then renders."""

    def __init__(self, times: float) -> None:
        self.times = times
        self.calls = 0

    def render(self, source, preset):
        self.calls += 1
        if self.calls <= self.times:
            raise EngineCrashedError("The process that decodes died.")
        return local_renderer().render(source, preset)


# Upload valid JPG image: validates, processes, stores correctly


def test_a_jpg_is_stored_in_three_sizes_under_uuid_names(service, picture, media, stored):
    urls = service.upload(7, upload_of(picture("JPEG")))

    assert {path.parent.relative_to(media).as_posix() for path in stored()} == {"profile_pictures/7"}
    assert len({UUID(path.name.split("_")[0]) for path in stored()}) == 1
    assert [pixels_of(media / name).size for name in urls.names] == [(300, 200), (512, 512), (128, 128)]
    assert urls.original == f"https://pockitflyer.example/media/{urls.names.original}"
    assert urls.resized == f"https://pockitflyer.example/media/{urls.names.resized}"
    assert urls.thumbnail == f"https://pockitflyer.example/media/{urls.names.thumbnail}"


def test_the_urls_have_the_host_of_the_request(service, picture, rf):
    urls = service.upload(7, upload_of(picture()), request=rf.get("/"))

    assert urls.thumbnail.startswith("http://testserver/media/profile_pictures/7/")


@pytest.mark.django_db(transaction=True)
def test_a_new_picture_takes_the_place_of_the_former_one(ada, picture, media, stored, rf):
    set_profile_picture(ada, upload_of(picture()), rf.get("/"))

    urls = set_profile_picture(ada, upload_of(picture(width=200)), rf.get("/"))

    assert Profile.objects.get(user=ada).picture.name == urls.names.original
    assert stored() == sorted(media / name for name in urls.names)


# Upload valid PNG image: converts to JPG; upload valid HEIC image: converts to JPG (iOS format)


@pytest.mark.parametrize(("kind", "media_type"), [("PNG", "image/png"), ("HEIF", "image/heic")])
def test_a_png_and_a_heic_become_jpgs(service, picture, media, kind, media_type):
    urls = service.upload(7, upload_of(picture(kind, 600, 300), f"IMG.{kind}", media_type))

    for name in urls.names:
        image = pixels_of(media / name)
        width, height = image.size
        assert is_near(image.getpixel((width // 4, height // 2)), (200, 40, 30))
        assert is_near(image.getpixel((width * 3 // 4, height // 2)), (30, 60, 200))


def test_a_phone_that_was_held_upright_gives_an_upright_picture(service, picture, media):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn it a quarter clockwise
    exif[0x010F] = "Camera of nobody"

    urls = service.upload(7, upload_of(picture("JPEG", 400, 200, exif=exif)))

    image = pixels_of(media / urls.names.original)
    assert image.size == (200, 400)
    assert is_near(image.getpixel((100, 50)), (200, 40, 30))
    assert b"Camera of nobody" not in (media / urls.names.original).read_bytes()


# Image exceeding 5MB returns error


def test_more_than_5_mb_is_refused_whatever_the_file_says_of_its_size(service, picture, stored):
    file = upload_of(picture() + bytes(FIVE_MB))
    file.size = 1000

    with pytest.raises(ValidationError, match=r"larger than 5 MB"):
        service.upload(7, file)

    assert stored() == []


def test_just_5_mb_are_taken(service, picture, stored):
    data = picture()

    service.upload(7, upload_of(data + bytes(FIVE_MB - len(data))))

    assert len(stored()) == 3


# Corrupt image file, non-image file, unsupported format: each an error, none a crash


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        pytest.param(lambda jpg: jpg[: len(jpg) // 2], "damaged or incomplete", id="corrupt"),
        pytest.param(lambda _: b"#!/bin/sh\necho hello\n", "no picture of a kind", id="not an image"),
        pytest.param(lambda _: b"GIF89a" + bytes(100), "no picture of a kind", id="unsupported"),
        pytest.param(lambda _: b"", "empty", id="empty"),
    ],
)
def test_a_bad_file_is_refused_with_a_sentence(service, picture, stored, waits, damage, sentence):
    noisy = Image.effect_noise((300, 300), 80)
    file = io.BytesIO()
    noisy.save(file, "JPEG")

    for _ in range(4):  # and it never opens the breaker
        with pytest.raises(ValidationError, match=sentence):
            service.upload(7, upload_of(damage(file.getvalue()), "holiday.jpg"))

    assert stored() == []
    assert waits == []
    service.upload(7, upload_of(picture()))


def test_a_bmp_that_calls_itself_a_jpg_is_not_believed(service, picture):
    with pytest.raises(ValidationError, match="JPEG, PNG, HEIC"):
        service.upload(7, upload_of(picture("BMP"), "me.jpg", "image/jpeg"))


# Circuit breaker triggers on Pillow failure


def test_after_three_uploads_that_failed_nothing_is_tried(db, picture, stored):
    broken = BrokenRenderer(times=float("inf"))
    service = ImageStorageService(renderer=broken, sleep=lambda _: None)
    for _ in range(3):
        with pytest.raises(EngineCrashedError):
            service.upload(7, upload_of(picture()))
    tried = broken.calls

    with pytest.raises(UnavailableError, match="try again"):
        service.upload(7, upload_of(picture()))

    assert broken.calls == tried == 3 * 4
    assert stored() == []


# Retry logic with exponential backoff works correctly


def test_a_failure_is_tried_again_after_1_2_and_4_seconds(db, picture, waits, stored):
    service = ImageStorageService(renderer=BrokenRenderer(times=3), sleep=waits.append)

    service.upload(7, upload_of(picture()))

    assert waits == [1, 2, 4]
    assert len(stored()) == 3


# Thumbnail generation produces correct dimensions


@pytest.mark.parametrize("size", [(1, 1), (128, 128), (50, 2000), (2000, 50)])
def test_a_thumbnail_has_128_pixels_each_way(service, picture, media, size):
    urls = service.upload(7, upload_of(picture("PNG", *size)))

    assert pixels_of(media / urls.names.thumbnail).size == (128, 128)


# Aspect ratio maintained with padding (letterbox/pillarbox)


def test_a_wide_picture_has_bars_above_and_below(service, picture, media):
    image = pixels_of(media / service.upload(7, upload_of(picture("PNG", 1024, 512))).names.resized)

    assert is_near(image.getpixel((256, 60)), WHITE)
    assert is_near(image.getpixel((256, 452)), WHITE)
    assert is_near(image.getpixel((10, 256)), (200, 40, 30))
    assert is_near(image.getpixel((501, 256)), (30, 60, 200))


def test_a_tall_picture_has_bars_at_its_sides(service, picture):
    with Image.open(service.resize(picture("PNG", 512, 1024), background="#00ff00")) as image:
        assert image.size == (512, 512)
        assert is_near(image.getpixel((60, 256)), (0, 255, 0))
        assert is_near(image.getpixel((452, 256)), (0, 255, 0))
        assert is_near(image.getpixel((150, 10)), (200, 40, 30))
