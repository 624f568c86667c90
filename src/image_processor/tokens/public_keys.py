"""Public keys of RS256, ES256 and their kin, read from PEM and from key sets: only those fit to be used."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jwt

from image_processor.errors import ConfigurationError, MissingExtraError, UnavailableError

try:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key
except ModuleNotFoundError as absence:
    _absence: ModuleNotFoundError | None = absence
else:
    _absence = None

if TYPE_CHECKING:
    PublicKey = RSAPublicKey | EllipticCurvePublicKey

RSA_BITS = range(2048, 8192 + 1)
"""RFC 7518, 3.3 asks for 2048; longer ones than 8192 cost more than they give."""
MAX_KEYS = 32
"""Of one set; issuers have two or three."""

_PEM = re.compile(r"-----BEGIN ([A-Z ]+)-----.*?-----END \1-----", re.DOTALL)
_PUBLIC_MEMBERS = {"RSA": ("kty", "n", "e"), "EC": ("kty", "crv", "x", "y")}
_KINDS = {"RS": "RSA", "ES": "EC"}

KeySet = Sequence[tuple[str | None, "PublicKey"]]
"""Keys with their ids, where they have any."""


def check_extra() -> None:
    """Raise MissingExtraError where there is nothing to check such signatures with."""
    if _absence:
        raise MissingExtraError(
            "Tokens signed with private keys need an optional part: pip install image-processor[jwks]."
        ) from _absence


class PemKeys:
    """
    The keys in a PEM text, one or several while one replaces another. Tokens need not name them.

    Raises ConfigurationError for what is no public key of the algorithm, MissingExtraError.
    """

    def __init__(self, text: str, algorithm: str) -> None:
        check_extra()
        self._keys = [_pem_key(block[0], block[1], algorithm) for block in _PEM.finditer(text)][:MAX_KEYS]
        if not self._keys:
            raise ConfigurationError(
                "JWT_PUBLIC_KEY holds no key in PEM: `-----BEGIN PUBLIC KEY-----` and so on."
            )

    def candidates(self, kid: str | None) -> "Sequence[PublicKey]":  # noqa: ARG002 - any of them may fit
        """All of them."""
        return self._keys

    def refresh(self, kid: str | None) -> None:
        """Nothing: they never change."""


def read_key_set(document: bytes, algorithm: str) -> KeySet:
    """
    The keys in a JWK Set (RFC 7517, 5) that this algorithm may be checked with; others are passed over.

    Raises UnavailableError where that is none.
    """
    try:
        keys = json.loads(document)["keys"]
    except (ValueError, RecursionError, KeyError, TypeError) as error:
        raise UnavailableError("What the issuer publishes as its keys is no key set.") from error
    keys = keys[:MAX_KEYS] if isinstance(keys, list) else []
    found = [(jwk.get("kid"), key) for jwk in keys if (key := _jwk_key(jwk, algorithm))]
    if not found:
        raise UnavailableError(f"The issuer publishes no key for {algorithm}.")
    return found


def _pem_key(block: str, label: str, algorithm: str) -> "PublicKey":
    if label.endswith("PRIVATE KEY"):
        raise ConfigurationError(
            "JWT_PUBLIC_KEY holds a private key: give this service the public one alone."
        )
    try:
        key = load_pem_public_key(block.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigurationError(f"JWT_PUBLIC_KEY holds a {label.lower()} that cannot be read.") from error
    if not _fits(key, algorithm):
        raise ConfigurationError(f"JWT_PUBLIC_KEY holds a key that is not fit for {algorithm}.")
    return key  # type: ignore[return-value]


def _jwk_key(jwk: Any, algorithm: str) -> "PublicKey | None":
    """The key, of its public members alone; None for one of another kind or for another purpose."""
    kind = _KINDS[algorithm[:2]]
    if not isinstance(jwk, Mapping) or jwk.get("kty") != kind or not _is_meant(jwk, algorithm):
        return None
    try:
        key = jwt.PyJWK({name: jwk.get(name) for name in _PUBLIC_MEMBERS[kind]}, algorithm).key
    except (jwt.PyJWTError, ValueError, TypeError, AttributeError, UnsupportedAlgorithm):
        return None
    return key if _fits(key, algorithm) else None


def _is_meant(jwk: Mapping[str, Any], algorithm: str) -> bool:
    """Whether it is for signatures of this algorithm, as far as it says (RFC 7517, 4.2 to 4.5)."""
    kid, operations = jwk.get("kid"), jwk.get("key_ops", ["verify"])
    return (
        jwk.get("use", "sig") == "sig"
        and jwk.get("alg", algorithm) == algorithm
        and isinstance(operations, list)
        and "verify" in operations
        and (kid is None or isinstance(kid, str))
    )


def _fits(key: object, algorithm: str) -> bool:
    if algorithm.startswith("RS"):
        return isinstance(key, RSAPublicKey) and key.key_size in RSA_BITS
    return isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1)
