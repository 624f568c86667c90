"""What a token says: its user, and what it allows. Whether it holds is not decided here."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from image_processor.errors import ForbiddenError, TokenError, TokenFault

MAX_USER_LENGTH = 200
SCOPE_CLAIMS = ("scope", "scopes", "scp")
"""Where issuers write scopes: the first as RFC 8693 and 9068 have it. The first that is there counts."""


class Scope(StrEnum):
    """What a token may allow."""

    UPLOAD = "upload"
    """To bring work in, and to retry, replay and cancel it."""
    READ = "read"
    """To look at one's own."""
    DELETE = "delete"
    """To delete one's own."""
    ADMIN = "admin"
    """To look at the whole service: its numbers, and what failed for anybody."""


USUAL_SCOPES = frozenset(Scope) - {Scope.ADMIN}
"""Of a token that says nothing of scopes."""


@dataclass(frozen=True)
class Bearer:
    """Whom a token stands for, and what it allows."""

    user: str
    scopes: frozenset[Scope] = USUAL_SCOPES

    def require(self, scope: Scope) -> None:
        """Nothing, if the token allows this. Raises ForbiddenError."""
        if scope not in self.scopes:
            raise ForbiddenError(f"The token does not allow this: it lacks the scope `{scope}`.", scope=scope)


def is_user(subject: str) -> bool:
    """Whether a token may stand for this: 1 to 200 characters, and no half of a surrogate pair among them."""
    is_storable = subject == subject.encode("utf-8", "replace").decode()
    return 0 < len(subject) <= MAX_USER_LENGTH and is_storable


def read_claims(claims: Mapping[str, Any]) -> Bearer:
    """The bearer that the claims of a checked token tell of. Raises TokenError."""
    subject = claims.get("sub")
    if not isinstance(subject, str) or not is_user(subject):
        raise TokenError("The token's `sub` is not a user.", fault=TokenFault.BAD_CLAIM)
    return Bearer(subject, _scopes(claims))


def _scopes(claims: Mapping[str, Any]) -> frozenset[Scope]:
    """Those of ours that it names; others are somebody else's."""
    claim = next((name for name in SCOPE_CLAIMS if name in claims), None)
    if claim is None:
        return USUAL_SCOPES
    named = claims[claim]
    words = named.split(" ") if isinstance(named, str) else named
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise TokenError(
            f"The token's `{claim}` is neither a text nor a list of texts.", fault=TokenFault.BAD_CLAIM
        )
    return frozenset(scope for scope in Scope if scope in words)
