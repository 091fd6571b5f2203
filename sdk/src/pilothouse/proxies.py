"""Choosing a proxy: none, a stated one, or that of the environment, which is read defensively."""

import ipaddress
import os
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

_ENVIRONMENT, _NONE = "environment", "none"
_SCHEMES = frozenset({"http", "https", "socks5", "socks5h"})
_PORTS = {"http": 80, "https": 443}


def choose_proxy(
    choice: str | None, url: str, variables: Mapping[str, str] | None = None
) -> str | None:
    """Return the URL of the proxy for requests to `url`, None for a direct connection.

    `choice` is None or `none` (no proxy), a URL, or `environment`: then `http_proxy` counts for
    http and `https_proxy` for https, else `all_proxy`, unless `no_proxy` names the host. Upper-case
    names count where there is no lower-case one.

    Raises ValueError, which quotes no password, for a proxy that cannot be used.
    """
    if not choice or choice == _NONE:
        return None
    if choice != _ENVIRONMENT:
        return _check_proxy(choice, "the proxy")
    known = os.environ if variables is None else variables
    if _is_excluded(url, _read_variable(known, "no_proxy")[1]):
        return None
    for name in (f"{urlsplit(url).scheme}_proxy", "all_proxy"):
        variable, value = _read_variable(known, name)
        if value:
            return _check_proxy(value, variable)
    return None


def _read_variable(known: Mapping[str, str], name: str) -> tuple[str, str]:
    """Return the variable that counts, and what it holds."""
    if name in known:
        return name, known[name].strip()
    if name == "http_proxy" and "REQUEST_METHOD" in known:
        return name, ""  # in a CGI program a caller sets HTTP_PROXY with the header Proxy
    return name.upper(), known.get(name.upper(), "").strip()


def _check_proxy(value: str, origin: str) -> str:
    proxy = value if "://" in value else f"http://{value}"
    try:
        parts = urlsplit(proxy)
        is_usable = parts.scheme.lower() in _SCHEMES and parts.hostname and parts.port != 0
    except ValueError:  # a port that is no number, a bracket that is not closed
        is_usable = False
    if not is_usable or not proxy.isprintable() or " " in proxy:
        raise ValueError(f"{origin} is not the URL of an http, https or socks5 proxy")
    return proxy


def _is_excluded(url: str, no_proxy: str) -> bool:
    """Tell whether `no_proxy` names the host; entries that mean nothing are passed over."""
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    port = parts.port or _PORTS.get(parts.scheme)
    address = _parse_address(host)
    for entry in filter(None, (part.strip().lower() for part in no_proxy.split(","))):
        if entry == "*":
            return True
        if address is not None and any(address in network for network in _networks(entry)):
            return True
        name, stated_port = _split_port(entry)
        if stated_port is not None and stated_port != port:
            continue
        if address is not None:
            if _parse_address(name) == address:
                return True
        elif host == (domain := name.removeprefix("*").strip(".")) or (
            domain and host.endswith(f".{domain}")
        ):
            return True
    return False


def _parse_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text.removeprefix("[").removesuffix("]"))
    except ValueError:
        return None


def _networks(entry: str) -> Iterator[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    if "/" in entry:
        try:
            yield ipaddress.ip_network(entry.replace("[", "").replace("]", ""), strict=False)
        except ValueError:
            return


def _split_port(entry: str) -> tuple[str, int | None]:
    """Split `host:port` and `[address]:port`; an address with colons has no port."""
    name, colon, port = entry.rpartition(":")
    is_bare_address = ":" in name and not name.endswith("]")
    if not colon or is_bare_address or not (port.isascii() and port.isdigit()):
        return entry, None
    return name, int(port)
