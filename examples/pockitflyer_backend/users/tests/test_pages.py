"""The page of a person's picture, through Django's own client."""

import runpy
from importlib.util import find_spec

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse

from users.models import Profile

pytestmark = [pytest.mark.tdd_green, pytest.mark.django_db(transaction=True)]


def send(client, data: bytes):
    return client.post(reverse("profile"), {"picture": SimpleUploadedFile("me.heic", data)}, follow=True)


def test_strangers_are_asked_to_log_in(client):
    assert client.get("/").url == "/accounts/login/?next=/"


def test_who_signs_up_sees_the_own_page_at_once(client):
    words = {"username": "grace", "password1": "nanoseconds of wire", "password2": "nanoseconds of wire"}

    page = client.post(reverse("signup"), words, follow=True)

    assert "<h1>grace</h1>" in page.text


def test_a_picture_is_uploaded_seen_and_replaced(client, ada, picture, media, stored):
    client.force_login(ada)

    send(client, picture("HEIF"))
    page = send(client, picture("PNG"))

    profile = Profile.objects.get(user=ada)
    assert "This is your new picture." in page.text
    assert profile.picture.variants["resized"].url in page.text
    assert stored() == sorted(media / name for name in profile.picture_details.names)
    assert len(stored()) == 3


def test_a_file_that_is_no_picture_leaves_the_former_one(client, ada, picture, stored):
    client.force_login(ada)
    send(client, picture())
    before = stored()

    page = send(client, b"%PDF-1.7")

    assert page.status_code == 400
    assert "This is no picture of a kind that is accepted" in page.text
    assert stored() == before


def test_a_picture_is_removed_with_its_files(client, ada, picture, stored):
    client.force_login(ada)
    send(client, picture())

    page = client.post(reverse("remove-picture"), follow=True)

    assert "Upload the picture" in page.text
    assert stored() == []


def test_a_form_of_another_site_is_refused(ada, picture):
    client = Client(enforce_csrf_checks=True)
    client.force_login(ada)

    assert send(client, picture()).status_code == 403


def test_the_admin_shows_the_thumbnails_and_takes_a_picture(admin_client, ada, picture, stored):
    profile = Profile.objects.create(user=ada)
    form = reverse("admin:users_profile_change", args=[profile.pk])

    answer = admin_client.post(form, {"user": ada.pk, "picture": SimpleUploadedFile("a.png", picture("PNG"))})

    profile.refresh_from_db()
    assert answer.status_code == 302
    assert (
        profile.picture.variants["thumbnail"].url
        in admin_client.get(reverse("admin:users_profile_changelist")).text
    )
    assert len(stored()) == 3


def test_a_person_who_goes_takes_the_files_along(client, ada, picture, stored):
    client.force_login(ada)
    send(client, picture())

    ada.delete()

    assert stored() == []


def test_whatever_is_not_debug_is_for_the_public(monkeypatch):
    """DEBUG=false is meant so; and then the key that everybody knows is refused."""
    path = find_spec("pockitflyer_backend.settings").origin
    monkeypatch.setenv("DEBUG", "false")
    monkeypatch.delenv("SECRET_KEY", raising=False)
    with pytest.raises(ImproperlyConfigured, match="SECRET_KEY"):
        runpy.run_path(path)
