"""
The one grammar of the URLs that we go to, and their canonical form. No look-ups here.

Stricter than what browsers take: whatever two parsers could read in two ways is refused, not interpreted.
"""

import re
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from urllib.parse import quote, urljoin

import idna

from image_processor.errors import AddressRefusedError, InvalidRequestError
from image_processor.outbound.addresses import Address

MAX_URL_LENGTH = 2048
"""In characters, before and after it was made canonical."""
MAX_HOST_LENGTH = 253
DEFAULT_PORTS = {"http": 80, "https": 443}
FIRST_FREE_PORT = 1024
"""Below it only the ports of HTTP itself are gone to: the others belong to other protocols."""
MAX_PORT = 65_535

_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?#]*)(?P<rest>[^#]*)(?:#.*)?")
_AUTHORITY = re.compile(r"(?P<host>\[[^\]]*\]|[^:\[\]]*)(?::(?P<port>[0-9]{0,5}))?")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_NEVER = re.compile(r"[\x00-\x20\x7f-\xa0\\\u2028\u2029\ud800-\udfff]")
_KEPT = "%/?:@!$&'()*+,;=-._~[]|"


@dataclass(frozen=True, kw_only=True)
class WebUrl:
    """A URL in its canonical form, without a fragment."""

    scheme: str
    """`http` or `https`."""
    host: str
    """A name in lower-case ASCII without a dot at its end, or an address without brackets."""
    port: int
    target: str
    """Path and query, beginning with a slash."""

    @property
    def is_encrypted(self) -> bool:
        """Whether TLS is spoken."""
        return self.scheme == "https"

    @property
    def address(self) -> Address | None:
        """The address, where the host is one."""
        return _address(self.host)

    @property
    def authority(self) -> str:
        """Host and port as the `Host` header has them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        """What may be told and logged: paths and queries can hold secrets."""
        return f"{self.scheme}://{self.authority}"

    def __str__(self) -> str:
        return self.origin + self.target

    def joined(self, location: str) -> "WebUrl":
        """Where a redirect from here leads; raises AddressRefusedError where that is nowhere to go."""
        try:
            return parse_url(urljoin(str(self), location))
        except (InvalidRequestError, ValueError) as error:
            raise AddressRefusedError(
                f"{self.origin} redirects to an address that cannot be used."
            ) from error


def parse_url(text: str) -> WebUrl:
    """
    A URL as a stranger wrote it.

    Raises:
        InvalidRequestError: not an `http` or `https` URL, or one outside the grammar.
        AddressRefusedError: an address in an unusual spelling, such as `0x7f.1`.
    """
    if len(text) > MAX_URL_LENGTH:
        raise InvalidRequestError(f"A URL has at most {MAX_URL_LENGTH} characters.")
    if _NEVER.search(text):
        raise InvalidRequestError("A URL has no spaces, control characters or backslashes in it.")
    parts = _URL.fullmatch(text)
    scheme = parts["scheme"].lower() if parts else ""
    if parts is None or scheme not in DEFAULT_PORTS:
        raise InvalidRequestError("A URL begins with https://.")
    host, port = _host_and_port(parts["authority"])
    url = WebUrl(
        scheme=scheme,
        host=host,
        port=DEFAULT_PORTS[scheme] if port is None else _checked_port(port),
        target=_target(parts["rest"]),
    )
    if len(str(url)) > MAX_URL_LENGTH:
        raise InvalidRequestError(f"A URL has at most {MAX_URL_LENGTH} characters, escapes included.")
    return url


def _host_and_port(authority: str) -> tuple[str, int | None]:
    if "@" in authority:
        raise InvalidRequestError("A URL must not hold a user name or password.")
    parts = _AUTHORITY.fullmatch(authority)
    if parts is None:
        raise InvalidRequestError("The URL's host or port is malformed.")
    return _host(parts["host"]), int(parts["port"]) if parts["port"] else None


def _checked_port(port: int) -> int:
    if port in DEFAULT_PORTS.values() or FIRST_FREE_PORT <= port <= MAX_PORT:
        return port
    raise InvalidRequestError(f"The port of a URL is 80, 443, or one from {FIRST_FREE_PORT} to {MAX_PORT}.")


def _target(rest: str) -> str:
    path = rest if rest.startswith("/") else f"/{rest}"
    return quote(path, safe=_KEPT)


def _host(text: str) -> str:
    if text.startswith("["):
        return _long_address(text[1:-1])
    name = _ascii(text).removesuffix(".")
    labels = name.split(".")
    if len(name) > MAX_HOST_LENGTH or not all(map(_LABEL.fullmatch, labels)):
        raise InvalidRequestError("The URL's host is not a name.")
    if _NUMBER.fullmatch(labels[-1]):
        return _short_address(name)
    return name


def _ascii(name: str) -> str:
    """The name as it is looked up: compatibility forms such as full-width digits become what they mean."""
    if name.isascii():
        return name.lower()
    try:
        return idna.encode(name[:MAX_URL_LENGTH], uts46=True).decode("ascii").lower()
    except idna.IDNAError as error:
        raise InvalidRequestError("The URL's host is not a name.") from error


def _short_address(name: str) -> str:
    """Only four decimal numbers: resolvers take octal, hexadecimal and shortened forms for addresses too."""
    try:
        return str(IPv4Address(name))
    except AddressValueError as error:
        raise AddressRefusedError(
            "The URL's host is an address in an unusual spelling; write it as four decimal numbers."
        ) from error


def _long_address(text: str) -> str:
    try:
        address = IPv6Address(text)
    except AddressValueError as error:
        raise InvalidRequestError("The URL's host is not an IPv6 address.") from error
    if address.scope_id is not None:
        raise AddressRefusedError("The URL's address belongs to one network interface of this machine.")
    return str(address)


def _address(host: str) -> Address | None:
    for kind in (IPv4Address, IPv6Address):
        try:
            return kind(host)
        except AddressValueError:
            continue
    return None
