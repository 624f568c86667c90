"""Profile: what a person shows of themselves."""

from django.conf import settings
from django.db import models
from image_processor.contrib.django.details import ImageDetailsField
from image_processor.contrib.django.fields import ImageField
from image_processor.contrib.django.profile_pictures import profile_preset


def picture_folder(profile: "Profile", filename: str) -> str:
    """The one that ImageStorageService uses too: whichever of them stores a picture, it lies there."""
    return f"profile_pictures/{profile.user_id}/{filename}"


class Profile(models.Model):
    """One for each person."""

    user = models.OneToOneField(settings.AUTH_USER_MODEL, models.CASCADE, related_name="profile")
    picture = ImageField(
        upload_to=picture_folder, variants=profile_preset(), details="picture_details", blank=True
    )
    picture_details = ImageDetailsField()

    def __str__(self) -> str:
        return f"Profile of {self.user}"
