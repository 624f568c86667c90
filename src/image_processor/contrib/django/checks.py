"""System checks: what would fail later, or quietly not do what it seems to. Nothing is connected to."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib.util import find_spec
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register  # noqa: A004 - as Django calls it
from django.core.exceptions import FieldDoesNotExist, ImproperlyConfigured
from django.db.models import Model
from django.urls import NoReverseMatch, reverse

from image_processor.contrib.django.conf import SETTING, Conf, MadeIn, conf
from image_processor.contrib.django.fields import ImageField, details_column
from image_processor.contrib.django.rendering import preset_named
from image_processor.contrib.django.saving import image_fields
from image_processor.pipeline import Preset

MIB = 1024 * 1024
APP = "image_processor"
GENERATION = 33
"""Characters of a file's name before that of the variant: 32 digits and a low line."""
EXTENSION = 5
OWN_CACHES = frozenset({"LocMemCache", "DummyCache"})
"""Of Django's caches those that no other process sees."""
INLINE_TASKS = frozenset({"ImmediateBackend", "DummyBackend"})

MESSAGES: Mapping[str, str] = {
    "E001": "The setting IMAGE_PROCESSOR cannot be used.",
    "E002": "The field has no column for the details of its pictures.",
    "E003": "What the field names as its details is another kind of field.",
    "E004": "Two fields share one column of details.",
    "E005": "The preset of the field cannot be used.",
    "E006": "The presets of the project cannot be read.",
    "E007": "The cache that BREAKER_CACHE names is not among CACHES.",
    "E008": "'image_processor.contrib.django' is not in INSTALLED_APPS.",
    "E009": "VARIANTS is 'tasks', and there is no django.tasks.",
    "E010": "VARIANTS is 'celery', and Celery is not installed.",
    "E011": "VARIANTS is 'service', and the client of the service is not installed.",
    "E012": "The column is too short for the names of the files.",
    "E013": "VARIANTS is 'service', and the preset of the field has no name that the service knows.",
    "W001": "The breaker is not shared between the processes.",
    "W002": "VARIANTS is 'tasks', and the tasks run in the request or never.",
    "W003": "VARIANTS is 'service', and no webhook tells when a picture is ready.",
    "W004": "The pictures lie in no folder of their own.",
    "W005": "Uploads far larger than any picture are taken into memory.",
    "W006": "The details of the picture stand in a form, or must not be empty.",
}
"""What each check says; the reference lists them."""


def register_checks() -> None:
    """Add the checks of a project to Django's; a field adds its own."""
    register(check_project, APP)
    register(check_deployment, APP, deploy=True)


def check_project(**_: Any) -> list[CheckMessage]:
    """What IMAGE_PROCESSOR says, and whether what it needs is there."""
    try:
        chosen = conf()
    except ImproperlyConfigured as error:
        return [_error("E001", hint=str(error))]
    return [*_presets(), *_breaker_cache(chosen), *QUEUES[chosen.variants]()]


def check_deployment(**_: Any) -> list[CheckMessage]:
    """What does no harm to one process with a developer before it."""
    return [*_shared_breaker(conf()), *_upload_memory(conf())] if _conf_is_valid() else []


def check_field(field: ImageField) -> list[CheckMessage]:
    """What is wrong with one field of a model."""
    return [*_installed(field), *_details(field), *_preset(field), *_folder(field)]


def _error(number: str, about: Any = None, hint: str | None = None) -> CheckMessage:
    return Error(MESSAGES[number], hint=hint, obj=about, id=f"{APP}.{number}")


def _warning(number: str, about: Any = None, hint: str | None = None) -> CheckMessage:
    return Warning(MESSAGES[number], hint=hint, obj=about, id=f"{APP}.{number}")


def _presets() -> Iterator[CheckMessage]:
    if fault := _presets_fault():
        yield _error("E006", hint=f"{fault} It is {SETTING}['PRESETS'].")


def _presets_fault() -> str:
    try:
        preset_named("web")  # one that ships: it is found wherever the project's own can be read
    except ImproperlyConfigured as error:
        return str(error)
    return ""


def _breaker_cache(chosen: Conf) -> Iterator[CheckMessage]:
    if chosen.breaker_cache not in settings.CACHES:
        known = ", ".join(map(repr, settings.CACHES))
        yield _error("E007", hint=f"There are {known}, and no {chosen.breaker_cache!r}.")


def _shared_breaker(chosen: Conf) -> Iterator[CheckMessage]:
    backend = str(settings.CACHES.get(chosen.breaker_cache, {}).get("BACKEND", "")).rpartition(".")[2]
    if backend in OWN_CACHES:
        yield _warning(
            "W001",
            hint=f"CACHES[{chosen.breaker_cache!r}] is a {backend}: each process finds out for itself that "
            "storage or engine are down. Name a cache that all of them use in BREAKER_CACHE.",
        )


def _upload_memory(chosen: Conf) -> Iterator[CheckMessage]:
    largest = max([chosen.max_bytes, *(_max_bytes(field) for field in _all_fields())])
    for name in ("FILE_UPLOAD_MAX_MEMORY_SIZE", "DATA_UPLOAD_MAX_MEMORY_SIZE"):
        allowed = getattr(settings, name)
        if allowed is None or allowed > 2 * largest:
            words = "has no bound" if allowed is None else f"is {allowed / MIB:g} MB"
            yield _warning(
                "W005", hint=f"{name} {words}, and no picture may have more than {largest / MIB:g} MB."
            )


def _all_fields() -> Iterator[ImageField]:
    for model in apps.get_models():
        yield from image_fields(model)


def _max_bytes(field: ImageField) -> int:
    try:
        return field.preset.limits.max_bytes
    except ImproperlyConfigured:
        return 0  # E005


def _tasks() -> Iterator[CheckMessage]:
    found = next((name for name in ("django.tasks", "django_tasks") if _has_module(name)), None)
    if found is None:
        yield _error("E009", hint="Django 6.0 has it; for 5.2: pip install django-tasks.")
        return
    backend = str(getattr(settings, "TASKS", {}).get("default", {}).get("BACKEND", "ImmediateBackend"))
    if backend.rpartition(".")[2] in INLINE_TASKS:
        yield _warning("W002", hint=f"TASKS['default'] is {backend}: choose a backend that has workers.")


def _celery() -> Iterator[CheckMessage]:
    if not _has_module("celery"):
        yield _error("E010", hint="pip install 'image-processor[celery]'")


def _service() -> Iterator[CheckMessage]:
    if not _has_module("httpx"):
        yield _error("E011", hint="pip install 'image-processor[client]'")
    wanting = []
    if conf().base_url is None:
        wanting.append(f"set {SETTING}['BASE_URL']")
    if conf().service_webhook_secret is None:
        wanting.append(f"set {SETTING}['SERVICE_WEBHOOK_SECRET']")
    if not _has_webhook():
        wanting.append("include image_processor.contrib.django.urls in your urls")
    if wanting:
        hint = f"To be told, {' and '.join(wanting)}; or run image_processor_rebuild --pending now and then."
        yield _warning("W003", hint=hint)


def _has_webhook() -> bool:
    try:
        reverse("image_processor:webhook")
    except (NoReverseMatch, ImproperlyConfigured):
        return False
    return True


def _has_module(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False


QUEUES: Mapping[MadeIn, Callable[[], Iterator[CheckMessage]]] = {
    MadeIn.REQUEST: partial(iter, ()),
    MadeIn.TASKS: _tasks,
    MadeIn.CELERY: _celery,
    MadeIn.SERVICE: _service,
}
"""What a place where variants are made needs."""


def _installed(field: ImageField) -> Iterator[CheckMessage]:
    if not apps.is_installed("image_processor.contrib.django"):
        yield _error(
            "E008", field, hint="Without it there are no template tags, no commands and no translations."
        )


def _details(field: ImageField) -> Iterator[CheckMessage]:
    wanted = field.details_name or f"{field.name}_details"
    line = f"{wanted} = ImageDetailsField()"
    if not field.details_name:
        yield _error("E002", field, hint=f"Write details={wanted!r} and, beside the field, {line}.")
    elif not _has_field(field.model, field.details_name):
        yield _error("E002", field, hint=f"Beside the field, write {line}.")
    elif (column := details_column(field)) is None:
        yield _error("E003", field, hint=f"{wanted!r} has to be an ImageDetailsField.")
    else:
        yield from _shared_details(field)
        if column.editable or not (column.null and column.blank):
            yield _warning("W006", column, hint=f"Write {line} and nothing more.")


def _shared_details(field: ImageField) -> Iterator[CheckMessage]:
    for other in image_fields(field.model):
        if other is not field and other.details_name == field.details_name:
            yield _error(
                "E004", field, hint=f"{other.name!r} names {field.details_name!r} too: give each its own."
            )


def _has_field(model: type[Model], name: str) -> bool:
    try:
        model._meta.get_field(name)
    except FieldDoesNotExist:
        return False
    return True


def _preset(field: ImageField) -> Iterator[CheckMessage]:
    given: Any = field.variants
    if not isinstance(given, str | Preset):
        yield _error("E005", field, hint="variants is a Preset or the name of one.")
        return
    try:
        preset = field.preset
    except ImproperlyConfigured as error:
        if _conf_is_valid() and not _presets_fault():  # or it is E001, E006
            yield _error("E005", field, hint=str(error))
        return
    if isinstance(given, Preset) and conf().variants is MadeIn.SERVICE:
        yield _error(
            "E013", field, hint="Write the preset into a file that PRESETS and the service both read."
        )
    yield from _room_for_names(field, preset)


def _conf_is_valid() -> bool:
    try:
        conf()
    except ImproperlyConfigured:
        return False
    return True


def _room_for_names(field: ImageField, preset: Preset) -> Iterator[CheckMessage]:
    """The folder is known where it is text; of a function only the name itself is."""
    folder = field.upload_to.strip("/") if isinstance(field.upload_to, str) else ""
    longest = max(len(variant.name) for variant in preset.pipeline.variants)
    needed = len(folder) + 1 + GENERATION + max(longest, len("source")) + EXTENSION
    if field.max_length is not None and field.max_length < needed:
        yield _error("E012", field, hint=f"max_length is {field.max_length}, and {needed} are needed.")


def _folder(field: ImageField) -> Iterator[CheckMessage]:
    if not callable(field.upload_to) and not str(field.upload_to).strip("/"):
        yield _warning(
            "W004", field, hint="Give upload_to: image_processor_prune lists the whole storage otherwise."
        )
