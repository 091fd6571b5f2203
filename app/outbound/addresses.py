"""Addresses that the service connects to where callers choose them: health probes and webhooks.

Private networks are allowed: services live there. Refused addresses reach only this machine or this
network segment, where servers often trust every client.
"""

from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

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


class AddressPolicy:
    """Decides which addresses may be connected to; `allowed` networks are always permitted."""

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
