"""Whether a token holds: its form, signature, time, audience and issuer. Where keys come from is not here."""

import time
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import jwt

from image_processor.errors import TokenError, TokenFault
from image_processor.tokens.claims import Bearer, read_claims
from image_processor.tokens.keys import Keys
from image_processor.tokens.known_tokens import Known, KnownTokens

MAX_TOKEN_LENGTH = 8192
"""Characters; longer ones are not looked at."""

NOT_VALID = "The token is not valid."

_FAULTS: tuple[tuple[type[jwt.PyJWTError], TokenFault, str], ...] = (
    (jwt.ExpiredSignatureError, TokenFault.EXPIRED, "The token has expired."),
    (jwt.ImmatureSignatureError, TokenFault.NOT_YET_VALID, "The token is not valid yet."),
    (jwt.InvalidAudienceError, TokenFault.WRONG_AUDIENCE, "The token is for another service."),
    (
        jwt.InvalidIssuerError,
        TokenFault.WRONG_ISSUER,
        "The token comes from an issuer that is not trusted here.",
    ),
    (jwt.exceptions.InvalidSubjectError, TokenFault.BAD_CLAIM, NOT_VALID),
    (jwt.InvalidIssuedAtError, TokenFault.BAD_CLAIM, NOT_VALID),
    (jwt.PyJWTError, TokenFault.MALFORMED, NOT_VALID),
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
        self._known = KnownTokens()

    def refresh(self, token: str) -> Future[None] | None:
        """What to wait for before `bearer` is asked; mostly nothing. Raises TokenError."""
        known = self._known.find(token)
        return self._keys.refresh(known.kid if known else self._kid(token))

    def bearer(self, token: str) -> Bearer:
        """
        Whom the token stands for; asks nobody, and takes well below a millisecond.

        Raises TokenError, and UnavailableError where the keys could not be had.
        """
        known = self._known.find(token)
        if known and self._still_holds(known):
            return known.bearer
        kid = self._kid(token)
        for key in self._keys.candidates(kid):
            try:
                return self._checked(token, kid, key)
            except jwt.InvalidSignatureError:
                continue
            except jwt.PyJWTError as error:
                raise _refusal(error) from error
        raise TokenError(NOT_VALID, fault=TokenFault.BAD_SIGNATURE)

    def _checked(self, token: str, kid: str | None, key: Any) -> Bearer:
        claims = self._decode(token, key)
        bearer = read_claims(claims)
        self._known.keep(token, Known.of(bearer, claims, kid=kid, key=key))
        return bearer

    def _still_holds(self, known: Known) -> bool:
        """Whether it is in time, and its key among those that count; if not, it is told why as any other."""
        is_in_time = known.is_in_time(time.time(), self._rules.leeway_seconds)
        return is_in_time and any(key is known.key for key in self._keys.candidates(known.kid))

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
            raise TokenError(
                f"The token has more than {MAX_TOKEN_LENGTH} characters.", fault=TokenFault.TOO_LONG
            )
        try:
            header = jwt.get_unverified_header(token)
        except jwt.PyJWTError as error:
            raise TokenError(NOT_VALID) from error
        if header.get("alg") != self._rules.algorithm:
            raise TokenError(NOT_VALID, fault=TokenFault.WRONG_ALGORITHM)
        if "crit" in header:
            raise TokenError(NOT_VALID)
        return header.get("kid")


def _refusal(error: jwt.PyJWTError) -> TokenError:
    if isinstance(error, jwt.MissingRequiredClaimError):
        return TokenError(f"The token has no `{error.claim}`.", fault=TokenFault.MISSING_CLAIM)
    return next(
        TokenError(sentence, fault=fault) for kind, fault, sentence in _FAULTS if isinstance(error, kind)
    )
