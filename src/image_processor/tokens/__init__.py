"""Bearer tokens: whom they name and what they allow, how they are made, and how they are checked."""

from typing import TYPE_CHECKING

from image_processor.on_demand import names_of

if TYPE_CHECKING:
    from image_processor.tokens.claims import MAX_USER_LENGTH, Bearer, Scope, is_user
    from image_processor.tokens.kept_secrets import (
        SECRET_FILE,
        UPLOAD_SECRET_FILE,
        development_secret_exists,
        upload_secret,
        with_development_secret,
    )
    from image_processor.tokens.keys import Keys, SecretKeys
    from image_processor.tokens.making import MAX_VALID_HOURS, make_token
    from image_processor.tokens.verification import MAX_TOKEN_LENGTH, Rules, TokenVerifier

__all__ = [
    "MAX_TOKEN_LENGTH",
    "MAX_USER_LENGTH",
    "MAX_VALID_HOURS",
    "SECRET_FILE",
    "UPLOAD_SECRET_FILE",
    "Bearer",
    "Keys",
    "Rules",
    "Scope",
    "SecretKeys",
    "TokenVerifier",
    "development_secret_exists",
    "is_user",
    "make_token",
    "upload_secret",
    "with_development_secret",
]

__getattr__ = names_of(
    __name__,
    {
        "MAX_TOKEN_LENGTH": "verification",
        "MAX_USER_LENGTH": "claims",
        "MAX_VALID_HOURS": "making",
        "SECRET_FILE": "kept_secrets",
        "UPLOAD_SECRET_FILE": "kept_secrets",
        "Bearer": "claims",
        "Keys": "keys",
        "Rules": "verification",
        "Scope": "claims",
        "SecretKeys": "keys",
        "TokenVerifier": "verification",
        "development_secret_exists": "kept_secrets",
        "is_user": "claims",
        "make_token": "making",
        "upload_secret": "kept_secrets",
        "with_development_secret": "kept_secrets",
    },
)
