"""Where variants are made: django.tasks with its own backends, Celery with a real server and worker."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import django
import pytest
from django.db import connection

from contrib_django.gallery.models import Article, Profile
from image_processor.contrib.django import queues
from image_processor.contrib.django.details import State
from image_processor.contrib.django.queues import Pending

pytestmark = pytest.mark.django_db(transaction=True)
TASKS = "django.tasks" if django.VERSION >= (6, 0) else "django_tasks"
WAIT_SECONDS = 60


def now(row):
    return type(row).objects.get(pk=row.pk)


class TestTasks:
    @pytest.fixture(params=["immediate.ImmediateBackend", "dummy.DummyBackend"])
    def backend(self, request, settings):
        settings.IMAGE_PROCESSOR = {"VARIANTS": "tasks"}
        settings.TASKS = {"default": {"BACKEND": f"{TASKS}.backends.{request.param}"}}
        return request.param.partition(".")[0]

    def test_variants_are_made_where_the_backend_makes_them(self, backend, upload, files):
        from image_processor.contrib.django.django_tasks import complete_picture  # noqa: PLC0415

        row = Article.objects.create(image=upload())

        chosen = complete_picture.get_backend()
        if backend == "dummy":
            assert now(row).image.state is State.PENDING
            (result,) = chosen.results
            assert result.kwargs["source"] == row.image.name
            assert complete_picture.call(**result.kwargs)
            chosen.clear()
        assert now(row).image.state is State.READY
        assert files() == [now(row).image.name]

    def test_a_row_in_memory_saved_again_keeps_what_the_worker_made(self, upload, settings):
        settings.IMAGE_PROCESSOR = {"VARIANTS": "tasks"}
        row = Article.objects.create(image=upload())
        row.title = "and a title"
        row.save()
        assert now(row).image.state is State.READY


@pytest.mark.parametrize("where", ["request", "tasks", "celery"])
def test_finish_makes_it_here_and_now(where, settings, upload, monkeypatch):
    settings.IMAGE_PROCESSOR = {"VARIANTS": "tasks"}
    monkeypatch.setattr(queues, "QUEUES", dict.fromkeys(queues.QUEUES, lambda _: None))
    row = Article.objects.create(image=upload())
    settings.IMAGE_PROCESSOR = {"VARIANTS": where}
    assert queues.finish(Pending("gallery.Article", str(row.pk), "image", row.image.name))
    assert now(row).image.state is State.READY


@pytest.mark.slow
class TestCelery:
    @pytest.fixture
    def app(self, redis_url, settings, monkeypatch):
        from contrib_django.celery_app import app  # noqa: PLC0415 - an extra

        settings.IMAGE_PROCESSOR = {"VARIANTS": "celery"}
        app.conf.broker_url = redis_url
        app.set_current()
        app.set_default()
        yield app
        app.close()
        app.pool.force_close_all()

    @pytest.fixture
    def start_worker(self, app, redis_url, media, tmp_path):
        started = []

        def start() -> subprocess.Popen:
            database = {**connection.settings_dict, "NAME": str(connection.settings_dict["NAME"])}
            environment = {
                **os.environ,
                "PYTHONPATH": str(Path(__file__).parents[1]),
                "GALLERY_BROKER": redis_url,
                "GALLERY_MEDIA": str(media),
                "GALLERY_DATABASE": json.dumps(database),
                "GALLERY_IMAGE_PROCESSOR": '{"VARIANTS": "celery"}',
            }
            with (tmp_path / "worker.log").open("ab") as log:
                worker = subprocess.Popen(
                    [sys.executable, "-m", "celery", "-A", "contrib_django.celery_app", "worker", "-c", "1"],
                    env=environment,
                    cwd=tmp_path,
                    stdout=log,
                    stderr=log,
                )
            started.append(worker)
            return worker

        yield start
        for worker in started:
            worker.send_signal(signal.SIGTERM)
            try:
                worker.wait(20)
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()

    def test_a_real_worker_makes_the_variants(self, start_worker, user, upload, files, tmp_path):
        profile = Profile.objects.create(user=user, picture=upload())
        waiting = Article.objects.create(image=upload())
        assert now(profile).picture.state is State.PENDING

        start_worker()

        ends_at = time.monotonic() + WAIT_SECONDS
        while {now(profile).picture.state, now(waiting).image.state} != {State.READY}:
            assert time.monotonic() < ends_at, (tmp_path / "worker.log").read_text()
            time.sleep(0.05)
        assert list(now(profile).picture.variants) == ["original", "profile", "thumbnail"]
        names = {*now(profile).picture_details.names, now(waiting).image.name}
        while set(files()) != names:  # the uploads go after the swap
            assert time.monotonic() < ends_at
            time.sleep(0.05)

    def test_a_broker_that_is_down_leaves_a_row_that_waits(self, app, upload, valkey):
        valkey.kill()
        app.conf.task_publish_retry = False
        app.conf.broker_transport_options = {"socket_connect_timeout": 1, "max_retries": 0}
        row = Article.objects.create(image=upload())
        assert now(row).image.state is State.PENDING
