"""Making tokens, whom they may name, and development mode's secret. Checking them is the API's affair."""

import os
import secrets
import time
from pathlib import Path

import jwt

from image_processor.errors import ConfigurationError, InvalidRequestError
from image_processor.settings import Settings

SECRET_FILE = "development-secret"  # noqa: S105 - the name of a file
MAX_USER_LENGTH = 200
MAX_VALID_HOURS = 87_600


def is_user(subject: str) -> bool:
    """Whether a token may stand for this: 1 to 200 characters, and no half of a surrogate pair among them."""
    is_storable = subject == subject.encode("utf-8", "replace").decode()
    return 0 < len(subject) <= MAX_USER_LENGTH and is_storable


def make_token(settings: Settings, subject: str, *, valid_hours: float = 24) -> str:
    """
    A signed token for a user, valid for so many hours (at most ten years).

    Raises InvalidRequestError for a subject that is no user, and for hours out of their range.
    """
    if not is_user(subject):
        raise InvalidRequestError(f"A user's name has 1 to {MAX_USER_LENGTH} characters.")
    if not 0 < valid_hours <= MAX_VALID_HOURS:
        raise InvalidRequestError(f"A token is valid for at most {MAX_VALID_HOURS} hours.")
    now = int(time.time())
    claims = {"sub": subject, "iat": now, "exp": now + int(valid_hours * 3600)}
    return jwt.encode(claims, settings.jwt_secret_key, algorithm=settings.jwt_algorithm)


def with_development_secret(settings: Settings) -> Settings:
    """The settings, with the secret kept under the data folder (made on first use) where none is set."""
    if settings.jwt_secret_key:
        return settings
    return settings.model_copy(update={"jwt_secret_key": _kept_secret(settings.data_path / SECRET_FILE)})


def development_secret_exists(settings: Settings) -> bool:
    """Whether a service was started in development mode with this data folder."""
    return (settings.data_path / SECRET_FILE).is_file()


def _kept_secret(path: Path) -> str:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return _read_secret(path)
    except OSError as error:
        raise ConfigurationError(
            f"The data folder {path.parent} cannot be written: {error.strerror}."
        ) from error
    with os.fdopen(descriptor, "w") as file:
        secret = secrets.token_hex(32)
        file.write(secret)
    return secret


def _read_secret(path: Path) -> str:
    try:
        secret = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}.") from error
    if not secret:
        raise ConfigurationError(f"{path} is empty; delete it and start again.")
    return secret
