"""What must hold of the settings before anything starts."""

import os
from pathlib import Path

from image_processor.bootstrap.storages import open_incoming, open_storage
from image_processor.errors import ConfigurationError
from image_processor.placement import check_preset
from image_processor.settings import Settings
from image_processor.webhooks import read_secret


def check_presets(settings: Settings) -> None:
    """Raise ConfigurationError for a preset whose variants could not be stored."""
    for name, preset in settings.presets.items():
        check_preset(name, preset)


def check_folders(settings: Settings) -> None:
    """Raise ConfigurationError where a folder that the service writes to cannot be made or written to."""
    kept_here = (settings.storage, settings.incoming) if settings.storage_backend == "local" else ()
    for folder in (settings.staging, settings.scratch, *kept_here):
        make_folder(folder)


def check_storage(settings: Settings) -> None:
    """Raise ConfigurationError or MissingExtraError where the storage that is set could never be used."""
    open_storage(settings)
    open_incoming(settings)


def check_file_roots(settings: Settings) -> None:
    """Raise ConfigurationError where `file://` would lead to what the service keeps for itself."""
    own = (settings.storage, settings.incoming, settings.staging, settings.scratch, settings.database)
    for root in settings.file_roots:
        for place in own:
            if _overlap(root.resolve(), place.resolve()):
                raise ConfigurationError(
                    f"FILE_ROOTS names {root}: jobs could read and replace what the service keeps in {place}."
                )


def _overlap(one: Path, other: Path) -> bool:
    return one.is_relative_to(other) or other.is_relative_to(one)


def check_webhook_secret(settings: Settings) -> None:
    """Raise ConfigurationError for one that is set and cannot be signed with."""
    if settings.webhook_secret:
        read_secret(settings.webhook_secret)


def make_folder(folder: Path) -> None:
    """The folder, if need be new. Raises ConfigurationError where it cannot be made or written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"The folder {folder} cannot be made: {error.strerror}.") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigurationError(f"The folder {folder} cannot be written to.")
