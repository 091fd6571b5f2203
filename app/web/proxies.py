"""Client address of a request behind trusted proxies."""

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from starlette.types import Scope

Address = IPv4Address | IPv6Address
_MOST_HOPS = 50
_SCHEMES = (b"http", b"https")


class TrustedProxies:
    """Accepts `X-Forwarded-For` and `X-Forwarded-Proto` only from these networks."""

    def __init__(self, networks: Iterable[str]) -> None:
        """Parse addresses and networks; raises ValueError."""
        self._networks: list[IPv4Network | IPv6Network] = [ip_network(text) for text in networks]

    def resolve(self, scope: Scope) -> Scope:
        """Return the scope with the nearest address that is not a trusted proxy as its client."""
        peer = _address((scope.get("client") or ("", 0))[0])
        if peer is None or not self._are_trusted(peer):
            return scope
        client = peer
        for hop in _hops(scope):
            if hop is None:  # not an address: the last known hop is the client
                break
            client = hop
            if not self._are_trusted(hop):
                break
        return {**scope, "client": (str(client), 0), "scheme": _scheme(scope)}

    def _are_trusted(self, address: Address) -> bool:
        return any(address in network for network in self._networks)


def _hops(scope: Scope) -> Iterator[Address | None]:
    """Yield the addresses added by proxies, the last one first."""
    text = b",".join(_values(scope, b"x-forwarded-for")).decode("latin-1")
    for hop in reversed(text.rsplit(",", _MOST_HOPS)[-_MOST_HOPS:]) if text else ():
        yield _address(hop.strip())


def _address(text: str) -> Address | None:
    """Parse `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1` or `[2001:db8::1]:80`; otherwise None."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    if "%" in text:  # a zone id may be any text
        return None
    try:
        ip = ip_address(text)
    except ValueError:
        return None
    mapped = ip.ipv4_mapped if isinstance(ip, IPv6Address) else None
    return mapped or ip


def _scheme(scope: Scope) -> str:
    stated = b",".join(_values(scope, b"x-forwarded-proto")).rpartition(b",")[2].strip().lower()
    scheme: str = stated.decode() if stated in _SCHEMES else scope["scheme"]
    return scheme


def _values(scope: Scope, name: bytes) -> list[bytes]:
    return [value for header, value in scope["headers"] if header == name]
