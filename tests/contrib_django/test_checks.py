"""System checks: each says what is wrong, and none says so of a project that is right."""

import sys

import pytest
from django.apps import apps
from django.core.checks import run_checks
from django.db import models
from django.test.utils import isolate_apps

from contrib_django.gallery.models import BANNER
from image_processor.contrib.django import checks
from image_processor.contrib.django.details import ImageDetailsField
from image_processor.contrib.django.fields import ImageField

SERVICE = {"VARIANTS": "service", "SERVICE_URL": "http://127.0.0.1:1", "SERVICE_TOKEN": "x"}


def found(**options) -> dict[str, str]:
    """The hints of our checks for the whole project, by their ids."""
    ours = [each for each in run_checks(**options) if str(each.id).startswith("image_processor.")]
    return {each.id.partition(".")[2]: each.hint for each in ours}


def faults_of(field: ImageField, **others) -> dict[str, str]:
    """The same for one field `picture` of a model of its own."""
    fields = {
        "picture": field,
        **others,
        "__module__": __name__,
        "Meta": type("Meta", (), {"app_label": "gallery"}),
    }
    with isolate_apps("contrib_django.gallery", "image_processor.contrib.django"):
        model = type("Checked", (models.Model,), fields)
        return {each.id.partition(".")[2]: each.hint for each in model._meta.get_field("picture").check()}


def test_a_project_that_is_right_hears_nothing():
    assert found() == {}


def test_a_field_that_is_right_hears_nothing():
    field = ImageField(upload_to="pictures", variants=BANNER, details="picture_details")
    assert faults_of(field, picture_details=ImageDetailsField()) == {}


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"VARIANTS": "somewhere"}, "variants"),
        ({"Variants": "request"}, "capitals"),
        ({"NO_SUCH": 1}, "no_such"),
        ([], "dictionary"),
        ({"VARIANTS": "service"}, "SERVICE_URL"),
    ],
)
def test_the_setting_is_read(settings, given, sentence):
    settings.IMAGE_PROCESSOR = given
    wrong = found()
    assert list(wrong) == ["E001"]
    assert sentence in wrong["E001"]


def test_details_are_named_present_of_their_kind_and_the_fields_own():
    column = ImageDetailsField()
    assert "details='picture_details'" in faults_of(ImageField(upload_to="p"), picture_details=column)["E002"]
    assert (
        "picture_details = ImageDetailsField()"
        in faults_of(ImageField(upload_to="p", details="picture_details"))["E002"]
    )
    other = faults_of(ImageField(upload_to="p", details="text"), text=models.TextField())
    assert list(other) == ["E003"]
    shared = faults_of(
        ImageField(upload_to="p", details="both"),
        second=ImageField(upload_to="p", details="both"),
        both=ImageDetailsField(),
    )
    assert "'second' names 'both' too" in shared["E004"]


def test_details_stand_in_no_form():
    field = ImageField(upload_to="p", details="picture_details")
    assert "W006" in faults_of(field, picture_details=ImageDetailsField(editable=True))
    assert "W006" in faults_of(field, picture_details=ImageDetailsField(null=False))


def test_presets_are_known_and_presets_of_the_project_readable(settings, tmp_path):
    column = {"picture_details": ImageDetailsField()}
    unknown = ImageField(upload_to="p", variants="portrait", details="picture_details")
    assert "There is no preset 'portrait'" in faults_of(unknown, **column)["E005"]
    wrong = ImageField(upload_to="p", variants=7, details="picture_details")
    assert "E005" in faults_of(wrong, picture_details=ImageDetailsField())
    settings.IMAGE_PROCESSOR = {"PRESETS": str(tmp_path / "none.toml")}
    assert "cannot be read" in found()["E006"]
    assert "E005" not in found()


def test_the_column_has_room_for_the_names():
    field = ImageField(upload_to="p" * 60, details="picture_details", max_length=100)
    assert "max_length is 100" in faults_of(field, picture_details=ImageDetailsField())["E012"]


def test_pictures_have_a_folder():
    field = ImageField(details="picture_details")
    assert "upload_to" in faults_of(field, picture_details=ImageDetailsField())["W004"]


def test_the_app_is_installed():
    field = apps.get_model("gallery.Photo")._meta.get_field("picture")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(apps, "is_installed", lambda _: False)
        assert "E008" in {each.id.partition(".")[2] for each in field.check()}


def test_the_breaker_has_a_cache_that_all_processes_share(settings, tmp_path):
    settings.IMAGE_PROCESSOR = {"BREAKER_CACHE": "shared"}
    assert "'default'" in found()["E007"]
    settings.IMAGE_PROCESSOR = {}
    assert "LocMemCache" in found(include_deployment_checks=True)["W001"]
    assert "W001" not in found()
    settings.CACHES = {
        "default": {
            "BACKEND": "django.core.cache.backends.filebased.FileBasedCache",
            "LOCATION": str(tmp_path),
        }
    }
    assert found(include_deployment_checks=True) == {}


def test_uploads_far_larger_than_pictures_are_not_taken_into_memory(settings):
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = None
    assert "DATA_UPLOAD_MAX_MEMORY_SIZE has no bound" in found(include_deployment_checks=True)["W005"]
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1
    settings.FILE_UPLOAD_MAX_MEMORY_SIZE = 1024**3
    assert "1024 MB" in found(include_deployment_checks=True)["W005"]


def test_tasks_need_workers(settings):
    settings.IMAGE_PROCESSOR = {"VARIANTS": "tasks"}
    assert "ImmediateBackend" in found()["W002"]
    settings.TASKS = {"default": {"BACKEND": "somebodys.queue.DatabaseBackend"}}
    assert found_of_project() == {}


@pytest.mark.parametrize(
    ("given", "number"),
    [({"VARIANTS": "celery"}, "E010"), (SERVICE, "E011"), ({"VARIANTS": "tasks"}, "E009")],
)
def test_what_a_queue_needs_is_installed(settings, monkeypatch, given, number):
    settings.IMAGE_PROCESSOR = given
    assert number not in found()
    for name in ("celery", "httpx", "django_tasks", "django.tasks"):
        monkeypatch.setitem(sys.modules, name, None)
    assert "pip install" in found_of_project()[number]


def test_the_service_needs_a_webhook_or_somebody_who_looks(settings):
    settings.IMAGE_PROCESSOR = SERVICE
    assert "SERVICE_WEBHOOK_SECRET" in found()["W003"]
    assert "BASE_URL" in found()["W003"]
    assert "E013" in found()  # the gallery has presets without a name
    assert "include" not in found()["W003"]
    settings.IMAGE_PROCESSOR = {
        **SERVICE,
        "BASE_URL": "https://example.org",
        "SERVICE_WEBHOOK_SECRET": "whsec_" + "YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFh",
    }
    assert "W003" not in found()
    settings.ROOT_URLCONF = "contrib_django.gallery.apps"  # a module without addresses
    assert "include image_processor.contrib.django.urls" in found_of_project()["W003"]


def found_of_project() -> dict[str, str]:
    """Without Django's own checks, which need addresses and what the setting TASKS names."""
    return {each.id.partition(".")[2]: each.hint for each in checks.check_project()}
