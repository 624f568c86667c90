"""The three commands, as people call them; real files, real databases."""

import io
import json
import os
import threading
from contextlib import closing
from pathlib import Path

import pytest
from botocore.config import Config
from django.core.files.base import ContentFile
from django.core.files.storage import FileSystemStorage, default_storage
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import TestCase
from PIL import Image

from contrib_django.gallery.models import Article, Pair, Photo, Profile
from image_processor.contrib.django import pruning, rebuilding
from image_processor.contrib.django.details import ImageDetails, State
from image_processor.contrib.django.inventory import picture_columns, read_rows
from valkey_server import free_port

ORPHAN = f"photos/{'a' * 32}_medium.webp"
DAYS = 3 * 86_400

pytestmark = pytest.mark.django_db


def run(command: str, *labels: str, **options) -> str:
    """What a command says on its two outputs."""
    out = io.StringIO()
    with TestCase.captureOnCommitCallbacks(execute=True):
        call_command(f"image_processor_{command}", *labels, stdout=out, stderr=out, **options)
    return out.getvalue()


def failing(command: str, *labels: str, **options) -> tuple[str, CommandError]:
    """The same for one that ends with a failure."""
    out = io.StringIO()
    with TestCase.captureOnCommitCallbacks(execute=True), pytest.raises(CommandError) as raised:
        call_command(f"image_processor_{command}", *labels, stdout=out, stderr=out, **options)
    return out.getvalue(), raised.value


def plain_article(name: str, data: bytes) -> Article:
    """A row as a plain ImageField of Django's writes it: a name, and nothing known."""
    article = Article(title="plain")
    article.save()
    Article.objects.filter(pk=article.pk).update(image=default_storage.save(name, ContentFile(data)))
    return Article.objects.get(pk=article.pk)


def set_details(row, field: str, **changes) -> None:
    details = getattr(row, field).model_copy(update=changes)
    type(row).objects.filter(pk=row.pk).update(**{field: details})


def make_old(media: Path) -> None:
    """All that is there was written three days ago."""
    for path in media.rglob("*"):
        if path.is_file():
            stamp = path.stat().st_mtime - DAYS
            os.utime(path, (stamp, stamp))


# --- rebuild ---


def test_what_plain_django_wrote_gets_its_variants_and_keeps_its_file(make_photo, media, files):
    article = plain_article("images/2020/IMG 0815.jpg", make_photo(90, 60))
    old = article.image.name
    assert article.image.url.endswith(".jpg")
    assert article.image.state is None

    assert "1 rebuilt" in run("rebuild", "gallery.Article.image", missing=True)

    article.refresh_from_db()
    assert article.image.state is State.READY
    assert article.image.name.startswith("images/2020/")
    assert set(files()) == {old, article.image.name}
    with Image.open(media / article.image.name) as made:
        assert made.size == (60, 20)
    assert "none to rebuild" in run("rebuild", missing=True)


def test_a_field_that_keeps_sources_keeps_the_file_of_plain_django_as_the_source(make_photo, files):
    photo = Photo(title="plain")
    photo.save()
    name = default_storage.save("photos/old.png", ContentFile(make_photo(90, 60, kind="PNG")))
    Photo.objects.filter(pk=photo.pk).update(picture=name)
    run("rebuild", "gallery.Photo", missing=True)
    photo.refresh_from_db()
    assert photo.picture_details.source == name
    assert list(photo.picture.variants) == ["thumbnail", "medium", "large", "original"]
    run("rebuild", "gallery.Photo", all=True)
    photo.refresh_from_db()
    assert photo.picture_details.source == name
    assert files() == sorted(photo.picture_details.names)


def test_a_copy_of_a_row_keeps_its_files_when_the_other_is_rebuilt(user, upload, files):
    """Somebody copied a row by hand, so two name the same three files."""
    profile = Profile.objects.create(user=user, picture=upload())
    other = type(user).objects.create_user("bob")
    copied = Profile(user=other)
    copied.save()
    Profile.objects.filter(pk=copied.pk).update(
        picture=profile.picture.name, picture_details=profile.picture_details
    )
    assert "2 rebuilt" in run("rebuild", "gallery.Profile", all=True)
    for row in (profile, copied):
        row.refresh_from_db()
        assert set(row.picture_details.names) <= set(files())


def test_files_in_formats_and_sizes_that_uploads_may_not_have_are_rebuilt(make_photo, settings):
    settings.IMAGE_PROCESSOR = {"MAX_BYTES": 100}
    article = plain_article("images/old.gif", make_photo(90, 60, kind="GIF"))
    run("rebuild", "gallery", missing=True)
    article.refresh_from_db()
    assert article.image.state is State.READY


def test_a_damaged_file_is_told_and_left_alone(files):
    article = plain_article("images/damaged.jpg", b"no picture")
    out, error = failing("rebuild", missing=True)
    assert f"gallery.Article.image {article.pk}: " in out
    assert error.returncode == 1
    article.refresh_from_db()
    assert article.image.name == "images/damaged.jpg"
    assert article.image_details is None
    assert files() == ["images/damaged.jpg"]


def test_a_file_that_is_gone_is_told():
    article = plain_article("images/gone.jpg", b"x")
    default_storage.delete(article.image.name)
    assert "gone from the storage" in failing("rebuild", all=True)[0]


def test_the_original_is_not_encoded_a_second_time(user, upload, files):
    profile = Profile.objects.create(user=user, picture=upload())
    first = profile.picture_details
    run("rebuild", "gallery.Profile.picture", all=True)
    profile.refresh_from_db()
    then = profile.picture_details
    assert then.variants["original"] == first.variants["original"]
    assert then.variants["thumbnail"].name != first.variants["thumbnail"].name
    assert list(then.variants) == list(first.variants)
    assert (then.width, then.color, then.thumbhash) == (first.width, first.color, first.thumbhash)
    assert files() == sorted(then.names)


def test_without_upload_and_original_there_is_nothing_to_begin_with(upload):
    article = Article.objects.create(image=upload())
    out, _ = failing("rebuild", "gallery.Article", all=True)
    assert "Neither the upload nor a variant" in out
    assert article.image.storage.exists(article.image.name)


def test_missing_takes_in_pictures_that_lack_a_variant_of_their_preset(upload):
    photo = Photo.objects.create(picture=upload())
    variants = {name: one for name, one in photo.picture_details.variants.items() if name != "medium"}
    set_details(photo, "picture_details", variants=variants)
    assert "1 rebuilt" in run("rebuild", "gallery.Photo", missing=True)
    photo.refresh_from_db()
    assert "medium" in photo.picture.variants


def test_pending_pictures_get_their_variants(upload, settings, files):
    settings.IMAGE_PROCESSOR = {"VARIANTS": "tasks"}
    article = waiting(upload())
    assert "1 rebuilt" in run("rebuild", pending=True)
    article.refresh_from_db()
    assert article.image.state is State.READY
    assert files() == [article.image.name]


def waiting(uploaded) -> Article:
    """A row whose order was lost: as where the queue was emptied."""
    article = Article.objects.create()
    data = uploaded.read()
    source = default_storage.save(f"images/{'b' * 32}_source.jpg", ContentFile(data))
    details = ImageDetails(state=State.PENDING, width=320, height=240, source=source)
    Article.objects.filter(pk=article.pk).update(image=source, image_details=details)
    return Article.objects.get(pk=article.pk)


def test_a_service_that_is_not_there_leaves_the_row_waiting(upload, settings):
    settings.IMAGE_PROCESSOR = {
        "VARIANTS": "service",
        "SERVICE_URL": f"http://127.0.0.1:{free_port()}",
        "SERVICE_TOKEN": "x",
        "RETRY_SECONDS": [],
    }
    photo = Photo.objects.create(picture=upload())
    assert failing("rebuild", "gallery.Photo", pending=True)[1].returncode == 1
    photo.refresh_from_db()
    assert photo.picture.state is State.PENDING
    assert photo.picture.storage.exists(photo.picture.name)


def test_a_pending_picture_that_is_refused_counts_as_failed_and_can_be_tried_again(upload, media):
    article = waiting(upload(b"no picture"))
    out, _ = failing("rebuild", pending=True)
    assert str(article.pk) in out
    article.refresh_from_db()
    assert article.image.state is State.FAILED
    (media / article.image.name).write_bytes(upload().read())
    assert "1 rebuilt" in run("rebuild", failed=True)
    article.refresh_from_db()
    assert article.image.state is State.READY
    assert article.image_details.error is None


def test_a_row_that_got_another_picture_meanwhile_is_left_alone(upload, make_photo, files, monkeypatch):
    photo = Photo.objects.create(picture=upload())
    another = upload(make_photo(50, 50))
    make = rebuilding.make

    def slowly(*given, **options):
        made = make(*given, **options)
        fresh = Photo.objects.get(pk=photo.pk)
        fresh.picture = another
        fresh.save()
        return made

    monkeypatch.setattr(rebuilding, "make", slowly)
    assert "changed meanwhile" in run("rebuild", "gallery.Photo", all=True)
    photo.refresh_from_db()
    assert photo.picture.width == 50
    assert files() == sorted(photo.picture_details.names)


def test_dry_run_and_labels_change_nothing(make_photo, files):
    article = plain_article("images/IMG.jpg", make_photo(90, 60))
    assert f"gallery.Article.image {article.pk} images/IMG.jpg" in run("rebuild", missing=True, dry_run=True)
    assert "none to rebuild" in run("rebuild", "gallery.Pair", "gallery.Photo", missing=True)
    assert files() == ["images/IMG.jpg"]


def test_a_run_that_was_stopped_goes_on_where_it_was(make_photo, monkeypatch):
    rows = [plain_article(f"images/{number}.jpg", make_photo(90, 60)) for number in range(3)]
    rebuild = rebuilding.rebuild
    module = "image_processor.contrib.django.management.commands.image_processor_rebuild.rebuild"

    def stopped(row):
        if row.pk == rows[1].pk:
            raise KeyboardInterrupt
        return rebuild(row)

    monkeypatch.setattr(module, stopped)
    _, error = failing("rebuild", "gallery.Article.image", missing=True, batch_size=1)
    assert error.returncode == 130
    assert f"--after {rows[0].pk}" in str(error)
    monkeypatch.setattr(module, rebuild)
    told = run("rebuild", "gallery.Article.image", missing=True, batch_size=1, after=str(rows[1].pk))
    assert "1 rebuilt" in told
    assert "1 rebuilt" in run("rebuild", missing=True)


def test_an_open_breaker_ends_the_run(make_photo, settings, monkeypatch):
    settings.IMAGE_PROCESSOR = {"RETRY_SECONDS": [], "BREAKER_FAILURES": 2}
    rows = [plain_article(f"images/{number}.jpg", make_photo(90, 60)) for number in range(4)]
    monkeypatch.setattr(FileSystemStorage, "_save", full_disk)
    out, error = failing("rebuild", missing=True)
    assert [f"image {row.pk}:" in out for row in rows] == [True, True, False, False]
    assert "2 failed" in str(error)
    assert Article.objects.filter(image_details=None).count() == 4


def full_disk(*_: object) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize(
    ("labels", "options", "sentence"),
    [
        ((), {}, "Say which pictures"),
        (("nowhere",), {"all": True}, "no ImageField called 'nowhere'"),
        (("gallery.Photo.title",), {"all": True}, "no ImageField called"),
        (("gallery.Nothing",), {"all": True}, "no ImageField called"),
        (("gallery",), {"all": True, "after": "1"}, "label of one field"),
        ((), {"all": True, "batch_size": 0}, "at least 1"),
    ],
)
def test_wrong_words_are_told(labels, options, sentence):
    assert sentence in str(failing("rebuild", *labels, **options)[1])


def test_each_column_is_there_once_and_rows_come_in_batches(upload):
    columns = [f"{field.model._meta.label}.{field.name}" for field in picture_columns()]
    assert sorted(columns) == sorted(set(columns))
    assert "gallery.Photo.picture" in columns
    assert "gallery.PublicPhoto.picture" not in columns
    for _ in range(5):
        Article.objects.create(image=upload())
    Article.objects.create()
    field = Article._meta.get_field("image")
    assert [row.pk for row in read_rows(field, 2)] == list(
        Article.objects.exclude(image="").order_by("pk").values_list("pk", flat=True)
    )


# --- verify ---


def test_verify_finds_nothing_where_all_is_well(upload, user):
    Profile.objects.create(user=user, picture=upload())
    Photo.objects.create(picture=upload())
    assert "2 ready. Faults: 0." in run("verify", deep=True)


def test_verify_names_model_row_and_file_of_each_fault(upload, media):
    gone, short, other = (Article.objects.create(image=upload()) for _ in range(3))
    (media / gone.image.name).unlink()
    with (media / short.image.name).open("r+b") as file:
        file.truncate(100)
    Image.new("RGB", (61, 20)).save(media / other.image.name, "JPEG")
    variant = other.image_details.variants["wide"]
    size = (media / other.image.name).stat().st_size
    set_details(other, "image_details", variants={"wide": variant.model_copy(update={"bytes": size})})
    unreadable = Article.objects.create(image=upload())
    with connection.cursor() as cursor:
        cursor.execute("UPDATE gallery_article SET image_details = '{}x' WHERE id = %s", [unreadable.pk])

    out, error = failing("verify", deep=True)

    assert error.returncode == 1
    assert f"gallery.Article.image {gone.pk}: {gone.image.name}: The file is not there." in out
    assert f"gallery.Article.image {short.pk}: {short.image.name}: The file has 100 bytes" in out
    assert f"{other.image.name}: The picture is 61x20, its row says 60x20." in out
    assert f"gallery.Article.image {unreadable.pk}: The details cannot be read." in out
    assert "Faults: 4." in out


def test_verify_speaks_json(upload, media):
    article = Article.objects.create(image=upload())
    (media / article.image.name).unlink()
    out, _ = failing("verify", "gallery.Article", json=True)
    fault, summary = map(json.loads, out.splitlines())
    assert fault == {
        "model": "gallery.Article",
        "pk": str(article.pk),
        "field": "image",
        "name": article.image.name,
        "sentence": "The file is not there.",
    }
    assert summary == {"pictures": 1, "states": {"ready": 1}, "faults": 1}


def test_verify_tells_details_of_another_file(upload):
    article = Article.objects.create(image=upload())
    copy = default_storage.save("images/by-hand.jpg", upload())
    Article.objects.filter(pk=article.pk).update(image=copy)
    assert "those of another file" in failing("verify")[0]
    Article.objects.filter(pk=article.pk).update(image="")
    assert "details and no file" in failing("verify")[0]


def test_verify_stops_where_the_storage_does_not_answer(upload, monkeypatch):
    Article.objects.create(image=upload())
    monkeypatch.setattr(FileSystemStorage, "size", full_disk)
    assert "Not everything was looked at" in str(failing("verify")[1])


# --- prune ---


def test_prune_removes_what_no_row_names_and_nothing_else(upload, user, media, files):
    photo = Photo.objects.create(picture=upload())
    profile = Profile.objects.create(user=user, picture=upload())
    kept = set(files())
    theirs = default_storage.save("photos/their own.txt", ContentFile(b"theirs"))
    default_storage.save(ORPHAN, ContentFile(b"orphan"))
    default_storage.save(f"profile_pictures/77/{'c' * 32}_thumbnail.jpg", ContentFile(b"orphan"))
    make_old(media)
    young = default_storage.save(f"photos/{'d' * 32}_source.jpg", ContentFile(b"young"))
    everything = files()

    assert "2 would be removed" in run("prune", dry_run=True)
    assert files() == everything
    assert ORPHAN in run("prune")
    assert set(files()) == kept | {theirs, young}
    assert photo.picture.storage.exists(photo.picture.name)
    assert profile.picture.storage.exists(profile.picture.variants["thumbnail"].name)
    assert "0 removed" in run("prune")


def test_prune_keeps_what_a_row_of_another_model_names(upload, media, files):
    left = Pair.objects.create(left=upload(), right=upload())
    Article.objects.create(image=upload())
    Article.objects.update(image=left.left.name)  # by hand, from another folder; details are elsewhere
    Pair.objects.filter(pk=left.pk).update(left="", left_details=None)
    make_old(media)
    run("prune")
    assert left.left.name in files()


def test_prune_keeps_the_files_of_rows_whose_details_cannot_be_read(upload, media, files):
    photo = Photo.objects.create(picture=upload())
    before = files()
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE gallery_photo SET picture_details = picture_details || 'x' WHERE id = %s", [photo.pk]
        )
    make_old(media)
    run("prune")
    assert files() == before


def test_prune_asks_a_second_time_before_it_removes(upload, media, files, monkeypatch):
    """A row that comes to name a file between the first look and the last keeps it."""
    default_storage.save(ORPHAN, ContentFile(b"named soon"))
    make_old(media)
    listed = pruning._listed

    def listing(folder):
        yield from listed(folder)
        Photo.objects.update(picture=ORPHAN)

    Photo.objects.create(picture=upload())
    make_old(media)
    monkeypatch.setattr(pruning, "_listed", listing)
    run("prune", "gallery.Photo")
    assert ORPHAN in files()


def test_prune_follows_no_links(media, files, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    target = outside / f"{'e' * 32}_wide.jpg"
    target.write_bytes(b"elsewhere")
    (media / "photos").mkdir()
    (media / "photos" / "linked").symlink_to(outside, target_is_directory=True)
    (media / "photos" / f"{'f' * 32}_wide.jpg").symlink_to(target)
    (media / "photos" / "loop").symlink_to(media / "photos", target_is_directory=True)
    stamp = target.stat().st_mtime - DAYS
    os.utime(target, (stamp, stamp))
    assert "0 removed" in run("prune", "gallery.Photo")
    assert target.exists()


def test_prune_of_the_services_folder_keeps_pictures_whose_urls_stand_in_text(user, media, files):
    """ImageStorageService gives URLs; where a row keeps one of them, all three files stay."""
    used, unused = "1" * 32, "2" * 32
    for generation in (used, unused):
        for variant in ("original", "resized", "thumbnail"):
            name = f"profile_pictures/7/{generation}_{variant}.jpg"
            default_storage.save(name, ContentFile(b"x"))
    user.first_name = f"/media/profile_pictures/7/{used}_resized.jpg"[:150]
    user.save()
    make_old(media)
    assert "3 removed" in run("prune", folder="profile_pictures")
    assert [name.split("/")[2][:32] for name in files()] == [used] * 3


def test_any_name_takes_what_plain_django_left(make_photo, media, files):
    article = plain_article("images/2020/IMG.jpg", make_photo(90, 60))
    run("rebuild", missing=True)
    make_old(media)
    run("prune")
    assert "images/2020/IMG.jpg" in files()
    assert "1 removed" in run("prune", folder="images", any_name=True)
    article.refresh_from_db()
    assert files() == [article.image.name]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"any_name": True}, "needs --folder"),
        ({"folder": "../x"}, "within the storage"),
        ({"folder": "/"}, "within"),
    ],
)
def test_prune_refuses_what_leads_out(options, sentence):
    assert sentence in str(failing("prune", **options)[1])


@pytest.mark.django_db(transaction=True)
def test_prune_stops_where_a_table_is_missing(upload, media, files):
    Photo.objects.create(picture=upload())
    default_storage.save(ORPHAN, ContentFile(b"orphan"))
    make_old(media)
    before = files()
    with connection.schema_editor() as editor:
        editor.delete_model(Article)
    try:
        assert "migrate first" in str(failing("prune", "gallery.Photo")[1])
        assert files() == before
    finally:
        with connection.schema_editor() as editor:
            editor.create_model(Article)


def test_in_memory_storages_are_pruned_and_verified(memory_media, upload, settings):
    settings.IMAGE_PROCESSOR = {"PRUNE_SECONDS": 0}
    photo = Photo.objects.create(picture=upload())
    default_storage.save(ORPHAN, ContentFile(b"orphan"))
    assert "Faults: 0." in run("verify")
    assert "1 removed" in run("prune", "gallery.Photo")
    assert photo.picture.storage.exists(photo.picture.variants["medium"].name)


@pytest.mark.django_db(transaction=True)
def test_an_upload_while_pruning_loses_nothing(upload, media):
    """Uploads go on in another thread while files are looked through again and again."""
    stop, rows = threading.Event(), []

    def uploads() -> None:
        with closing(connection):
            while not stop.is_set() and len(rows) < 6:
                rows.append(Article.objects.create(image=upload()))

    thread = threading.Thread(target=uploads)
    thread.start()
    while thread.is_alive():
        run("prune", "gallery.Article")
    thread.join()
    stop.set()
    assert len(rows) == 6
    assert all((media / row.image.name).exists() for row in rows)


def test_all_three_on_both_databases(each_database, upload, make_photo, media, files):
    article = plain_article("images/IMG.jpg", make_photo(90, 60))
    photo = Photo.objects.create(picture=upload())
    run("rebuild", "gallery.Photo", all=True)
    run("rebuild", "gallery.Article", missing=True)
    assert "Faults: 0." in run("verify", deep=True)
    default_storage.save(ORPHAN, ContentFile(b"orphan"))
    make_old(media)
    assert "1 removed" in run("prune")
    article.refresh_from_db()
    photo.refresh_from_db()
    assert set(files()) == {"images/IMG.jpg", article.image.name, *photo.picture_details.names}
    assert "1 removed" in run("prune", folder="images", any_name=True)


@pytest.mark.slow
def test_all_three_on_s3(s3, settings, upload, make_photo, monkeypatch):
    """Through django-storages, on a real server."""
    s3.start()
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    options = {
        "bucket_name": s3.new_bucket(),
        "endpoint_url": s3.url,
        "region_name": "us-east-1",
        "addressing_style": "path",
        "access_key": "owner-key",
        "secret_key": "owner-secret",
        "client_config": Config(
            s3={"addressing_style": "path"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    }
    backend = {"BACKEND": "storages.backends.s3.S3Storage", "OPTIONS": options}
    settings.STORAGES = {**settings.STORAGES, "default": backend}
    settings.IMAGE_PROCESSOR = {"PRUNE_SECONDS": 0}
    article = plain_article("images/IMG.jpg", make_photo(90, 60))
    photo = Photo.objects.create(picture=upload())
    default_storage.save(ORPHAN, ContentFile(b"orphan"))
    run("rebuild", "gallery.Article", missing=True)
    run("rebuild", "gallery.Photo", all=True)
    assert "Faults: 0." in run("verify", deep=True)
    assert "1 removed" in run("prune")
    assert "1 removed" in run("prune", folder="images", any_name=True)
    article.refresh_from_db()
    photo.refresh_from_db()
    listed = s3.client().list_objects_v2(Bucket=options["bucket_name"])["Contents"]
    assert {each["Key"] for each in listed} == {article.image.name, *photo.picture_details.names}
    default_storage.delete(article.image.name)
    assert "The file is not there." in failing("verify")[0]
    default_storage.connection.meta.client.close()
