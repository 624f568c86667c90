"""Pictures whose variants are made later: the row is whole at any time, whatever happens in between."""

import threading
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from django.db import connection, transaction
from django.db.models.signals import post_save, pre_save

from contrib_django.gallery.models import Article, Photo, Profile
from image_processor.contrib.django import queues, signals
from image_processor.contrib.django.completion import Waiting, complete
from image_processor.contrib.django.details import State
from image_processor.contrib.django.fields import ImageField
from image_processor.contrib.django.queues import Pending
from image_processor.errors import StorageError

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def orders(settings, monkeypatch) -> list[Pending]:
    """What was ordered; nobody makes it but the test."""
    settings.IMAGE_PROCESSOR = {"VARIANTS": "tasks", "RETRY_SECONDS": []}
    ordered: list[Pending] = []
    monkeypatch.setattr(queues, "QUEUES", dict.fromkeys(queues.QUEUES, ordered.append))
    return ordered


@pytest.fixture
def article(orders, upload) -> Article:
    return Article.objects.create(image=upload())


@pytest.fixture
def heard():
    """Which signals were sent."""
    names: list[str] = []
    chosen = {"ready": signals.picture_ready, "failed": signals.picture_failed}
    for name, signal in chosen.items():
        signal.connect(lambda name=name, **_: names.append(name), weak=False, dispatch_uid=f"heard-{name}")
    yield names
    for name, signal in chosen.items():
        signal.disconnect(dispatch_uid=f"heard-{name}")


def now(row):
    return type(row).objects.get(pk=row.pk)


def test_until_then_the_row_tells_what_can_be_shown(article, orders, files):
    row = now(article)

    assert row.image.state is State.PENDING
    assert (row.image.width, row.image.height) == (320, 240)
    assert row.image.color
    assert row.image.thumbhash
    assert dict(row.image.variants) == {}
    assert files() == [row.image.name]
    assert orders == [Pending("gallery.Article", str(row.pk), "image", row.image.name)]
    assert all(isinstance(word, str) for word in orders[0].as_dict().values())


def test_the_variants_take_the_place_of_the_upload(article, orders, files, heard):
    assert complete(orders[0])

    row = now(article)
    assert row.image.state is State.READY
    assert files() == [row.image.name] == [row.image.variants["wide"].name]
    assert heard == ["ready"]


def test_a_source_that_is_kept_is_kept(orders, upload, files, media, photo_bytes):
    photo = Photo.objects.create(picture=upload())
    complete(orders[0])

    row = now(photo)
    assert (media / row.picture_details.source).read_bytes() == photo_bytes
    assert files() == sorted(row.picture_details.names)


class TestHarmless:
    def test_twice(self, article, orders, files):
        complete(orders[0])
        before = files()
        assert not complete(orders[0])
        assert files() == before

    def test_after_the_row_is_deleted(self, article, orders, files):
        article.delete()
        assert not complete(orders[0])
        assert files() == []

    def test_deleted_while_it_is_made(self, article, orders, files):
        waiting = Waiting.find(orders[0])
        with article.image.open() as source:
            stored = article._meta.get_field("image").produce(article, source)
        now(article).delete()
        assert not waiting.swap(stored)
        assert files() == []

    def test_replaced(self, article, orders, upload, files):
        article.image = upload()
        article.save()
        assert not complete(orders[0])
        assert complete(orders[1])
        assert files() == [now(article).image.name]

    @pytest.mark.parametrize("change", [{"model": "gallery.Gone"}, {"field": "gone"}, {"field": "title"}])
    def test_an_order_of_another_version_of_the_project(self, article, orders, change):
        assert not complete(Pending(**{**orders[0].as_dict(), **change}))

    def test_a_stale_row_does_not_bring_the_upload_back(self, article, orders):
        stale = now(article)
        complete(orders[0])

        for row in (stale, article):
            row.title = "saved later"
            row.save()

        assert now(article).image.state is State.READY
        assert now(article).title == "saved later"

    def test_a_stale_row_that_gets_another_picture_leaves_nothing_behind(
        self, article, orders, upload, files
    ):
        stale = now(article)
        complete(orders[0])
        stale.image = upload()
        stale.save()
        assert files() == [now(article).image.name]

    def test_copies_of_a_row_that_waits(self, article, orders, files):
        copy = now(article)
        copy.pk = None
        copy.save()
        assert complete(orders[0])
        assert now(copy).image.state is State.PENDING
        assert copy.image.name in files()

        assert complete(Pending(**{**orders[0].as_dict(), "pk": str(copy.pk)}))

        assert files() == sorted([now(article).image.name, now(copy).image.name])


class TestFaults:
    def test_the_pictures_own_fault_is_told_in_the_row(self, article, orders, media, heard):
        (media / article.image.name).write_bytes(b"damaged meanwhile")
        assert not complete(orders[0])
        row = now(article)
        assert row.image.state is State.FAILED
        assert row.image.details.error.endswith(".")
        assert heard == ["failed"]

    def test_an_upload_that_is_gone(self, article, orders, media):
        (media / article.image.name).unlink()
        complete(orders[0])
        assert now(article).image.details.error == "The upload is gone."

    def test_ours_leaves_it_waiting(self, article, orders, no_room):
        with pytest.raises(StorageError):
            complete(orders[0])
        assert now(article).image.state is State.PENDING

    def test_a_queue_that_is_down_is_no_reason_to_fail(self, orders, upload, monkeypatch, caplog):
        def down(_):
            raise ConnectionError("nobody listens")

        monkeypatch.setattr(queues, "QUEUES", dict.fromkeys(queues.QUEUES, down))
        row = Article.objects.create(image=upload())
        assert now(row).image.state is State.PENDING
        assert "nobody listens" in caplog.text


@transaction.atomic
def save_and_fail(row) -> None:
    row.save()
    raise RuntimeError


class TestTransactions:
    def test_nothing_is_ordered_or_removed_by_what_is_rolled_back(self, article, orders, upload, files):
        before = files()
        article.image = upload()
        with pytest.raises(RuntimeError):
            save_and_fail(article)
        assert len(orders) == 1
        assert set(before) <= set(files())
        assert now(article).image.name in before

    def test_what_is_tried_again_after_a_rollback_is_whole(self, article, orders, upload, files):
        article.image = upload()
        with pytest.raises(RuntimeError):
            save_and_fail(article)
        article.save()
        assert [order.source for order in orders[1:]] == [now(article).image.name]
        assert files() == [now(article).image.name]

    def test_a_savepoint_that_is_rolled_back(self, article, orders, upload, files):
        before = files()
        with transaction.atomic():
            article.image = upload()
            with pytest.raises(RuntimeError):
                save_and_fail(article)
            Article.objects.update(title="goes on")
        assert len(orders) == 1
        assert set(before) <= set(files())
        assert now(article).image.name in before

    def test_the_key_is_that_of_the_row_that_was_saved(self, orders, upload):
        with transaction.atomic():
            row = Article.objects.create(image=upload())
            key, row.pk = row.pk, None
        assert orders[0].pk == str(key)

    def test_bulk_create_orders_too(self, orders, upload):
        rows = Article.objects.bulk_create([Article(image=upload()) for _ in range(2)])
        assert [order.pk for order in orders] == [str(row.pk) for row in rows]
        assert [complete(order) for order in orders] == [True, True]

    def test_bulk_create_that_is_rolled_back_orders_nothing(self, orders, upload):
        with transaction.atomic():
            Article.objects.bulk_create([Article(image=upload())])
            assert orders == []
            transaction.set_rollback(True)
        assert orders == []

    def test_bulk_create_that_ignores_conflicts_orders_what_is_stored(self, orders, upload, user):
        Profile.objects.create(user=user, name="has the place")
        other = type(user).objects.create_user("grace")
        rows = [Profile(user=owner, picture=upload()) for owner in (user, other)]
        with transaction.atomic():
            Profile.objects.bulk_create(rows, ignore_conflicts=True)
        assert [order.pk for order in orders] == [str(Profile.objects.get(user=other).pk)]
        assert complete(orders[0])

    def test_a_receiver_that_gives_the_picture(self, orders, upload, files):
        def give(instance, **_):
            instance.image = upload()

        pre_save.connect(give, sender=Article, dispatch_uid="give", weak=False)
        try:
            row = Article.objects.create()
        finally:
            pre_save.disconnect(sender=Article, dispatch_uid="give")

        assert [order.source for order in orders] == files() == [now(row).image.name]

    @pytest.mark.parametrize("gives", [False, True])
    def test_a_receiver_that_saves_again(self, article, orders, upload, files, gives):
        def save_again(instance, **_):
            if instance.title != "again":
                instance.title = "again"
                if gives:
                    instance.image = upload()
                instance.save(update_fields=["title", "image"])

        post_save.connect(save_again, sender=Article, dispatch_uid="again", weak=False)
        row = now(article)
        row.image = upload()
        try:
            row.save()
        finally:
            post_save.disconnect(sender=Article, dispatch_uid="again")

        assert files() == [now(article).image.name] == [orders[-1].source]
        assert [complete(order) for order in orders][-1]
        assert len(orders) == 2


def in_threads(*calls: Callable[[], object]) -> list[object]:
    """What the calls gave or raised, all begun at once."""
    barrier, given = threading.Barrier(len(calls)), [None] * len(calls)

    def run(number: int) -> None:
        try:
            barrier.wait(20)
            given[number] = calls[number]()
        except Exception as error:  # noqa: BLE001 - the test looks at it
            given[number] = error
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return given


class TestRaces:
    @pytest.fixture(autouse=True)
    def database(self, each_database):
        return each_database

    def test_two_workers_with_one_picture(self, article, orders, files):
        given = in_threads(*[lambda: complete(orders[0])] * 3)
        assert sorted(given) == [False, False, True]
        assert files() == [now(article).image.name]

    def test_replacements_at_once_leave_one_picture(self, article, orders, upload, files):
        def replace() -> None:
            row = now(article)
            row.image = upload()
            row.save()

        assert in_threads(*[replace] * 4) == [None] * 4
        assert files() == [now(article).image.name]

    def test_a_replacement_while_the_variants_are_made(self, article, orders, upload, files, monkeypatch):
        begun, replaced = threading.Event(), threading.Event()
        swap = Waiting.swap

        def slow(self, stored):
            begun.set()
            assert replaced.wait(20)
            return swap(self, stored)

        monkeypatch.setattr(Waiting, "swap", slow)

        def replace() -> None:
            assert begun.wait(20)
            row = now(article)
            row.image = upload()
            row.save()
            replaced.set()

        assert in_threads(lambda: complete(orders[0]), replace) == [False, None]
        assert files() == [now(article).image.name]

    def test_a_deletion_while_another_picture_is_saved(self, article, orders, upload, files):
        row = now(article)
        row.image = upload()
        given = in_threads(row.save, now(article).delete)
        assert not any(isinstance(each, Exception) for each in given), given
        left = Article.objects.first()  # saving after the deletion makes the row anew, as Django does
        assert files() == ([left.image.name] if left else [])

    def test_readers_never_see_half_of_it(self, article, orders, upload, media):
        done = threading.Event()

        def write() -> None:
            try:
                for _ in range(5):
                    row = now(article)
                    row.image = upload()
                    row.save(update_fields=["image"])
                    complete(orders[-1])
            finally:
                done.set()

        def read() -> int:
            reads = 0
            while not done.is_set():
                row = now(article)
                assert row.image.details is not None
                assert row.image.state is State.PENDING or row.image.variants["wide"].name == row.image.name
                reads += 1
            return reads

        given = in_threads(write, read)
        assert given[0] is None, given
        assert given[1] > 0


def test_uploads_are_stored_before_the_transaction_begins(article, upload, monkeypatch):
    seen = SimpleNamespace(in_transaction=None)
    produce = ImageField.produce

    def watched(self, instance, content):
        seen.in_transaction = connection.in_atomic_block
        return produce(self, instance, content)

    monkeypatch.setattr(ImageField, "produce", watched)
    article.image = upload()
    article.save()
    assert seen.in_transaction is False


def test_a_profile_has_the_folder_of_its_user(orders, user, upload):
    profile = Profile.objects.create(user=user, picture=upload())
    complete(orders[0])
    assert all(name.startswith(f"profile_pictures/{user.pk}/") for name in now(profile).picture_details.names)
