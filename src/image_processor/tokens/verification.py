"""Whether a token holds: its form, signature, time, audience and issuer. Where keys come from is not here."""

from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import jwt

from image_processor.errors import TokenError
from image_processor.tokens.claims import Bearer, read_claims
from image_processor.tokens.keys import Keys

MAX_TOKEN_LENGTH = 8192
"""Characters; longer ones are not looked at."""

_FAULTS: tuple[tuple[type[jwt.PyJWTError], str], ...] = (
    (jwt.ExpiredSignatureError, "The token has expired."),
    (jwt.ImmatureSignatureError, "The token is not valid yet."),
    (jwt.InvalidAudienceError, "The token is for another service."),
    (jwt.InvalidIssuerError, "The token comes from an issuer that is not trusted here."),
    (jwt.PyJWTError, "The token is not valid."),
)
"""The first that fits is told."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What every token has to keep to."""

    algorithm: str = "HS256"
    """The only one: a token never chooses."""
    audience: str = ""
    """What its `aud` has to name; empty for anything or nothing."""
    issuer: str = ""
    """What its `iss` has to be; empty for anything or nothing."""
    leeway_seconds: float = 0
    """By how much the issuer's clock and ours may differ."""

    def required(self) -> list[str]:
        """The claims that have to be there."""
        return ["sub", *(["aud"] if self.audience else []), *(["iss"] if self.issuer else [])]


class TokenVerifier:
    """Tells whom a token stands for, if it was signed with one of the keys and keeps to the rules."""

    def __init__(self, keys: Keys, rules: Rules) -> None:
        self._keys = keys
        self._rules = rules

    def refresh(self, token: str) -> Future[None] | None:
        """What to wait for before `bearer` is asked; mostly nothing. Raises TokenError."""
        return self._keys.refresh(self._kid(token))

    def bearer(self, token: str) -> Bearer:
        """
        Whom the token stands for; asks nobody, and takes well below a millisecond.

        Raises TokenError, and UnavailableError where the keys could not be had.
        """
        for key in self._keys.candidates(self._kid(token)):
            try:
                return read_claims(self._decode(token, key))
            except jwt.InvalidSignatureError:
                continue
            except jwt.PyJWTError as error:
                raise TokenError(_sentence(error)) from error
        raise TokenError("The token is not valid.")

    def _decode(self, token: str, key: Any) -> dict[str, Any]:
        rules = self._rules
        return jwt.decode(
            token,
            key,
            algorithms=[rules.algorithm],
            options={"require": rules.required(), "verify_aud": bool(rules.audience)},
            audience=rules.audience or None,
            issuer=rules.issuer or None,
            leeway=rules.leeway_seconds,
        )

    def _kid(self, token: str) -> str | None:
        """
        The key that the header names. `jku`, `x5u` and `jwk`, which would bring a key along, are passed over.

        Extensions that have to be understood are refused: none is (RFC 7515, 4.1.11).
        """
        if len(token) > MAX_TOKEN_LENGTH:
            raise TokenError(f"The token has more than {MAX_TOKEN_LENGTH} characters.")
        try:
            header = jwt.get_unverified_header(token)
        except jwt.PyJWTError as error:
            raise TokenError("The token is not valid.") from error
        if header.get("alg") != self._rules.algorithm or "crit" in header:
            raise TokenError("The token is not valid.")
        return header.get("kid")


def _sentence(error: jwt.PyJWTError) -> str:
    if isinstance(error, jwt.MissingRequiredClaimError):
        return f"The token has no `{error.claim}`."
    return next(sentence for kind, sentence in _FAULTS if isinstance(error, kind))
