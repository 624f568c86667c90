"""A small Django project for the tests; `TEST_DATABASE=postgres` runs all of them on a real PostgreSQL."""

import json
import os
import tempfile
from pathlib import Path

SECRET_KEY = "only for tests"
DEBUG = False
USE_TZ = True
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "contrib_django.urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
MEDIA_ROOT = os.environ.get("GALLERY_MEDIA", "")
"""Each test has a folder of its own; a process that a test starts is told of it."""
MEDIA_URL = "/media/"
STATIC_URL = "/static/"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
LANGUAGES = [("en", "English"), ("de", "Deutsch")]
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "image_processor.contrib.django",
    "contrib_django.gallery",
]
# Without migrations all tables are made at once, those that refer to others last.
MIGRATION_MODULES = dict.fromkeys(("admin", "auth", "contenttypes", "sessions"))
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
IMAGE_PROCESSOR = json.loads(os.environ.get("GALLERY_IMAGE_PROCESSOR", "{}"))
_FILE = str(Path(tempfile.gettempdir(), f"gallery-{os.getpid()}.sqlite3"))
LITE = {
    "ENGINE": "django.db.backends.sqlite3",
    "NAME": _FILE,
    "OPTIONS": {"timeout": 30, "transaction_mode": "IMMEDIATE", "init_command": "PRAGMA synchronous=OFF"},
    # A file, so that threads and processes meet in it as they do in a project.
    "TEST": {"NAME": _FILE},
}
POSTGRES = {
    "ENGINE": "django.db.backends.postgresql",
    "NAME": "postgres",
    "USER": "postgres",
    "HOST": "127.0.0.1",
    "PORT": "",
}
"""Its port is known once the server runs."""


def _database() -> dict:
    if given := os.environ.get("GALLERY_DATABASE"):  # of a process that a test starts
        return json.loads(given)
    return POSTGRES if os.environ.get("TEST_DATABASE") == "postgres" else LITE


DATABASES = {"default": _database()}
