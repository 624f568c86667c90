"""Who asks: the bearer token of a request, and the user it names."""

from typing import Annotated

import jwt
from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from image_processor.errors import AuthenticationError
from image_processor.tokens import is_user

DEVELOPMENT_USER = "development"


class Authenticator:
    """Checks tokens against one secret and one algorithm."""

    def __init__(self, secret: str, algorithm: str, *, required: bool = True) -> None:
        self._secret = secret
        self._algorithm = algorithm
        self._required = required

    def user(self, authorization: str | None) -> str:
        """
        The `sub` of the token in an Authorization header.

        Without a header, and where no token is required: the development user.
        Raises AuthenticationError.
        """
        if authorization is None:
            if self._required:
                raise AuthenticationError("A bearer token is needed: send `Authorization: Bearer <token>`.")
            return DEVELOPMENT_USER
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token.strip() or not token.isascii():
            raise AuthenticationError("The Authorization header is not `Bearer <token>`.")
        return self._subject(token.strip())

    def _subject(self, token: str) -> str:
        try:
            claims = jwt.decode(
                token,
                self._secret,
                algorithms=[self._algorithm],
                options={"require": ["sub"], "verify_aud": False},
            )
        except jwt.ExpiredSignatureError as error:
            raise AuthenticationError("The token has expired.") from error
        except jwt.PyJWTError as error:
            raise AuthenticationError("The token is not valid.") from error
        subject: str = claims["sub"]
        if not is_user(subject):
            raise AuthenticationError("The token's `sub` is not a user.")
        return subject


documented = HTTPBearer(auto_error=False, bearerFormat="JWT", description="A token whose `sub` is the user.")
"""Gives /docs its field for the token; `Authenticator` alone decides."""


def current_user(
    request: Request, _credentials: Annotated[HTTPAuthorizationCredentials | None, Security(documented)]
) -> str:
    """The user of this request. Raises AuthenticationError."""
    authenticator: Authenticator = request.app.state.authenticator
    return authenticator.user(request.headers.get("authorization"))


User = Annotated[str, Depends(current_user)]
