"""Models as projects have them: with a user, with a proxy, with children, with two pictures."""

from django.contrib.auth.models import User
from django.core.files.storage import default_storage
from django.db import models

from image_processor.contrib.django.details import ImageDetailsField
from image_processor.contrib.django.fields import ImageField
from image_processor.pipeline import Fit, JpegOutput, Resize, Variant
from image_processor.pipeline.pipeline import Pipeline
from image_processor.pipeline.presets import Preset

BANNER = Preset(
    pipeline=Pipeline(
        variants=(
            Variant(
                name="wide",
                operations=(Resize(width=60, height=20, fit=Fit.COVER),),
                output=JpegOutput(),
            ),
        )
    )
)
"""One small variant, none of them called `original`: quick to make."""


def folder_of_user(instance: "Profile", filename: str) -> str:
    return f"profile_pictures/{instance.user_id}/{filename}"


def chosen_storage():
    return default_storage


class Profile(models.Model):  # noqa: DJ008 - nobody reads its name
    """Preset `avatar`, a folder for each user."""

    user = models.OneToOneField(User, models.CASCADE)
    name = models.CharField(max_length=100, blank=True)
    picture = ImageField(upload_to=folder_of_user, blank=True, null=True, details="picture_details")
    picture_details = ImageDetailsField()


class Photo(models.Model):  # noqa: DJ008
    """Preset `web`; what was uploaded is kept. The details stand first, as nothing forbids it."""

    title = models.CharField(max_length=100, blank=True)
    picture_details = ImageDetailsField()
    picture = ImageField(upload_to="photos", variants="web", keep_source=True, details="picture_details")


class PublicPhoto(Photo):  # noqa: DJ008
    """A proxy."""

    class Meta:
        proxy = True


class PortfolioPhoto(Photo):  # noqa: DJ008
    """A child with a table of its own."""

    caption = models.CharField(max_length=100, blank=True)


class Illustrated(models.Model):
    """An abstract base."""

    image = ImageField(upload_to="images/%Y", variants=BANNER, blank=True, details="image_details")
    image_details = ImageDetailsField()

    class Meta:
        abstract = True


class Article(Illustrated):  # noqa: DJ008
    """Of an abstract base, owned by a photo: deleted with it."""

    photo = models.ForeignKey(Photo, models.CASCADE, null=True, blank=True)
    title = models.CharField(max_length=100, blank=True)


class Pair(models.Model):  # noqa: DJ008
    """Two pictures in one row, the second in a storage that a function chooses."""

    left = ImageField(upload_to="pairs", variants=BANNER, blank=True, details="left_details")
    left_details = ImageDetailsField()
    right = ImageField(
        upload_to="pairs", variants=BANNER, blank=True, storage=chosen_storage, details="right_details"
    )
    right_details = ImageDetailsField()
