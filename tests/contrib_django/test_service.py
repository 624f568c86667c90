"""Variants made by a running service: ordered after the commit, fetched when it calls back, or without."""

import base64
import json
import time

import pytest
from django.urls import reverse

from contrib_django.gallery.models import Article, Photo, Profile
from image_processor.contrib.django import queues
from image_processor.contrib.django.details import State
from image_processor.contrib.django.queues import Pending
from image_processor.contrib.django.remote import collect
from image_processor.errors import ConfigurationError, ImageProcessorError
from image_processor.webhooks import read_secret, sign
from running_service import Service

pytestmark = pytest.mark.django_db(transaction=True)
SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
WAIT_SECONDS = 60


def now(row):
    return type(row).objects.get(pk=row.pk)


def waits(row) -> Pending:
    return Pending(row._meta.label, str(row.pk), "picture", row.picture.name)


class TestWebhook:
    """What a stranger may send."""

    @pytest.fixture(autouse=True)
    def project(self, settings):
        settings.IMAGE_PROCESSOR = {
            "VARIANTS": "service",
            "SERVICE_URL": "http://127.0.0.1:9",
            "SERVICE_TOKEN": "t",
            "SERVICE_WEBHOOK_SECRET": SECRET,
            "RETRY_SECONDS": [],
        }

    def send(self, client, body: bytes, at: int | None = None, **headers: str):
        at = at or int(time.time())
        signed = {
            "webhook-id": "e1",
            "webhook-timestamp": str(at),
            "webhook-signature": sign(read_secret(SECRET), "e1", at, body),
        }
        return client.post(
            reverse("image_processor:webhook"),
            body,
            content_type="application/json",
            headers={**signed, **headers},
        )

    EVENT = json.dumps({"type": "job.completed", "data": {"job_id": "1"}}).encode()

    @pytest.mark.parametrize(
        ("headers", "at"),
        [
            ({"webhook-signature": "v1,AAAA"}, None),
            ({"webhook-id": "another"}, None),
            ({"webhook-timestamp": "soon"}, None),
            ({"webhook-signature": ""}, None),
            ({}, 1_000_000_000),
        ],
    )
    def test_what_is_not_signed_now_with_our_secret(self, client, headers, at):
        assert self.send(client, self.EVENT, at, **headers).status_code == 401

    @pytest.mark.parametrize(
        "body",
        [b"", b"{", b"[]", b"null", b'{"data": 1}', b'{"data": {"job_id": 1}}', b"[" * 60_000, b"\xff"],
    )
    def test_a_signed_body_that_is_no_event(self, client, body):
        assert self.send(client, body).status_code == 400

    def test_a_body_without_end_is_not_read(self, client):
        assert self.send(client, b"x" * 65_537).status_code == 413

    def test_only_posts(self, client):
        assert client.get(reverse("image_processor:webhook")).status_code == 405

    def test_a_service_that_is_down_is_asked_to_come_again(self, client):
        answer = self.send(client, self.EVENT)
        assert (answer.status_code, answer["Retry-After"]) == (503, "30")
        assert b"127.0.0.1" not in answer.content

    def test_without_a_secret_there_is_no_webhook(self, client, settings):
        settings.IMAGE_PROCESSOR = {}
        assert self.send(client, self.EVENT).status_code == 404


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    """One for all tests of this file."""
    folder = tmp_path_factory.mktemp("service")
    running = Service(folder, {"WEBHOOK_SECRET": SECRET, "PRIVATE_NETWORKS": '["127.0.0.0/8"]'})
    running.start()
    yield running
    running.stop()


@pytest.fixture
def project(service, settings) -> Service:
    """A project whose pictures that service makes, without a way back."""
    settings.IMAGE_PROCESSOR = {
        "VARIANTS": "service",
        "SERVICE_URL": service.url,
        "SERVICE_TOKEN": service.token,
        "SERVICE_WEBHOOK_SECRET": SECRET,
        "RETRY_SECONDS": [],
    }
    return service


@pytest.mark.slow
def test_the_service_calls_back(  # noqa: PLR0917 - fixtures
    project, live_server, settings, upload, files, media, photo_bytes
):
    settings.IMAGE_PROCESSOR = {**settings.IMAGE_PROCESSOR, "BASE_URL": live_server.url}

    photo = Photo.objects.create(picture=upload())

    project.wait_for(lambda: now(photo).picture.state is State.READY, "the callback", WAIT_SECONDS)
    row = now(photo)
    assert list(row.picture.variants) == ["thumbnail", "medium", "large", "original"]
    assert row.picture.variants["thumbnail"].width == 150
    assert row.picture.thumbhash
    assert (media / row.picture_details.source).read_bytes() == photo_bytes
    project.wait_for(lambda: files() == sorted(row.picture_details.names), "the upload to go")
    with project.client() as client:
        job = client.get("/api/v1/images").json()["images"][0]["job_id"]
    assert not collect(job)  # the same event again
    assert files() == sorted(row.picture_details.names)


@pytest.mark.slow
def test_without_a_way_back_they_are_fetched(  # noqa: PLR0917 - fixtures
    project, settings, user, upload, files, monkeypatch
):
    profile = Profile.objects.create(user=user, picture=upload())
    job = now(profile).picture_details.job
    assert job

    project.wait_for(lambda: queues.finish(waits(profile)), "the variants", WAIT_SECONDS)
    assert list(now(profile).picture.variants) == ["original", "profile", "thumbnail"]
    assert files() == sorted(now(profile).picture_details.names)

    # an order that was lost with the service's database is made again; one that was never made, too
    for lost in ("5f0c3c3e-8f4e-4d8e-9d0a-2f9f8f3b7c11", None):
        monkeypatch.setattr(queues, "QUEUES", dict.fromkeys(queues.QUEUES, lambda _: None))
        profile.refresh_from_db()
        profile.picture = upload()
        profile.save()
        details = now(profile).picture_details.model_copy(update={"job": lost})
        Profile.objects.update(picture_details=details)
        assert not queues.finish(waits(profile))
        assert now(profile).picture_details.job not in {None, lost, job}
        project.wait_for(lambda: queues.finish(waits(profile)), "the variants", WAIT_SECONDS)

    assert now(profile).picture.state is State.READY
    with pytest.raises(ConfigurationError, match="no name"):  # a preset that the service cannot know
        queues.finish(
            Pending("gallery.Article", str(article(upload).pk), "image", Article.objects.get().image.name)
        )
    settings.IMAGE_PROCESSOR = {**settings.IMAGE_PROCESSOR, "SERVICE_TOKEN": "wrong"}
    profile.refresh_from_db()
    profile.picture = upload()
    profile.save()
    with pytest.raises(ImageProcessorError):
        queues.finish(waits(profile))
    assert now(profile).picture.state is State.PENDING


def article(upload) -> Article:
    return Article.objects.create(image=upload())
