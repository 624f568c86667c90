"""What a project may listen to: a picture is ready, was refused, or its files were removed."""

from typing import TYPE_CHECKING

from django.db.models import Model
from django.dispatch import Signal

if TYPE_CHECKING:
    from image_processor.contrib.django.fields import ImageField

picture_ready = Signal()
"""All variants are stored and committed. Sender: the model; `instance`, `field`."""
picture_failed = Signal()
"""A picture was refused after its upload. Sender: the model; `instance`, `field`, `error` (a sentence)."""
picture_removed = Signal()
"""Files are gone. Sender: the model; `field`, `names`."""


def tell_ready(field: "ImageField", instance: Model) -> None:
    """Send `picture_ready`."""
    picture_ready.send(type(instance), instance=instance, field=field)
