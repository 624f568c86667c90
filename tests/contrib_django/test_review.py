"""What an attacker, a broken service, a second database or an odd project would have done to pictures."""

import io
import os
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from celery.exceptions import Retry
from django.core.cache import caches
from django.core.files.base import ContentFile, File
from django.core.files.storage import FileSystemStorage, default_storage
from django.core.management.base import CommandError
from django.db import OperationalError, connection, connections, models
from PIL import Image

from contrib_django.gallery.models import Article, Pair, Photo, Profile
from contrib_django.test_commands import make_old, run
from image_processor.client import Job, Result
from image_processor.contrib.django import celery_tasks, completion, queues, remote
from image_processor.contrib.django.breaker import CacheBreaker
from image_processor.contrib.django.details import State
from image_processor.contrib.django.queues import Pending
from image_processor.errors import ImageProcessorError, UnavailableError

transactional = pytest.mark.django_db(transaction=True)


def now(row, using="default"):
    return type(row).objects.using(using).get(pk=row.pk)


@pytest.fixture
def other_database(transactional_db, tmp_path):
    """A second database, empty."""
    settings = {**connections.databases["default"], "ENGINE": "django.db.backends.sqlite3"}
    connections.databases["other"] = {**settings, "NAME": str(tmp_path / "other.sqlite3"), "OPTIONS": {}}
    connections["other"].connect()
    yield connections["other"]
    connections["other"].close()
    del connections["other"], connections.databases["other"]


def test_a_row_that_moves_to_another_database_keeps_its_files(other_database, upload, files):
    """As Django's own guide moves it: saved there, deleted here."""
    with other_database.constraint_checks_disabled(), other_database.schema_editor() as editor:
        editor.create_model(Photo)
        editor.create_model(Article)
    row = now(Article.objects.create(image=upload()))
    before, pk = files(), row.pk
    row.save(using="other")
    row.delete(using="default")
    assert files() == before
    Article.objects.using("other").get(pk=pk).delete()
    assert files() == []


@pytest.mark.usefixtures("other_database")
def test_a_second_database_without_the_table_is_no_reason_to_keep_files(upload, files):
    Article.objects.create(image=upload()).delete()
    assert files() == []


@transactional
def test_details_named_alone_take_the_picture_along(upload, files):
    row = now(Article.objects.create(image=upload()))
    row.image = upload()
    row.save(update_fields=["image_details"])
    assert now(row).image.state is State.READY
    assert files() == [now(row).image.name]


@transactional
def test_rows_that_a_base_manager_hides_keep_their_files(upload, files, media, monkeypatch):
    """A project that deletes softly."""

    class Visible(models.Manager):
        def get_queryset(self):
            return super().get_queryset().exclude(title="hidden")

    row = now(Article.objects.create(image=upload(), title="hidden"))
    copy = now(row)
    copy.pk, copy.title = None, "copy"
    copy.save()
    manager = Visible()
    manager.model = Article
    monkeypatch.setitem(Article._meta.__dict__, "base_manager", manager)
    before = files()

    copy.delete()
    assert files() == before
    make_old(media)
    run("prune")
    assert files() == before


@transactional
def test_a_hundred_rows_with_one_variant_hide_no_copy_of_the_whole_picture(upload, files):
    row = now(Pair.objects.create(left=upload()))
    whole = row.left_details.model_copy(update={"source": row.left.name.replace("wide", "source")})
    default_storage.save(whole.source, ContentFile(b"source"))
    Pair.objects.update(left_details=whole)
    Pair.objects.bulk_create(Pair(left=row.left.name) for _ in range(100))
    copy = Pair(left=row.left.name, left_details=whole)
    copy.save()
    before = files()
    now(row).delete()
    assert files() == before


@transactional
def test_a_stream_that_gives_little_at_a_time_is_read_whole(photo_bytes):
    class Trickle(io.BytesIO):
        def read(self, size=-1):
            return super().read(min(size, 100))

    assert Article.objects.create(image=File(Trickle(photo_bytes), name="x.jpg")).image.state is State.READY


def test_a_clock_that_was_put_back_does_not_keep_the_breaker_open():
    at = SimpleNamespace(now=1e9)
    breaker = CacheBreaker(caches["default"], failures=1, rest_seconds=60, now=lambda: at.now)
    breaker.failed()
    at.now -= 86_400
    breaker.check()
    with pytest.raises(UnavailableError):
        breaker.check()


# --- prune ---


@pytest.mark.django_db
def test_prune_of_fields_in_the_services_folder_asks_text_too(user, media, files):
    name = f"profile_pictures/7/{'1' * 32}_original.jpg"
    default_storage.save(name, ContentFile(b"x"))
    user.first_name = f"/media/{name}"
    user.save()
    Profile.objects.create(user=user, picture=f"profile_pictures/7/{'2' * 32}_original.jpg")
    make_old(media)
    run("prune")
    assert files() == [name]


@pytest.mark.django_db
def test_prune_finds_text_that_has_the_folder_in_the_form_of_a_url(user, media, files):
    name = f"my pictures/{'1' * 32}_original.jpg"
    default_storage.save(name, ContentFile(b"x"))
    user.first_name = default_storage.url(name)
    user.save()
    make_old(media)
    run("prune", folder="my pictures")
    assert files() == [name]


@pytest.mark.django_db
def test_prune_knows_a_file_by_whichever_link_a_storage_reaches_it(media, tmp_path, monkeypatch):
    (tmp_path / "disk").mkdir()
    (media / "photos").symlink_to(tmp_path / "disk", target_is_directory=True)
    monkeypatch.setattr(Pair._meta.get_field("left"), "storage", FileSystemStorage(location=media / "photos"))
    file = tmp_path / "disk" / f"{'3' * 32}_wide.jpg"
    file.write_bytes(b"x")
    Pair.objects.bulk_create([Pair(left=file.name)])
    Pair.objects.update(left_details="{}")
    make_old(tmp_path / "disk")
    run("prune", "gallery.Photo")
    assert file.exists()


# --- the service ---


class BrokenService:
    """Gives what it is told to; only a service that is broken, or somebody else's, gives such things."""

    def __init__(self, row, variants, data=None, **metadata):
        self.metadata = {
            **Pending("gallery.Article", str(row.pk), "image", row.image.name).as_dict(),
            **metadata,
        }
        self.variants, self.data = variants, data

    def job(self, job_id):
        return Job.model_construct(job_id=job_id, image_id="i", status="completed", metadata=self.metadata)

    def result(self, job_id):
        del job_id
        described = {
            name: SimpleNamespace(**{"format": "jpeg", "width": 60, "height": 20, "size_bytes": 100, **given})
            for name, given in self.variants.items()
        }
        size = SimpleNamespace(width=320, height=240)
        metadata = SimpleNamespace(variants=described, original_dimensions=size, dominant_color="#aabbcc")
        return Result.model_construct(metadata=metadata)

    def download(self, image_id, name):
        del image_id
        return self.data or b"x" * min(self.variants[name].get("size_bytes", 100), 1000)


@pytest.fixture
def waiting(settings, upload, monkeypatch):
    settings.IMAGE_PROCESSOR = {
        "VARIANTS": "service",
        "SERVICE_URL": "http://127.0.0.1:9",
        "SERVICE_TOKEN": "t",
        "RETRY_SECONDS": [],
    }
    monkeypatch.setattr(queues, "QUEUES", dict.fromkeys(queues.QUEUES, lambda _: None))
    return Article.objects.create(image=upload())


def answered(monkeypatch, service):
    @contextmanager
    def chosen():
        yield service

    monkeypatch.setattr(remote, "service", chosen)


def jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (60, 20)).save(buffer, "JPEG")
    return buffer.getvalue()


@transactional
@pytest.mark.parametrize(
    "variants",
    [
        {},
        {"wide": {"format": "exe"}},
        {"wide": {"width": 0}},
        {"wide": {"width": 100_000}},
        {"wide": {"size_bytes": 10**12}},
        {"wide": {}},
        {"wide": {}, "../../escaped": {}},
        {"wide": {}, "a/b": {}},
        {f"v{number}": {} for number in range(1000)},
        {"wide": {"format": "svg"}},
    ],
    ids=lambda variants: str(variants)[:40],
)
def test_an_answer_that_makes_no_sense_is_a_failure_and_leaves_nothing(waiting, variants, files, monkeypatch):
    """Bytes that are no JPEG among them: a page that is stored as one would be served from the project."""
    before = files()
    data = None
    if variants in ({"wide": {}}, {"wide": {"format": "svg"}}):
        data = b'<svg xmlns="http://www.w3.org/2000/svg"><script>1</script></svg>'
        variants = {"wide": {**variants["wide"], "size_bytes": len(data)}}
    elif len(variants) > 1:
        data = jpeg()
        variants = {name: {"size_bytes": len(data)} for name in variants}
    answered(monkeypatch, BrokenService(waiting, variants, data))
    with pytest.raises(ImageProcessorError):
        remote.collect("j")
    assert files() == before
    assert now(waiting).image.state is State.PENDING


@transactional
@pytest.mark.parametrize("metadata", [{"using": "nowhere"}, {"pk": "x"}, {"model": "x"}, {"field": "title"}])
def test_a_job_that_is_for_no_row_of_ours_is_for_nobody(waiting, metadata, monkeypatch):
    answered(monkeypatch, BrokenService(waiting, {}, **metadata))
    assert remote.collect("j") is False


@transactional
def test_a_service_that_is_down_rests_although_uploads_are_looked_at(settings, upload, monkeypatch):
    settings.IMAGE_PROCESSOR = {
        "VARIANTS": "service",
        "SERVICE_URL": "http://127.0.0.1:9",
        "SERVICE_TOKEN": "t",
        "RETRY_SECONDS": [],
        "BREAKER_FAILURES": 2,
    }
    tried = []
    send = remote.ImageProcessorClient.upload
    monkeypatch.setattr(
        remote.ImageProcessorClient, "upload", lambda *a, **b: (tried.append(1), send(*a, **b))[1]
    )
    for _ in range(4):
        Photo.objects.create(picture=upload())
    assert len(tried) == 2


def test_celery_tries_again_after_a_database_that_was_away(monkeypatch):
    def away(_):
        raise OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(celery_tasks, "complete", away)
    monkeypatch.setattr(celery_tasks.complete_picture, "retry", lambda **_: Retry())
    with pytest.raises(Retry):
        celery_tasks.complete_picture(model="gallery.Article", pk="1", field="image", source="s")


@transactional
def test_an_order_with_a_key_of_another_kind_is_nobodys(db):
    assert completion.complete(Pending("gallery.Article", "no number", "image", "s")) is False


@pytest.mark.django_db
def test_prune_reads_a_table_of_another_schema(upload, files, media, monkeypatch):
    """Databases list the tables of the usual schema alone, and without its name."""
    schema = {"sqlite": "main", "postgresql": "public"}[connection.vendor]
    Article.objects.create(image=upload())
    before = files()
    make_old(media)
    monkeypatch.setattr(Article._meta, "db_table", f'{schema}"."gallery_article')
    monkeypatch.setattr(Article._meta, "managed", False)
    run("prune", "gallery.Article")
    assert files() == before


@transactional
def test_an_answer_that_makes_sense_is_taken(waiting, files, monkeypatch):
    answered(monkeypatch, BrokenService(waiting, {"wide": {"size_bytes": len(jpeg())}}, jpeg()))
    assert remote.collect("j")
    assert files() == [now(waiting).image.name]


@pytest.mark.django_db
def test_prune_takes_an_empty_database_for_the_wrong_one(media, files):
    orphan = media / "photos" / f"{'0' * 32}_original.webp"
    orphan.parent.mkdir()
    orphan.write_bytes(b"a picture of somebody")
    os.utime(orphan, (0, 0))
    with pytest.raises(CommandError, match="Is it the right database"):
        run("prune")
    assert orphan.exists()
    assert "1 removed" in run("prune", force=True)
