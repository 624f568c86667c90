"""Making tokens: for development, for tests, and where no other issuer does it."""

import time
from collections.abc import Iterable

import jwt

from image_processor.errors import ConfigurationError, InvalidRequestError
from image_processor.settings import Settings
from image_processor.tokens.claims import MAX_USER_LENGTH, Scope, is_user

MAX_VALID_HOURS = 87_600


def make_token(
    settings: Settings, subject: str, *, valid_hours: float = 24, scopes: Iterable[Scope] = ()
) -> str:
    """
    A signed token for a user, valid for so many hours (at most ten years); without scopes, it has the usual.

    Raises InvalidRequestError for a subject that is no user, and for hours out of their range;
    ConfigurationError where tokens are signed elsewhere.
    """
    if not is_user(subject):
        raise InvalidRequestError(f"A user's name has 1 to {MAX_USER_LENGTH} characters.")
    if not 0 < valid_hours <= MAX_VALID_HOURS:
        raise InvalidRequestError(f"A token is valid for at most {MAX_VALID_HOURS} hours.")
    if not settings.signs_tokens:
        raise ConfigurationError(
            f"Tokens are signed elsewhere: with JWT_ALGORITHM={settings.jwt_algorithm} this service only "
            "checks them."
        )
    now = int(time.time())
    claims = {
        "sub": subject,
        "iat": now,
        "exp": now + int(valid_hours * 3600),
        **({"scope": " ".join(scopes)} if (scopes := sorted(set(scopes))) else {}),
        **({"aud": settings.jwt_audience} if settings.jwt_audience else {}),
        **({"iss": settings.jwt_issuer} if settings.jwt_issuer else {}),
    }
    return jwt.encode(claims, settings.jwt_secret_key, algorithm=settings.jwt_algorithm)
