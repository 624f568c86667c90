"""`image-processor token`: a token for a user, alone on standard output."""

import sys
from typing import Annotated

import typer

from image_processor.errors import ConfigurationError
from image_processor.settings import load_settings
from image_processor.tokens import Scope, development_secret_exists, make_token, with_development_secret


def token(
    sub: Annotated[str, typer.Option(help="The user that the token stands for.")],
    valid_hours: Annotated[float, typer.Option(min=0.01, help="Hours until it expires.")] = 24,
    scope: Annotated[
        list[Scope] | None,
        typer.Option(help="What it allows; may be given several times. Without it: upload, read and delete."),
    ] = None,
) -> None:
    """Print a token for a user, signed with JWT_SECRET_KEY or with the secret of development mode."""
    settings = load_settings()
    if settings.signs_tokens and not settings.jwt_secret_key and not development_secret_exists(settings):
        raise ConfigurationError(
            "There is no secret to sign with: set JWT_SECRET_KEY, or start `image-processor serve --dev`."
        )
    signing = with_development_secret(settings) if settings.signs_tokens else settings
    sys.stdout.write(make_token(signing, sub, valid_hours=valid_hours, scopes=scope or ()) + "\n")
