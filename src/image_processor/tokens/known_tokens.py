"""Tokens that held: the same one comes with each request, and need not be taken apart each time."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from image_processor.tokens.claims import Bearer

if TYPE_CHECKING:
    from image_processor.tokens.keys import Key

MAX_KNOWN = 1024


@dataclass(frozen=True, kw_only=True)
class Known:
    """What was found out about a token and never changes; whether it holds now depends on clock and keys."""

    bearer: Bearer
    kid: str | None
    """The key that its header names."""
    key: "Key"
    """That it was signed with."""
    begins_at: float
    """Seconds since the epoch."""
    ends_at: float

    @classmethod
    def of(cls, bearer: Bearer, claims: Mapping[str, Any], *, kid: str | None, key: "Key") -> Self:
        """The times are in whole seconds, as they are checked in the first place."""
        begins = [int(claims[name]) for name in ("nbf", "iat") if name in claims]
        ends_at = int(claims["exp"]) if "exp" in claims else float("inf")
        return cls(bearer=bearer, kid=kid, key=key, begins_at=max(begins, default=0), ends_at=ends_at)

    def is_in_time(self, now: float, leeway_seconds: float) -> bool:
        """Whether the token holds at this time."""
        return self.begins_at <= now + leeway_seconds and self.ends_at > now - leeway_seconds


class KnownTokens:
    """At most 1024 of them, by their SHA-256: what is kept is no token."""

    def __init__(self) -> None:
        self._known: dict[bytes, Known] = {}

    def find(self, token: str) -> Known | None:
        """What is known of the token; None for any that was not kept."""
        return self._known.get(_digest(token))

    def keep(self, token: str, known: Known) -> None:
        """Only what held comes here: strangers cannot fill it."""
        if len(self._known) >= MAX_KNOWN:
            self._known.clear()
        self._known[_digest(token)] = known


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
