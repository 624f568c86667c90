"""The app as Django's registry knows it."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class ImageProcessorConfig(AppConfig):
    """`image_processor.contrib.django` in INSTALLED_APPS."""

    name = "image_processor.contrib.django"
    label = "image_processor"
    verbose_name = _("Image Processor")

    def ready(self) -> None:
        """Add the checks of the project; those of a field are asked by the field itself."""
        from image_processor.contrib.django.checks import register_checks  # noqa: PLC0415 - once apps are loaded

        register_checks()
