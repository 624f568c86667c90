"""
Which IP addresses may be connected to. No names here and no sockets.

The tables are those of the IANA special-purpose address registries (RFC 6890 and its successors), stricter
where in doubt. `ipaddress.is_global` is not used: up to Python 3.12 it calls multicast, site-local,
IPv4-compatible, 6to4 and NAT64 addresses global.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from image_processor.errors import AddressRefusedError

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_SPECIAL_V4 = tuple(
    map(
        IPv4Network,
        (
            "0.0.0.0/8",  # this host on this network; Linux takes 0.0.0.0 for loopback
            "10.0.0.0/8",
            "100.64.0.0/10",  # carrier-grade NAT; 100.100.100.200 is a metadata service
            "127.0.0.0/8",
            "168.63.129.16/32",  # Azure's platform service: a public number that every machine there has
            "169.254.0.0/16",  # link-local, and most metadata services
            "172.16.0.0/12",
            "192.0.0.0/24",  # protocol assignments; 192.0.0.192 is a metadata service
            "192.0.2.0/24",
            "192.88.99.0/24",  # 6to4 relays, abandoned
            "192.168.0.0/16",
            "198.18.0.0/15",
            "198.51.100.0/24",
            "203.0.113.0/24",
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",  # reserved, and broadcast
        ),
    )
)
_UNICAST_V6 = IPv6Network("2000::/3")
"""All that was ever given out as global unicast; the rest is loopback, local, multicast or reserved."""
_SPECIAL_V6 = tuple(
    map(
        IPv6Network,
        (
            "2001::/23",  # protocol assignments, with Teredo
            "2001:db8::/32",
            "2002::/16",  # 6to4: leads to whatever IPv4 address it embeds
            "3ffe::/16",
            "3fff::/20",
        ),
    )
)
_NAT64 = IPv6Network("64:ff9b::/96")


def is_public(address: Address) -> bool:
    """Whether it is global unicast; an IPv6 address that stands for an IPv4 address is judged by that."""
    match _unwrapped(address):
        case IPv4Address() as short:
            return not any(short in network for network in _SPECIAL_V4)
        case long:
            return long in _UNICAST_V6 and not any(long in network for network in _SPECIAL_V6)


@dataclass(frozen=True)
class Territory:
    """Where connections may lead: to all that is public, and into these networks."""

    private_networks: tuple[Network, ...] = ()

    def is_private(self, address: Address) -> bool:
        """Whether it lies in one of the private networks."""
        candidates = {address, _unwrapped(address)}
        return any(one in network for one in candidates for network in self.private_networks)

    def check(self, addresses: Iterable[Address], *, is_encrypted: bool) -> None:
        """
        Nothing, if all of them may be connected to; without encryption, only private ones may.

        One that may not spoils all: what a name answers with should not depend on our luck. The address is
        not told, for who asks may be a stranger to our resolver. Raises AddressRefusedError.
        """
        for address in addresses:
            if self.is_private(address):
                continue
            if not is_public(address):
                raise AddressRefusedError("The URL leads to an address that is not public.")
            if not is_encrypted:
                raise AddressRefusedError("The URL leads to a public address, and so it must be https://.")


def _unwrapped(address: Address) -> Address:
    """The IPv4 address that an IPv6 address stands for on this machine or behind a NAT64; else itself."""
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address
