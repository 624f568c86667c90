"""The app as Django's registry knows it."""

from django.apps import AppConfig


class UsersConfig(AppConfig):
    """People and their profiles."""

    name = "users"
