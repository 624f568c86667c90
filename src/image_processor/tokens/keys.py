"""What signatures are checked with: the interface, and secrets. Public keys have modules of their own."""

from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Protocol

import jwt

from image_processor.errors import ConfigurationError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    Key = bytes | RSAPublicKey | EllipticCurvePublicKey


class Keys(Protocol):
    """The keys of one algorithm."""

    def candidates(self, kid: str | None) -> "Sequence[Key]":
        """
        Those that a token which names this key may be signed with; asks nobody.

        Raises TokenError for a key that is not known, UnavailableError where that cannot be told now.
        """

    def refresh(self, kid: str | None) -> Future[None] | None:
        """What to wait for before `candidates` is asked for this key; None where that can be done at once."""


class SecretKeys:
    """
    Secrets of HS256 and its kin: several while one replaces another. Tokens name none of them.

    Raises ConfigurationError for one that is no secret, such as a public key in PEM.
    """

    def __init__(self, secrets: Iterable[str], algorithm: str) -> None:
        self._keys = [_checked(secret, algorithm) for secret in secrets if secret]

    def candidates(self, kid: str | None) -> "Sequence[Key]":  # noqa: ARG002 - any of them may fit
        """All of them."""
        return self._keys

    def refresh(self, kid: str | None) -> None:
        """Nothing: they never change."""


def _checked(secret: str, algorithm: str) -> bytes:
    try:
        return jwt.get_algorithm_by_name(algorithm).prepare_key(secret)  # type: ignore[no-any-return]
    except jwt.InvalidKeyError as error:
        raise ConfigurationError(
            f"JWT_SECRET_KEY is a key of another kind: {algorithm} needs a secret, `openssl rand -hex 32`."
        ) from error
