"""A process that dies at any step of an upload: the row has a picture, cleanup leaves nothing else."""

from collections.abc import Callable
from functools import cache, partial

import pytest
from django.core.files.storage import FileSystemStorage
from django.db import transaction

from contrib_django.gallery.models import Profile
from image_processor.contrib.django.profile_pictures import ImageStorageService, StoredPictures
from image_processor.contrib.django.rendering import local_renderer

pytestmark = pytest.mark.django_db(transaction=True)


class Death(BaseException):
    """Nobody catches it; from then on every step raises it, as a dead process does nothing more."""


class Steps:
    """Counts what is done to the world outside, and dies before, or in the middle of, one of the steps."""

    def __init__(self, dies_at: int | None = None) -> None:
        self.dies_at = dies_at
        self.count = 0

    def take(self) -> None:
        self.count += 1
        if self.dies_at is not None and self.count >= self.dies_at:
            raise Death


class MortalStorage(FileSystemStorage):
    def __init__(self, steps: Steps) -> None:
        super().__init__()
        self.steps = steps

    def _save(self, name, content):
        self.steps.take()
        name = super()._save(name, content)
        self.steps.take()  # written, and nobody was told
        return name

    def delete(self, name):
        self.steps.take()
        super().delete(name)

    def listdir(self, path):
        self.steps.take()
        return super().listdir(path)

    def url(self, name):
        self.steps.take()
        return super().url(name)


@cache
def rendered(source, preset):
    return local_renderer().render(source, preset)


class MortalRenderer:
    def __init__(self, steps: Steps) -> None:
        self.steps = steps

    def render(self, source, preset):
        self.steps.take()
        return rendered(source, preset)


class World:
    """One user, a row that names a picture, and a service that may die."""

    def __init__(self, user, photo: bytes) -> None:
        self.user = user
        self.photo = photo

    def in_use(self, user_id: str) -> list[str]:
        row = Profile.objects.filter(user_id=user_id).first()
        return list(row.picture_details.names) if row else []

    def save(self, steps: Steps, stored: StoredPictures) -> None:
        steps.take()
        columns = {"picture": stored.names.original, "picture_details": stored.details}
        Profile.objects.update_or_create(user=self.user, defaults=columns)
        steps.take()

    def service(self, steps: Steps, **options) -> ImageStorageService:
        options = {"renderer": MortalRenderer(steps), "base_url": "https://gallery.example", **options}
        return ImageStorageService(MortalStorage(steps), **options)


def with_a_row_in_the_end(world: World, steps: Steps) -> None:
    """The way that the documentation shows first."""
    service = world.service(steps, in_use=world.in_use)
    service.upload(world.user.pk, world.photo, save=partial(world.save, steps))


def within_a_transaction(world: World, steps: Steps, in_use: Callable | None = None) -> None:
    """The row locked, the upload, the row saved."""
    with transaction.atomic():
        Profile.objects.select_for_update().filter(user=world.user).first()
        world.save(steps, world.service(steps, in_use=in_use).upload(world.user.pk, world.photo))


def within_a_transaction_asking(world: World, steps: Steps) -> None:
    within_a_transaction(world, steps, world.in_use)


def without_a_transaction(world: World, steps: Steps) -> None:
    """What is not recommended: `in_use` alone keeps the former picture."""
    service = world.service(steps, in_use=world.in_use)
    world.save(steps, service.upload(world.user.pk, world.photo))


WAYS = [with_a_row_in_the_end, within_a_transaction, within_a_transaction_asking, without_a_transaction]


@pytest.mark.parametrize("way", WAYS)
def test_whichever_step_is_the_last_the_row_has_its_picture(user, photo_bytes, media, files, way):
    world = World(user, photo_bytes)
    with_a_row = Steps()
    world.service(with_a_row).upload(user.pk, photo_bytes, save=partial(world.save, with_a_row))
    complete = Steps()
    way(world, complete)
    former = set(world.in_use(str(user.pk)))

    for step in range(1, complete.count + 1):
        with pytest.raises(Death):
            way(world, Steps(dies_at=step))
        named = set(world.in_use(str(user.pk)))
        assert named <= set(files()), f"died at step {step} of {complete.count}"
        assert all((media / name).stat().st_size for name in named)

        world.service(Steps(), in_use=world.in_use).cleanup(older_than_seconds=0)

        assert files() == sorted(named), f"died at step {step} of {complete.count}"

    assert complete.count >= 14
    way(world, Steps())
    world.service(Steps(), in_use=world.in_use).cleanup(older_than_seconds=0)
    assert len(files()) == 3
    assert not former & set(files())


@pytest.mark.parametrize("way", WAYS)
def test_a_cleanup_that_dies_is_done_by_the_next(user, photo_bytes, files, way):
    world = World(user, photo_bytes)
    way(world, Steps())
    service = world.service(Steps())
    service.store(user.pk, service.render(photo_bytes))
    named = set(world.in_use(str(user.pk)))

    for step in range(1, 5):
        with pytest.raises(Death):
            world.service(Steps(step), in_use=world.in_use).cleanup(older_than_seconds=0)
        assert named <= set(files())
    world.service(Steps(), in_use=world.in_use).cleanup(older_than_seconds=0)

    assert files() == sorted(named)
