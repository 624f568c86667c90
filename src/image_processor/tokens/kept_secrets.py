"""Secrets that are made on first use and kept under the data folder, for all that share it."""

import os
import secrets
from contextlib import suppress
from pathlib import Path

from image_processor.errors import ConfigurationError
from image_processor.settings import Settings

SECRET_FILE = "development-secret"  # noqa: S105 - the name of a file
UPLOAD_SECRET_FILE = "upload-secret"  # noqa: S105 - the name of a file


def with_development_secret(settings: Settings) -> Settings:
    """The settings, with the secret kept under the data folder (made on first use) where none is set."""
    if settings.jwt_secret_key:
        return settings
    return settings.model_copy(update={"jwt_secret_key": _kept_secret(settings.data_path / SECRET_FILE)})


def development_secret_exists(settings: Settings) -> bool:
    """Whether a service was started in development mode with this data folder."""
    return (settings.data_path / SECRET_FILE).is_file()


def upload_secret(settings: Settings) -> bytes:
    """
    What addresses of direct uploads are signed with: JWT_SECRET_KEY, or a secret kept under the data folder.

    The local storage, to which alone such addresses lead, lies there too: whoever takes an upload has it.
    """
    secret = settings.jwt_secret_key or _kept_secret(settings.data_path / UPLOAD_SECRET_FILE)
    return secret.encode()


def _kept_secret(path: Path) -> str:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            _make(path)
    except OSError as error:
        raise ConfigurationError(
            f"The data folder {path.parent} cannot be written: {error.strerror}."
        ) from error
    return _read_secret(path)


def _make(path: Path) -> None:
    """Written aside and linked into place: who finds it, finds all of it. Raises OSError."""
    if path.exists():
        return
    aside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32))
        os.link(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def _read_secret(path: Path) -> str:
    try:
        secret = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}.") from error
    if not secret:
        raise ConfigurationError(f"{path} is empty; delete it and start again.")
    return secret
