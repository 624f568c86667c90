"""Who asks: the bearer token of a request, the user it names, and whether it allows what is asked."""

import asyncio
from typing import Annotated

from fastapi import Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer, SecurityScopes

from image_processor.api.audit import note_of
from image_processor.errors import AuthenticationError, TokenFault
from image_processor.tokens import Bearer, Scope, TokenVerifier

DEVELOPMENT_USER = "development"


class Authenticator:
    """Finds the token of a request and has it checked."""

    def __init__(self, verifier: TokenVerifier, *, required: bool = True) -> None:
        self._verifier = verifier
        self._required = required

    async def bearer(self, authorization: str | None) -> Bearer:
        """
        Whom the token in an Authorization header stands for.

        Without a header, and where no token is required: the development user, who may do everything.
        Raises AuthenticationError, and UnavailableError where the keys for it could not be had.
        """
        if authorization is None:
            if self._required:
                raise AuthenticationError("A bearer token is needed: send `Authorization: Bearer <token>`.")
            return Bearer(DEVELOPMENT_USER, frozenset(Scope))
        scheme, _, token = authorization.partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token or not token.isascii():
            raise AuthenticationError(
                "The Authorization header is not `Bearer <token>`.", fault=TokenFault.NOT_A_BEARER
            )
        if news := self._verifier.refresh(token):
            await asyncio.wrap_future(news)
        return self._verifier.bearer(token)


documented = HTTPBearer(
    auto_error=False,
    bearerFormat="JWT",
    description="A token whose `sub` is the user. What it allows is in its `scope`: `upload`, `read`, "
    "`delete`, `admin`; without that claim, all but `admin`. Each operation names the scope it needs.",
)
"""Gives /docs its field for the token; `Authenticator` alone decides."""


async def authorized_user(
    request: Request,
    needed: SecurityScopes,
    _credentials: Annotated[HTTPAuthorizationCredentials | None, Security(documented)],
) -> str:
    """The user of this request. Raises AuthenticationError; ForbiddenError where a scope is missing."""
    authenticator: Authenticator = request.app.state.authenticator
    note = note_of(request)
    note.scope = " ".join(needed.scopes)
    bearer = await authenticator.bearer(request.headers.get("authorization"))
    note.user_id = bearer.user
    for scope in needed.scopes:
        bearer.require(Scope(scope))
    return bearer.user


Uploader = Annotated[str, Security(authorized_user, scopes=[Scope.UPLOAD.value])]
Reader = Annotated[str, Security(authorized_user, scopes=[Scope.READ.value])]
Deleter = Annotated[str, Security(authorized_user, scopes=[Scope.DELETE.value])]
Admin = Annotated[str, Security(authorized_user, scopes=[Scope.ADMIN.value])]
