"""ImageStorageService of this project: it knows which pictures the profiles name."""

from collections.abc import Iterable
from typing import Any

from django.contrib.auth.models import AbstractBaseUser
from django.http import HttpRequest
from image_processor.contrib.django import profile_pictures
from image_processor.contrib.django.profile_pictures import StoredPictures, Upload

from users.models import Profile


def pictures_in_use(user_id: str) -> Iterable[str]:
    """The names of the files that a profile consists of."""
    if not user_id.isdecimal():
        return ()
    profile = Profile.objects.filter(user_id=user_id).first()
    if profile is None:
        return ()
    return (profile.picture.name or "", *(profile.picture_details.names if profile.picture_details else ()))


class ImageStorageService(profile_pictures.ImageStorageService):
    """Never removes a picture that a profile names; takes what the service of the package takes."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"in_use": pictures_in_use, **options})


def set_profile_picture(user: AbstractBaseUser, file: Upload, request: HttpRequest) -> StoredPictures:
    """
    Give a person another picture; raises as ImageStorageService.upload does.

    The picture is made before the transaction begins, so nobody waits for a lock meanwhile.
    """

    def save(stored: StoredPictures) -> None:
        columns = {"picture": stored.names.original, "picture_details": stored.details}
        Profile.objects.update_or_create(user=user, defaults=columns)

    return ImageStorageService().upload(user.pk, file, request=request, save=save)
