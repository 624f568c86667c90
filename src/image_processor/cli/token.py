"""`image-processor token`: a token for a user, alone on standard output."""

import sys
from collections.abc import Iterable

from image_processor.errors import ConfigurationError
from image_processor.settings import load_settings
from image_processor.tokens import Scope, development_secret_exists, make_token, with_development_secret


def token(sub: str, *, valid_hours: float, scopes: Iterable[Scope]) -> None:
    """Print it. Raises ConfigurationError where there is nothing to sign with."""
    settings = load_settings()
    if settings.signs_tokens and not settings.jwt_secret_key and not development_secret_exists(settings):
        raise ConfigurationError(
            "There is no secret to sign with: set JWT_SECRET_KEY, or start `image-processor serve --dev`."
        )
    signing = with_development_secret(settings) if settings.signs_tokens else settings
    sys.stdout.write(make_token(signing, sub, valid_hours=valid_hours, scopes=scopes) + "\n")
