"""ImageField: what it stores, and what a row tells without asking anybody."""

import io
import json
from unittest.mock import ANY

import pytest
from asgiref.sync import async_to_sync
from django import forms
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.core.files.base import ContentFile, File
from django.core.management import call_command
from django.db import connection, models
from django.db.migrations.writer import MigrationWriter
from django.test.utils import CaptureQueriesContext

from contrib_django.gallery.models import Article, Pair, Photo, PortfolioPhoto, Profile, PublicPhoto
from image_processor.contrib.django import signals
from image_processor.contrib.django.details import ImageDetails, ImageDetailsField, State
from image_processor.contrib.django.fields import ImageField

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def article(upload) -> Article:
    return Article.objects.create(image=upload())


def reloaded(row: models.Model) -> models.Model:
    return type(row).objects.get(pk=row.pk)


def test_a_picture_is_stored_with_its_variants_under_fresh_names(user, upload, files):
    row = reloaded(Profile.objects.create(user=user, picture=upload()))

    assert row.picture.state is State.READY
    assert (row.picture.width, row.picture.height) == (320, 240)
    assert {name: (image.width, image.height) for name, image in row.picture.variants.items()} == {
        "original": (320, 240),
        "profile": (512, 512),
        "thumbnail": (128, 128),
    }
    assert row.picture.name == row.picture.variants["original"].name
    assert sorted(image.name for image in row.picture.variants.values()) == files()
    assert row.picture.url.startswith(f"/media/profile_pictures/{user.pk}/")
    assert "IMG" not in "".join(files())


def test_what_was_uploaded_is_kept_only_where_the_field_says_so(upload, files, media, photo_bytes):
    row = reloaded(Photo.objects.create(picture=upload()))

    (source,) = [name for name in files() if name not in {v.name for v in row.picture.variants.values()}]
    assert row.picture_details.source == source
    assert (media / source).read_bytes() == photo_bytes


def test_reading_takes_one_query_and_no_storage(article, no_room):
    with CaptureQueriesContext(
        connection,
    ) as queries:
        row = Article.objects.get()
        seen = (
            row.image.url,
            row.image.variants["wide"].url,
            row.image.width,
            row.image.color,
            row.image.state,
        )

    assert len(queries) == 1
    assert all(seen)


def test_a_row_that_plain_django_wrote_has_its_address_and_nothing_else(media):
    (media / "old.jpg").write_bytes(b"whatever it is")
    Article.objects.bulk_create([Article(image="old.jpg")])

    row = Article.objects.get()

    assert row.image.url == "/media/old.jpg"
    assert (row.image.state, row.image.width, dict(row.image.variants)) == (None, None, {})
    row.title = "saved again"
    row.save()
    assert reloaded(row).image.name == "old.jpg"


def test_the_default_of_a_field_is_not_removed_with_the_rows_that_had_it(media, upload, monkeypatch):
    field = Article._meta.get_field("image")
    (media / "nobody.jpg").write_bytes(b"a silhouette")
    monkeypatch.setattr(field, "default", "nobody.jpg")
    monkeypatch.setattr(field, "_get_default", lambda: "nobody.jpg")
    row = reloaded(Article.objects.create())
    assert row.image.name == "nobody.jpg"

    row.image = upload()
    row.save()

    assert (media / "nobody.jpg").exists()


def test_another_picture_takes_the_place_of_the_one_before(article, upload, files, make_photo):
    before = files()
    row = reloaded(article)

    row.image = upload(make_photo(color=(0, 0, 250)))
    row.save()

    assert set(files()).isdisjoint(before)
    assert files() == [reloaded(row).image.name]


@pytest.mark.parametrize("by", ["update_fields", "update_or_create", "field file", "save=False twice"])
def test_ways_to_replace_a_picture(article, upload, files, by):
    row = reloaded(article)
    if by == "update_fields":
        row.image = upload()
        row.save(update_fields=["image"])
    elif by == "update_or_create":
        Article.objects.update_or_create(pk=row.pk, defaults={"image": upload()})
    elif by == "field file":
        row.image.save("any name.jpg", upload())
    else:
        row.image.save("one.jpg", upload(), save=False)
        row.image.save("two.jpg", upload(), save=False)
        row.save()

    found = reloaded(row)
    assert files() == [found.image.name] != [article.image.name]
    assert found.image.state is State.READY


def test_update_or_create_of_a_child_writes_both_columns_of_its_parent(upload):
    child = PortfolioPhoto.objects.create(picture=upload(), caption="a")
    PortfolioPhoto.objects.update_or_create(pk=child.pk, defaults={"picture": upload()})

    assert reloaded(child).picture.state is State.READY
    assert reloaded(child).picture.name != child.picture.name


@pytest.mark.parametrize("nothing", [None, "", False])
def test_a_picture_that_is_taken_off_goes_with_its_details(article, files, nothing):
    row = reloaded(article)

    if nothing is False:  # as the clear box of a form has it
        Article._meta.get_field("image").save_form_data(row, nothing)
    else:
        row.image = nothing
    row.save()

    assert (bool(reloaded(row).image), reloaded(row).image_details, files()) == (False, None, [])


def test_delete_of_the_file_empties_the_row(article, files):
    reloaded(article).image.delete()

    assert (bool(reloaded(article).image), reloaded(article).image_details, files()) == (False, None, [])


def test_a_name_given_by_hand_drops_the_details_of_the_other_file(article, media, files):
    (media / "mine.jpg").write_bytes(b"by hand")
    row = reloaded(article)

    row.image = "mine.jpg"
    row.save()

    assert (reloaded(row).image.name, reloaded(row).image_details) == ("mine.jpg", None)
    assert files() == ["mine.jpg"]


def test_a_file_is_not_removed_for_having_the_name_of_an_upload(article, media, photo_bytes):
    (media / "victim.jpg").write_bytes(b"of somebody else")
    for row in (reloaded(article), Article()):
        row.image = File(io.BytesIO(photo_bytes), name="victim.jpg")
        row.save()
        row.image = ContentFile(photo_bytes, name="victim.jpg")
        row.save()
        row.delete()

    assert (media / "victim.jpg").read_bytes() == b"of somebody else"


class TestRowsThatAreGone:
    def test_files_go_with_the_row(self, article, files):
        article.delete()
        assert files() == []

    def test_a_queryset(self, article, upload, files):
        Article.objects.create(image=upload())
        Article.objects.all().delete()
        assert files() == []

    def test_a_row_whose_picture_was_not_loaded(self, article, files):
        Article.objects.only("title").get().delete()
        assert files() == []

    def test_a_cascade(self, article, upload, files):
        photo = Photo.objects.create(picture=upload())
        Article.objects.update(photo=photo)
        photo.delete()
        assert (files(), Article.objects.count()) == ([], 0)

    def test_a_stale_instance_takes_the_files_of_now(self, article, upload, files):
        stale = reloaded(article)
        article.image = upload()
        article.save()
        stale.delete()
        assert files() == []

    def test_a_child_tells_once_and_keeps_its_parents_files_if_those_stay(self, upload, files):
        told = []
        signals.picture_removed.connect(
            lambda **words: told.append(words["names"]), weak=False, dispatch_uid="t"
        )
        kept, gone = (PortfolioPhoto.objects.create(picture=upload()) for _ in range(2))
        gone.delete()
        before = files()
        kept.delete(keep_parents=True)
        signals.picture_removed.disconnect(dispatch_uid="t")

        assert len(told) == 1
        assert files() == before
        assert Photo.objects.get().picture.name in before

    def test_a_proxy(self, upload, files):
        PublicPhoto.objects.get(pk=Photo.objects.create(picture=upload()).pk).delete()
        assert files() == []


class TestCopies:
    """Two rows name the same files."""

    @pytest.fixture
    def copy(self, article) -> Article:
        row = reloaded(article)
        row.pk = None
        row.save()
        return row

    @pytest.mark.parametrize("what", ["delete", "replace", "clear"])
    def test_the_files_stay_for_the_other_row(self, article, copy, upload, files, what):
        before = files()
        if what == "delete":
            copy.delete()
        else:
            copy.image = upload() if what == "replace" else None
            copy.save()
        assert set(before) <= set(files())
        assert reloaded(article).image.state is State.READY

        reloaded(article).delete()
        assert set(before).isdisjoint(files())

    def test_the_other_column_of_a_row(self, upload, files):
        pair = Pair.objects.create(left=upload())
        pair.right = pair.left
        pair.save()
        pair.left = None
        pair.save()
        assert files() == [reloaded(pair).right.name]

    def test_removal_asks_once(self, article):
        row = reloaded(article)
        with CaptureQueriesContext(connection) as queries:
            row.delete()
        asked = [query["sql"] for query in queries if " IN (" in query["sql"] and "SELECT" in query["sql"]]
        assert len(asked) == 1


class TestFaults:
    def test_the_error_names_the_field(self, upload):
        row = Article(image=upload(b"no picture at all"))
        with pytest.raises(ValidationError) as clean:
            row.full_clean()
        with pytest.raises(ValidationError) as save:
            row.save()
        assert clean.value.message_dict == save.value.message_dict == {"image": [ANY]}
        assert Article.objects.count() == 0

    def test_a_form_names_a_picture_that_is_damaged_behind_its_header(self, photo_bytes, upload, files):
        form_class = forms.modelform_factory(Article, fields=["image"])
        form = form_class({}, {"image": upload(photo_bytes[: len(photo_bytes) // 2])})
        assert not form.is_valid()
        assert list(form.errors) == ["image"]
        assert files() == []

    def test_what_a_form_has_decoded_is_not_decoded_again(self, upload, monkeypatch):
        form = forms.modelform_factory(Article, fields=["image"])({}, {"image": upload()})
        assert form.is_valid()
        monkeypatch.setattr("image_processor.contrib.django.fields.prepare", None)
        assert form.save().image.state is State.READY

    def test_more_bytes_than_allowed_are_not_read(self, settings):
        settings.IMAGE_PROCESSOR = {"MAX_BYTES": 1000}

        class Endless(io.BytesIO):
            given = 0

            def read(self, size=-1):
                assert 0 <= size <= 1001
                Endless.given += size
                return b"x" * size

        with pytest.raises(ValidationError, match="larger"):
            Article(image=File(Endless(), name="x.jpg")).save()
        assert Endless.given == 1001

    def test_a_refused_picture_leaves_the_one_before(self, article, upload, files):
        before = files()
        row = reloaded(article)
        row.image = upload(b"no picture")
        with pytest.raises(ValidationError):
            row.save()
        assert files() == before == [reloaded(article).image.name]

    @pytest.mark.parametrize("way", ["bulk_update", "update"])
    def test_ways_that_would_store_a_name_without_a_file_are_refused(self, article, upload, way):
        row = reloaded(article)
        row.image = upload()
        store = {
            "bulk_update": lambda: Article.objects.bulk_update([row], ["image"]),
            "update": lambda: Article.objects.update(image=upload()),
        }[way]
        with pytest.raises(ValueError, match="save\\(\\)"):
            store()
        assert reloaded(article).image.name == article.image.name

    def test_a_field_without_details_says_so(self, upload, monkeypatch):
        monkeypatch.setattr(Article._meta.get_field("image"), "details_name", "title")
        with pytest.raises(ImproperlyConfigured, match="ImageDetailsField"):
            Article(image=upload()).save()

    def test_a_column_that_is_too_short_is_found_before_anything_is_stored(self, upload, files, monkeypatch):
        monkeypatch.setattr(Article._meta.get_field("image"), "max_length", 40)
        with pytest.raises(ImproperlyConfigured, match="max_length"):
            Article(image=upload()).save()
        assert files() == []


class TestDjangosWays:
    def test_bulk_create(self, upload, files):
        rows = Article.objects.bulk_create([Article(image=upload()), Article(image=upload())])
        assert all(row.image.state is State.READY for row in Article.objects.all())
        rows[0].image = upload()
        rows[0].save()
        assert len(files()) == 2

    def test_deferred_columns(self, article):
        for rows in (
            Article.objects.only("title"),
            Article.objects.only("image"),
            Article.objects.defer("image"),
        ):
            row = rows.get()
            row.title += "x"
            row.save()
        found = reloaded(article)
        assert found.image.state is State.READY
        assert found.title == "xxx"

    def test_a_row_that_keeps_its_picture_is_saved_by_one_statement(self, article):
        row = reloaded(article)
        row.title = "another"
        with CaptureQueriesContext(connection) as queries:
            row.save()
        assert len(queries) == 1

    def test_refresh_from_db(self, article, upload, files):
        stale = reloaded(article)
        article.image = upload()
        article.save()

        stale.refresh_from_db()
        stale.title = "later"
        stale.save()

        assert stale.image.variants["wide"].name == reloaded(article).image.name == article.image.name
        assert files() == [article.image.name]

    def test_fixtures(self, article, tmp_path, files):
        dump = tmp_path / "dump.json"
        call_command("dumpdata", "gallery.article", output=str(dump), verbosity=0)
        before, details = files(), article.image_details
        Article.objects.update(image="", image_details=None)

        call_command("loaddata", str(dump), verbosity=0)

        assert files() == before
        assert reloaded(article).image_details == details
        assert reloaded(article).image.state is State.READY
        assert isinstance(json.loads(dump.read_text())[0]["fields"]["image_details"], str)

    def test_proxies_children_and_abstract_bases(self, upload, files):
        proxy, child = PublicPhoto(picture=upload()), PortfolioPhoto(picture=upload(), caption="c")
        for row in (proxy, child):
            row.save()
            row.picture = upload()
            row.save()
        assert len(files()) == 2 * 5
        assert {row.picture.state for row in Photo.objects.all()} == {State.READY}

    def test_two_pictures_in_one_row(self, upload, files, make_photo):
        pair = Pair.objects.create(left=upload(), right=upload(make_photo(100, 400)))
        before = reloaded(pair)
        pair.left = upload()
        pair.save()
        after = reloaded(pair)
        assert after.right.name == before.right.name
        assert after.left.name != before.left.name
        assert len(files()) == 2
        assert after.right.height == 400

    def test_migrations_keep_what_concerns_the_column(self):
        for field in (Photo._meta.get_field("picture"), Photo._meta.get_field("picture_details")):
            text, imports = MigrationWriter.serialize(field)
            scope = {}
            exec("\n".join(imports), scope)
            again = eval(text, scope)
            assert again.deconstruct()[1:] == field.deconstruct()[1:]
        assert "'web'" not in MigrationWriter.serialize(Photo._meta.get_field("picture"))[0]
        assert ImageField(max_length=100).deconstruct()[3]["max_length"] == 100
        assert "max_length" not in ImageField().deconstruct()[3]

    def test_memory_storage(self, memory_media, upload):
        row = Article.objects.create(image=upload())
        assert reloaded(row).image.open().read()[:2] == b"\xff\xd8"
        name, storage = row.image.name, row.image.storage
        row.delete()
        assert not storage.exists(name)

    def test_asave(self, upload):
        async def save_and_find() -> Article:
            row = Article(image=upload())
            await row.asave()
            return await Article.objects.aget(pk=row.pk)

        assert async_to_sync(save_and_find)().image.state is State.READY


@pytest.mark.parametrize("text", ["no json", '{"version": "x"}', '{"width": -1}', "[]"])
def test_details_that_cannot_be_read_count_as_none(article, text):
    with connection.cursor() as cursor:
        cursor.execute("update gallery_article set image_details = %s", [text])
    assert reloaded(article).image.variants == {}
    assert reloaded(article).image.url
    with pytest.raises(ValidationError):
        ImageDetailsField().to_python(text)


def test_details_come_back_as_they_went():
    details = ImageDetails(width=3, height=2, color="#aabbcc")
    field = ImageDetailsField()
    assert field.to_python(field.get_prep_value(details)) == details
    assert field.get_prep_value(None) is None
