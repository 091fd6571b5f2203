"""Addresses that health probes may use, since callers choose the addresses of their instances.

Private networks are allowed: services live there. Refused addresses reach only this machine or this
network segment, where servers often trust every client.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Literal

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_REFUSED: Sequence[Network] = tuple(
    map(
        ip_network,
        (
            "0.0.0.0/8",  # this host
            "127.0.0.0/8",
            "169.254.0.0/16",  # link-local; the metadata of most clouds
            "192.0.0.0/24",  # protocol assignments; Oracle's metadata
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",  # reserved, broadcast
            "100.100.100.200/32",  # Alibaba's metadata
            "168.63.129.16/32",  # Azure's
            "::/128",
            "::1/128",
            "fe80::/10",  # link-local
            "fec0::/10",  # site-local, as it once was
            "ff00::/8",  # multicast
            "fd00:ec2::/32",  # Amazon's metadata
            "fd20:ce::254/128",  # Google's
        ),
    )
)
# IPv6 networks that embed an IPv4 address, with the number of bits by which it is shifted: NAT64
# (RFC 6052, 8215), 6to4, and the old "compatible" ones.
_EMBEDDING: Sequence[tuple[IPv6Network, int]] = (
    (IPv6Network("::ffff:0:0/96"), 0),
    (IPv6Network("::ffff:0:0:0/96"), 0),
    (IPv6Network("::/96"), 0),
    (IPv6Network("64:ff9b::/96"), 0),
    (IPv6Network("64:ff9b:1::/48"), 0),
    (IPv6Network("2002::/16"), 80),
)
_TEREDO = IPv6Network("2001::/32")
_IPV4_BITS = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class AddressWarning:
    """Warning that other machines can hardly reach the registered address of an instance."""

    code: Literal["unspecified_address", "loopback_address"]
    detail: str


def address_warning(host: str, source: str | None) -> AddressWarning | None:
    """Return a warning about the host of an instance that registered from the address `source`.

    An instance on this machine may use loopback addresses. Names are not resolved: they may resolve
    differently for clients.
    """
    if _is_unspecified(host):
        detail = f"{host} is an address to listen on, not one that clients can connect to"
        return AddressWarning("unspecified_address", detail)
    if _is_loopback(host) and not (source is not None and _is_loopback(source)):
        detail = f"{host} is the client's own machine for every client, not the instance"
        return AddressWarning("loopback_address", detail)
    return None


def _is_unspecified(host: str) -> bool:
    try:
        return ip_address(host).is_unspecified
    except ValueError:
        return False


def _is_loopback(host: str) -> bool:
    try:
        address = ip_address(host)
    except ValueError:
        name = host.lower().rstrip(".")
        return name == "localhost" or name.endswith(".localhost")
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback


class AddressPolicy:
    """Decides which addresses may be probed; `allowed` networks are always permitted."""

    def __init__(self, allowed: Sequence[Network] = ()) -> None:
        self._allowed = tuple(allowed)

    def permits(self, address: Address) -> bool:
        """Whether every address that this one embeds is permitted."""
        return all(self._permits(form) for form in _effective_addresses(address))

    def _permits(self, address: Address) -> bool:
        return _is_in(address, self._allowed) or not _is_in(address, _REFUSED)


def _is_in(address: Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks)


def _effective_addresses(address: Address) -> Iterator[Address]:
    """Yield the addresses that are reached: embedded IPv4 addresses, or the address itself."""
    if isinstance(address, IPv4Address):
        yield address
        return
    number = int(address)
    embedded: list[Address] = [
        IPv4Address(number >> by & _IPV4_BITS) for n, by in _EMBEDDING if address in n
    ]
    if address in _TEREDO and address.teredo is not None:
        embedded.extend(address.teredo)
    # `::` and `::1` look like IPv4-compatible addresses but are not.
    if not embedded or number <= 1:
        embedded = [address]
    yield from embedded
