"""What tokens are checked with, as the settings have it."""

from functools import partial
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING

from image_processor.errors import ConfigurationError, ImageProcessorError
from image_processor.settings import Settings
from image_processor.tokens import Keys, Rules, SecretKeys, TokenVerifier

if TYPE_CHECKING:
    from image_processor.outbound import Outbound

OWN_NETWORKS = tuple(
    map(ip_network, ("10.0.0.0/8", "127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1/128", "fc00::/7"))
)
"""Where an issuer of one's own may live, over plain HTTP too: its address comes from the settings alone."""
MAX_KEY_SET_BYTES = 256 * 1024
FETCH_SECONDS = 5.0


def open_verifier(settings: Settings) -> TokenVerifier:
    """What checks tokens; nobody is asked yet. Raises ConfigurationError, MissingExtraError."""
    rules = Rules(
        algorithm=settings.jwt_algorithm,
        audience=settings.jwt_audience,
        issuer=settings.jwt_issuer,
        leeway_seconds=settings.jwt_leeway_seconds,
    )
    return TokenVerifier(_keys(settings), rules)


def check_tokens(settings: Settings) -> None:
    """Raise ConfigurationError or MissingExtraError where no token could ever be checked."""
    open_verifier(settings)


def _keys(settings: Settings) -> Keys:
    has_public_keys = bool(settings.jwt_public_key or settings.jwt_jwks_url)
    if settings.signs_tokens:
        if has_public_keys:
            raise ConfigurationError(
                f"JWT_PUBLIC_KEY and JWT_JWKS_URL need JWT_ALGORITHM=RS256, ES256 or their kin; it is "
                f"{settings.jwt_algorithm}."
            )
        return SecretKeys((settings.jwt_secret_key, *settings.jwt_previous_secrets), settings.jwt_algorithm)
    if not has_public_keys or (settings.jwt_public_key and settings.jwt_jwks_url):
        raise ConfigurationError(
            f"JWT_ALGORITHM={settings.jwt_algorithm} needs either JWT_PUBLIC_KEY or JWT_JWKS_URL."
        )
    return _published_keys(settings) if settings.jwt_jwks_url else _given_keys(settings)


def _given_keys(settings: Settings) -> Keys:
    from image_processor.tokens.public_keys import PemKeys  # noqa: PLC0415 - an extra

    return PemKeys(_pem(settings.jwt_public_key), settings.jwt_algorithm)


def _pem(given: str) -> str:
    """The text, in which line ends may be written as backslash and n; or what is in the file of that name."""
    if "-----BEGIN" in given:
        return given.replace("\\n", "\n")
    try:
        return Path(given).read_text(encoding="ascii")
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"JWT_PUBLIC_KEY is neither PEM nor a file that can be read: {error}."
        ) from error


def _published_keys(settings: Settings) -> Keys:
    from image_processor.outbound import Outbound  # noqa: PLC0415 - other tokens need no way out
    from image_processor.tokens.published_keys import PublishedKeys  # noqa: PLC0415 - an extra

    if not settings.jwt_audience and not settings.jwt_issuer:
        raise ConfigurationError(
            "With JWT_JWKS_URL, JWT_AUDIENCE or JWT_ISSUER must be set: else tokens that were issued for "
            "other services would be accepted here."
        )
    outbound = Outbound(private_networks=OWN_NETWORKS)
    try:
        url = outbound.check(settings.jwt_jwks_url)
    except ImageProcessorError as error:
        raise ConfigurationError(f"JWT_JWKS_URL cannot be fetched from: {error}") from error
    return PublishedKeys(
        partial(_fetch, outbound, url), settings.jwt_algorithm, refresh_seconds=settings.jwt_jwks_seconds
    )


def _fetch(outbound: "Outbound", url: str) -> bytes:
    with outbound.get(url, max_bytes=MAX_KEY_SET_BYTES, timeout_seconds=FETCH_SECONDS) as chunks:
        return b"".join(chunks)
