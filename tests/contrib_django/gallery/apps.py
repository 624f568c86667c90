from django.apps import AppConfig


class GalleryConfig(AppConfig):
    name = "contrib_django.gallery"
    label = "gallery"
