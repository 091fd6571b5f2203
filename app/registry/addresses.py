"""Where health probes may go: whoever registers an instance chooses the address they are sent to.

Private networks are where services live. What is refused answers to this machine or this network
segment alone, and trusts whoever can reach it.
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
# Of IPv6 addresses that stand for an IPv4 address, which is what is reached in the end: by how many
# bits it is shifted. NAT64 (RFC 6052, 8215), 6to4, and the old "compatible" ones.
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
    """Which addresses may be probed; `allowed` networks may be whatever else they are."""

    def __init__(self, allowed: Sequence[Network] = ()) -> None:
        self._allowed = tuple(allowed)

    def permits(self, address: Address) -> bool:
        """Tell whether every address this one stands for may be reached, or is allowed."""
        return all(self._permits(form) for form in _forms(address))

    def _permits(self, address: Address) -> bool:
        return _is_in(address, self._allowed) or not _is_in(address, _REFUSED)


def _is_in(address: Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks)


def _forms(address: Address) -> Iterator[Address]:
    """Name what is reached in the end: an embedded IPv4 address, or the address itself."""
    if isinstance(address, IPv4Address):
        yield address
        return
    number = int(address)
    found: list[Address] = [
        IPv4Address(number >> by & _IPV4_BITS) for n, by in _EMBEDDING if address in n
    ]
    if address in _TEREDO and address.teredo is not None:
        found.extend(address.teredo)
    # `::` and `::1` look like compatible ones, and are themselves.
    if not found or number <= 1:
        found = [address]
    yield from found
