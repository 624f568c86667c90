"""ImageStorageService: three files or none, the former ones gone after the commit."""

import io
import os
import re
import time
import uuid
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.core.files.base import ContentFile
from django.core.files.storage import FileSystemStorage, InMemoryStorage
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import OperationalError, transaction
from PIL import Image

from contrib_django.gallery.models import Profile
from image_processor.contrib.django.conf import Conf
from image_processor.contrib.django.profile_pictures import ImageStorageService, StoredPictures
from image_processor.contrib.django.rendering import local_renderer
from image_processor.errors import (
    EngineError,
    InvalidKeyError,
    InvalidOperationError,
    StorageError,
    UnavailableError,
)

BASE = "https://gallery.example"
FIVE_MB = 5 * 1024 * 1024


class RememberingRenderer:
    """Renders a picture once; the same bytes again cost nothing. Counts its calls."""

    known: dict = {}  # noqa: RUF012 - for all tests

    def __init__(self) -> None:
        self.calls = 0

    def render(self, source, preset):
        self.calls += 1
        if (source, preset) not in self.known:
            self.known[source, preset] = local_renderer().render(source, preset)
        return self.known[source, preset]


@pytest.fixture
def renderer() -> RememberingRenderer:
    return RememberingRenderer()


@pytest.fixture
def waits() -> list[float]:
    return []


@pytest.fixture
def make_service(db, renderer, waits):
    """`make_service(storage, in_use=…)`."""

    def made(storage=None, **options) -> ImageStorageService:
        options = {"renderer": renderer, "sleep": waits.append, "base_url": BASE, **options}
        return ImageStorageService(storage, **options)

    return made


@pytest.fixture
def service(make_service) -> ImageStorageService:
    return make_service()


def row_names(user_id: str) -> list[str]:
    """What the profile of a user names: the callable that a project gives as `in_use`."""
    if not user_id.isdecimal():
        return []
    row = Profile.objects.filter(user_id=user_id).first()
    return [row.picture.name, *(row.picture_details.names if row.picture_details else ())] if row else []


def into_row(user):
    """What a project gives as `save`."""

    def save(stored: StoredPictures) -> None:
        columns = {"picture": stored.names.original, "picture_details": stored.details}
        Profile.objects.update_or_create(user=user, defaults=columns)

    return save


def age(media: Path, seconds: float) -> None:
    """All files get older."""
    for path in media.rglob("*"):
        then = time.time() - seconds
        os.utime(path, (then, then))


def rolled_back(call) -> None:
    with transaction.atomic():
        call()
        transaction.set_rollback(True)


class HalfWritingStorage(FileSystemStorage):
    """Its disk is full in the middle of the third file, so many times."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times
        self.saved = 0

    def _save(self, name, content):
        self.saved += 1
        if self.saved % 3 == 0 and self.saved <= self.times * 3:
            super()._save(name, ContentFile(content.read(100)))
            raise OSError(28, "No space left on device")
        return super()._save(name, content)


# What is stored


def test_three_jpegs_lie_in_the_folder_of_the_user(service, photo_bytes, media, files):
    stored = service.upload(7, photo_bytes)

    sizes = {}
    for variant, name in stored.names._asdict().items():
        assert re.fullmatch(rf"profile_pictures/7/[0-9a-f]{{32}}_{variant}\.jpg", name)
        with Image.open(media / name) as image:
            assert image.format == "JPEG"
            sizes[variant] = image.size
    assert sizes == {"original": (320, 240), "resized": (512, 512), "thumbnail": (128, 128)}
    assert files() == sorted(stored.names)
    assert stored.thumbnail == f"{BASE}/media/{stored.names.thumbnail}"


def test_a_row_that_takes_the_details_knows_all_of_the_picture(service, user, photo_bytes):
    service.upload(user.pk, photo_bytes, save=into_row(user))

    picture = Profile.objects.get(user=user).picture

    assert (picture.width, picture.height) == (320, 240)
    assert picture.variants["resized"].width == 512
    assert picture.thumbhash


def test_the_background_is_the_projects(make_service, make_photo):
    service = make_service(InMemoryStorage(), conf=Conf(background="#00ff00"))

    stored = service.upload(7, make_photo(600, 300))

    with service.storage.open(stored.names.resized) as file, Image.open(file) as image:
        red, green, blue = image.getpixel((256, 20))
    assert (red < 8, green > 247, blue < 8) == (True, True, True)


def test_what_is_transparent_is_laid_on_the_background(make_service):
    file = io.BytesIO()
    Image.new("RGBA", (600, 600), (0, 0, 0, 0)).save(file, "PNG")
    service = make_service(InMemoryStorage(), conf=Conf(background="#ff0000"))

    stored = service.upload(7, file)

    for name in stored.names:
        with service.storage.open(name) as kept, Image.open(kept) as image:
            red, green, blue = image.getpixel((image.width // 2, image.height // 2))
        assert (red > 247, green < 8, blue < 8) == (True, True, True)


def test_the_steps_one_by_one(service, photo_bytes, files):
    picture = service.render(photo_bytes)
    assert files() == []

    stored = service.store("ada", picture)

    assert files() == sorted(stored.names)


@pytest.mark.parametrize("user_id", [0, 7, "7", "ada-l_2", uuid.UUID(int=2**90)])
def test_users_are_named_by_numbers_uuids_and_slugs(service, photo_bytes, user_id):
    assert service.upload(user_id, photo_bytes).names.original.startswith(f"profile_pictures/{user_id}/")


@pytest.mark.parametrize(
    "user_id",
    [
        *[
            "",
            ".",
            "..",
            "../7",
            "7/..",
            "/7",
            "7/8",
            "7\\8",
            "-7",
            "_",
            "a.b",
            "7\n",
            "7\0",
            "ä",
            "a b",
            "x" * 65,
        ],
        *[-1, True, None, 7.0, b"7", ["7"]],
    ],
)
def test_nobody_else_has_a_folder(make_service, photo_bytes, files, user_id):
    service = make_service(in_use=row_names)
    for call in (
        lambda: service.upload(user_id, photo_bytes),
        lambda: service.cleanup(user_id) if user_id is not None else service.upload(None, photo_bytes),
    ):
        with pytest.raises(InvalidKeyError, match="number, a UUID or a slug"):
            call()
    assert files() == []


# What is refused


def test_bytes_count_and_not_what_the_file_says_of_itself(service, photo_bytes, renderer, files):
    file = SimpleUploadedFile("me.jpg", photo_bytes + bytes(FIVE_MB))
    file.size = 10

    with pytest.raises(ValidationError, match="larger than 5 MB") as raised:
        service.upload(7, file)

    assert raised.value.code == "file_too_large"
    assert (renderer.calls, files()) == (0, [])


class Stream(io.RawIOBase):
    """Gives a little at a time; endless, unless it is given an end. Cannot be rewound."""

    def __init__(self, data: bytes | None = None) -> None:
        self.data = io.BytesIO(data) if data is not None else None
        self.given = 0

    def read(self, size=-1):
        chunk = self.data.read(min(size, 1000)) if self.data else bytes(min(size, 100_000))
        self.given += len(chunk)
        return chunk


def test_an_endless_stream_is_read_to_the_limit_and_no_further(service):
    stream = Stream()

    with pytest.raises(ValidationError, match="larger than 5 MB"):
        service.upload(7, stream)

    assert stream.given == FIVE_MB + 1


def test_a_stream_that_gives_little_at_a_time_is_read_whole(service, photo_bytes, files):
    service.upload(7, Stream(photo_bytes))

    assert len(files()) == 3


def test_a_file_that_was_read_before_is_read_from_its_start(service, photo_bytes, files):
    file = SimpleUploadedFile("me.jpg", photo_bytes)
    file.read()

    service.upload(7, file)

    assert len(files()) == 3


def test_an_upload_that_cannot_be_read_is_no_fault_of_the_picture(service):
    class Gone(Stream):
        def read(self, size=-1):
            raise OSError(5, "Input/output error")

    with pytest.raises(StorageError, match="could not be read"):
        service.upload(7, Gone())


def test_a_bad_picture_is_neither_tried_again_nor_counted(make_service, photo_bytes, waits):
    service = make_service(renderer=None)
    for _ in range(4):
        with pytest.raises(ValidationError) as raised:
            service.upload(7, photo_bytes[: len(photo_bytes) // 2])
        assert raised.value.code == "corrupt_image"

    assert waits == []
    service.upload(7, photo_bytes)


def test_a_bad_picture_is_told_so_even_while_the_breaker_is_open(make_service, photo_bytes):
    service = make_service(HalfWritingStorage(times=99))
    for _ in range(3):
        with pytest.raises(StorageError):
            service.upload(7, photo_bytes)

    with pytest.raises(UnavailableError):
        service.upload(7, photo_bytes)
    with pytest.raises(ValidationError, match="JPEG, PNG, HEIC"):
        service.upload(7, b"GIF89a")


# Failures


def test_a_disk_that_is_full_for_a_moment_costs_two_tries_and_one_render(
    make_service, photo_bytes, waits, renderer, files
):
    stored = make_service(HalfWritingStorage(times=2)).upload(7, photo_bytes)

    assert waits == [1, 2]
    assert renderer.calls == 1
    assert files() == sorted(stored.names)


def test_a_disk_that_stays_full_leaves_nothing_and_keeps_the_former_picture(
    make_service, photo_bytes, make_photo, waits, files
):
    stored = make_service().upload(7, photo_bytes)

    with pytest.raises(StorageError) as raised:
        make_service(HalfWritingStorage(times=99)).upload(7, make_photo())

    assert isinstance(raised.value.__cause__, OSError)
    assert waits == [1, 2, 4]
    assert files() == sorted(stored.names)


def test_a_folder_that_cannot_be_made_is_a_failure_of_the_storage(service, photo_bytes, no_room):
    with pytest.raises(StorageError, match="storage of the pictures failed"):
        service.upload(7, photo_bytes)


def test_a_storage_that_loses_the_folder_meanwhile_is_one_too(make_service, photo_bytes):
    class LosingStorage(FileSystemStorage):
        def _save(self, name, content):
            raise FileNotFoundError(2, "No such file or directory")

    with pytest.raises(StorageError):
        make_service(LosingStorage()).upload(7, photo_bytes)


def test_whatever_a_renderer_raises_becomes_an_error_of_the_engine(make_service, photo_bytes, waits):
    class Renderer:
        def render(self, source, preset):
            raise MemoryError("unknown to us")

    with pytest.raises(EngineError, match="could not be processed"):
        make_service(renderer=Renderer()).upload(7, photo_bytes)

    assert waits == [1, 2, 4]


def test_a_row_that_cannot_be_saved_leaves_its_former_picture_and_nothing_else(
    service, user, photo_bytes, files
):
    former = service.upload(user.pk, photo_bytes, save=into_row(user))

    def save(_stored):
        raise RuntimeError("no such column")

    with pytest.raises(RuntimeError):
        service.upload(user.pk, photo_bytes, save=save)

    assert files() == sorted(former.names)


# URLs


def test_without_a_host_nothing_is_begun(make_service, photo_bytes, renderer, files):
    with pytest.raises(ImproperlyConfigured, match="BASE_URL"):
        make_service(base_url=None).upload(7, photo_bytes)

    assert (renderer.calls, files()) == (0, [])


@pytest.mark.parametrize(
    "case",
    [
        ("/media/", None, "https://set.example", "https://set.example/media/"),
        ("/media/", "https://given.example/", "https://set.example", "https://given.example/media/"),
        ("https://cdn.example/m/", "https://given.example", None, "https://cdn.example/m/"),
        ("//cdn.example/m/", "https://given.example", None, "https://cdn.example/m/"),
    ],
)
def test_the_host_of_a_url(make_service, settings, photo_bytes, case):
    media_url, base_url, setting, expected = case
    settings.MEDIA_URL = media_url
    settings.IMAGE_PROCESSOR = {"BASE_URL": setting} if setting else {}

    stored = make_service(base_url=base_url).upload(7, photo_bytes)

    assert stored.original == expected + stored.names.original


@pytest.mark.parametrize(
    "base_url", ["gallery.example", "ftp://gallery.example", "https://", "https://a.example/b"]
)
def test_a_base_url_is_a_scheme_and_a_host(settings, service, photo_bytes, base_url):
    settings.IMAGE_PROCESSOR = {"BASE_URL": base_url}

    with pytest.raises(ImproperlyConfigured, match="base_url"):
        service.upload(7, photo_bytes)


def test_a_request_tells_its_host(make_service, photo_bytes, rf):
    stored = make_service(base_url=None).upload(7, photo_bytes, request=rf.get("/any", secure=True))

    assert stored.original == f"https://testserver/media/{stored.names.original}"


def test_a_storage_without_urls_is_a_fault_of_the_settings(make_service, settings, photo_bytes, files):
    class SilentStorage(FileSystemStorage):
        def url(self, name):
            raise ValueError("This file is not accessible via a URL.")

    with pytest.raises(ImproperlyConfigured, match="no URLs"):
        make_service(SilentStorage()).upload(7, photo_bytes)

    assert files() == []


# What was there before


def test_former_files_go_after_the_commit_and_not_before(
    service, photo_bytes, files, django_capture_on_commit_callbacks
):
    former = service.upload(7, photo_bytes)

    with django_capture_on_commit_callbacks(execute=True):
        stored = service.upload(7, photo_bytes)
        assert files() == sorted([*former.names, *stored.names])

    assert files() == sorted(stored.names)


@pytest.mark.django_db(transaction=True)
def test_what_is_rolled_back_leaves_the_former_picture(make_service, user, photo_bytes, files):
    service = make_service(in_use=row_names)
    former = service.upload(user.pk, photo_bytes, save=into_row(user))

    rolled_back(lambda: service.upload(user.pk, photo_bytes, save=into_row(user)))

    assert Profile.objects.get(user=user).picture.name == former.names.original
    assert set(former.names) < set(files())
    service.cleanup(user.pk, older_than_seconds=0)
    assert files() == sorted(former.names)


@pytest.mark.django_db(transaction=True)
def test_what_a_row_names_is_kept_although_the_caller_forgot_the_transaction(
    make_service, user, photo_bytes, files
):
    service = make_service(in_use=row_names)
    former = service.upload(user.pk, photo_bytes, save=into_row(user))

    stored = service.upload(user.pk, photo_bytes)

    assert files() == sorted([*former.names, *stored.names])


@pytest.mark.django_db(transaction=True)
def test_of_two_uploads_at_once_the_row_has_one_whole_picture(make_service, user, photo_bytes, files):
    service = make_service(in_use=row_names)
    service.upload(user.pk, photo_bytes, save=into_row(user))

    class Overtaken(ImageStorageService):
        def _save_row(self, *args):
            service.upload(user.pk, photo_bytes, save=into_row(user))  # sees our files; ours is in no row yet
            super()._save_row(*args)

    options = {"renderer": RememberingRenderer(), "base_url": BASE, "in_use": row_names}
    last = Overtaken(**options).upload(user.pk, photo_bytes, save=into_row(user))

    assert Profile.objects.get(user=user).picture.name == last.names.original
    assert set(last.names) <= set(files())
    service.cleanup(older_than_seconds=0)
    assert files() == sorted(last.names)


@pytest.mark.django_db(transaction=True)
def test_what_an_upload_that_died_left_goes_with_the_next_once_it_is_old(
    make_service, user, photo_bytes, media, files
):
    service = make_service(in_use=row_names)
    service.store(user.pk, service.render(photo_bytes))
    age(media, 3700)

    stored = service.upload(user.pk, photo_bytes, save=into_row(user))

    assert files() == sorted(stored.names)


@pytest.mark.django_db(transaction=True)
def test_files_of_others_in_the_folder_are_left_alone(service, photo_bytes, media, files):
    folder = media / "profile_pictures/7"
    folder.mkdir(parents=True)
    strange = ["note.txt", "original.jpg", f"{'f' * 31}_original.jpg", f"{'f' * 32}"]
    for name in strange:
        (folder / name).write_bytes(b"")

    service.upload(7, photo_bytes)
    service.upload(7, photo_bytes)
    service.delete(7)

    assert files() == sorted(f"profile_pictures/7/{name}" for name in strange)


@pytest.mark.django_db(transaction=True)
def test_a_database_that_fails_when_it_is_asked_what_is_in_use_keeps_everything(
    make_service, photo_bytes, files, caplog
):
    former = make_service().upload(7, photo_bytes)
    answers = [former.names]

    def in_use(_user_id):
        if not answers:
            raise OperationalError("the server closed the connection")
        return answers.pop()

    stored = make_service(in_use=in_use).upload(7, photo_bytes)

    assert files() == sorted([*former.names, *stored.names])
    assert "the server closed the connection" in caplog.text


# Delete


@pytest.mark.django_db(transaction=True)
def test_all_pictures_of_a_user_are_deleted_and_nobody_elses(service, photo_bytes, files):
    service.upload(7, photo_bytes)
    other = service.upload(77, photo_bytes)

    service.delete(7)
    service.delete(7)

    assert files() == sorted(other.names)


@pytest.mark.django_db(transaction=True)
def test_pictures_are_deleted_by_name_and_by_url(service, photo_bytes, files):
    stored = service.upload(7, photo_bytes)

    service.delete([stored.original + "?X-Amz-Signature=0", stored.names.thumbnail])

    assert files() == [stored.names.resized]


@pytest.mark.django_db(transaction=True)
def test_a_deletion_waits_for_the_commit(service, photo_bytes, files):
    stored = service.upload(7, photo_bytes)

    rolled_back(lambda: service.delete(7))
    assert files() == sorted(stored.names)

    with transaction.atomic():
        service.delete(stored.names)
        assert files() == sorted(stored.names)
    assert files() == []


@pytest.mark.parametrize(
    "name",
    [
        "../settings.py",
        "profile_pictures/7/note.txt",
        f"profile_pictures/../{'f' * 32}_original.jpg",
        f"profile_pictures/7/../8/{'f' * 32}_original.jpg",
        f"other/7/{'f' * 32}_original.jpg",
        f"my_profile_pictures/7/{'f' * 32}_original.jpg",
        "",
    ],
)
def test_nothing_but_profile_pictures_can_be_deleted(service, name):
    with pytest.raises(InvalidKeyError):
        service.delete([name])


@pytest.mark.django_db(transaction=True)
def test_a_deletion_that_fails_is_told_of(make_service, photo_bytes):
    class Keeping(FileSystemStorage):
        def delete(self, name):
            raise PermissionError(13, "Permission denied")

    service = make_service(Keeping())
    service.upload(7, photo_bytes)

    with pytest.raises(StorageError, match="could not be removed"):
        service.delete(7)


# Cleanup


def test_cleanup_wants_to_know_what_is_in_use(service, photo_bytes, files):
    service.upload(7, photo_bytes)

    with pytest.raises(ImproperlyConfigured, match="in_use or keep"):
        service.cleanup(older_than_seconds=0)

    assert len(files()) == 3


def test_cleanup_spares_what_is_young_and_what_is_in_use(make_service, photo_bytes, media, files):
    used: dict[str, list[str]] = {}
    service = make_service(in_use=lambda user_id: used.get(user_id, []))
    picture = service.render(photo_bytes)
    lost, in_row, kept = (service.store(user_id, picture) for user_id in (7, 8, "ada"))
    age(media, 3700)
    young = service.store(7, picture)
    used["8"] = [in_row.thumbnail, None, ""]

    assert service.cleanup(9) == ()
    assert sorted(service.cleanup(keep=[kept.names.original])) == sorted(lost.names)

    assert files() == sorted([*in_row.names, *kept.names, *young.names])


def test_cleanup_of_one_user_leaves_the_others(service, photo_bytes, files):
    service.upload(7, photo_bytes)
    other = service.upload(8, photo_bytes)

    service.cleanup(7, keep=(), older_than_seconds=0)

    assert files() == sorted(other.names)


def test_a_storage_that_knows_no_times_is_cleaned_while_nobody_uploads(make_service, photo_bytes, files):
    class Timeless(FileSystemStorage):
        def get_modified_time(self, name):
            raise NotImplementedError

    service = make_service(Timeless())
    service.upload(7, photo_bytes)

    with pytest.raises(ImproperlyConfigured, match="how old"):
        service.cleanup(keep=())
    assert len(service.cleanup(keep=(), older_than_seconds=0)) == 3
    assert files() == []


# Resize


@pytest.mark.parametrize("size", [(512, 512), (300, 100), (1, 1)])
def test_a_picture_is_brought_to_a_size(service, photo_bytes, size):
    resized = service.resize(photo_bytes, size, "#0000ff")

    with Image.open(resized) as image:
        assert (image.format, image.size) == ("JPEG", size)


@pytest.mark.parametrize("options", [{"size": (0, 10)}, {"size": (10, 70_000)}, {"background": "blue"}])
def test_impossible_sizes_and_colours_are_refused(service, photo_bytes, options):
    with pytest.raises(InvalidOperationError):
        service.resize(photo_bytes, **options)


# Storages


@pytest.fixture
def s3_storage(s3, s3_bucket):
    from storages.backends.s3 import S3Storage  # noqa: PLC0415 - an optional part

    client = s3.client()
    credentials = client._request_signer._credentials
    client.close()
    storage = S3Storage(
        bucket_name=s3_bucket,
        endpoint_url=s3.url,
        access_key=credentials.access_key,
        secret_key=credentials.secret_key,
        region_name="us-east-1",
        addressing_style="path",
        file_overwrite=False,
    )
    yield storage
    storage.connection.meta.client.close()


@pytest.mark.parametrize("kind", ["memory", pytest.param("s3", marks=pytest.mark.slow)])
@pytest.mark.django_db(transaction=True)
def test_other_storages_do(make_service, photo_bytes, request, kind):
    storage = request.getfixturevalue("s3_storage") if kind == "s3" else InMemoryStorage()
    service = make_service(storage)
    service.upload(7, photo_bytes)

    stored = service.upload(7, photo_bytes)

    assert sorted(storage.listdir("profile_pictures/7")[1]) == sorted(
        Path(name).name for name in stored.names
    )
    assert stored.names.original in stored.original
    service.delete(7)
    assert not any(storage.exists(name) for name in stored.names)
    assert service.cleanup(keep=()) == ()
