"""Checks the host names and the origins of requests.

With open access, any page in a browser that can reach the port could send requests, and read the
responses if its name resolves to this service (DNS rebinding). So `Host` must be a name of this
service, and the origin of a page must be this service or in `CORS_ORIGINS`. With required access
pages of other sites have no token.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_address
from typing import NamedTuple

from starlette.types import Scope

from app.errors import Forbidden, Unparsable

_AUTHORITY = re.compile(
    r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*)\.?)(?::([0-9]{0,5}))?"
)
_ORIGIN = re.compile(r"(https?)://([^/?#\s]+)")
_REFERER = re.compile(r"https?://[^/?#\s]+")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_HIGHEST_PORT = 65535
_CHANGES_NOTHING = frozenset({"GET", "HEAD", "OPTIONS"})
_NO_FOREIGN_SITE = frozenset({b"same-origin", b"none"})
_OF_PAGES = frozenset({b"origin", b"sec-fetch-site", b"referer"})
_MAX_CACHED_HOSTS = 1000
_Server = tuple[str, int | None] | None


class BadHost(Unparsable):
    code = "bad_host"


class ForeignHost(Forbidden):
    code = "foreign_host"

    def __init__(self) -> None:
        super().__init__(
            "access is open, and `Host` is not a name of this service: list it in ALLOWED_HOSTS,"
            " or require tokens"
        )


class ForeignOrigin(Forbidden):
    code = "foreign_origin"

    def __init__(self) -> None:
        super().__init__(
            "access is open, and pages of other sites may not call: list the site in CORS_ORIGINS,"
            " or require tokens"
        )


class Authority(NamedTuple):
    """A normalized host, and the port if it is stated."""

    host: str
    port: int | None


class Origin(NamedTuple):
    scheme: str
    host: str
    port: int


def parse_authority(text: str) -> Authority | None:
    """Parse `host` or `host:port`; otherwise None."""
    match = _AUTHORITY.fullmatch(text)
    if match is None:
        return None
    literal, name, digits = match.groups()
    port = int(digits) if digits else None
    if port is not None and port > _HIGHEST_PORT:
        return None
    if literal is None:
        return Authority(_normalized_host(name), port)
    try:
        return Authority(_plain_address(IPv6Address(literal)), port)
    except ValueError:
        return None


def parse_origin(text: str) -> Origin | None:
    """Parse the origin of a web page; None for `null` and all others."""
    match = _ORIGIN.fullmatch(text.lower())
    authority = None if match is None else parse_authority(match[2])
    if match is None or authority is None:
        return None
    port = _DEFAULT_PORTS[match[1]] if authority.port is None else authority.port
    return Origin(match[1], authority.host, port)


def _normalized_host(name: str) -> str:
    try:
        return str(ip_address(name))
    except ValueError:
        return name.lower()


def _plain_address(address: IPv6Address) -> str:
    return str(address.ipv4_mapped or address)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@dataclass(frozen=True, slots=True)
class SitePolicy:
    """Decides which hosts and origins are accepted; `hosts` is None with required access.

    Used by `app.web.fast_path` for its requests and by `app.web.boundary` for all others.
    """

    hosts: frozenset[Authority] | None = None
    domains: tuple[str, ...] = ()  # including all subdomains
    listens_everywhere: bool = False
    origins: frozenset[Origin] = frozenset()  # allowed CORS origins
    # Results by `Host` and server address.
    _accepted_hosts: dict[tuple[bytes, _Server], bool] = field(default_factory=dict, repr=False)

    @classmethod
    def of_required_access(cls, origins: Iterable[str]) -> "SitePolicy":
        """Accept any host and origin; with CORS, browsers know which pages may read responses."""
        return cls(origins=_origins(origins))

    @classmethod
    def of_open_access(
        cls, listens_on: str, allowed_hosts: Iterable[str], origins: Iterable[str]
    ) -> "SitePolicy":
        """Accept loopback names, the listening address and the listed hosts."""
        listed = list(allowed_hosts)
        names = [host for host in listed if not host.startswith("*.")]
        hosts = [_parse_listed_host(host) for host in (listens_on, *names)]
        return cls(
            hosts=frozenset(host for host in hosts if host is not None),
            domains=tuple(host[1:].lower() for host in listed if host.startswith("*.")),
            listens_everywhere=listens_on in {"", "0.0.0.0", "::"},  # noqa: S104 - compared, not bound
            origins=_origins(origins),
        )

    def is_for_programs(self, headers: Mapping[bytes, bytes], server: _Server) -> bool:
        """Whether a request is certainly acceptable; each header occurs once."""
        host = headers.get(b"host")
        if host is None or not self._accepts(host, server):
            return False
        return self.hosts is None or _OF_PAGES.isdisjoint(headers)

    def check(self, scope: Scope, *, any_host: bool = False) -> None:
        """Raise BadHost, ForeignHost or ForeignOrigin for a request that is not accepted.

        With `any_host` a request that changes nothing may have any host, or none.
        """
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        host = self._checked_host(scope, headers, any_host=any_host)
        if self.hosts is not None and self._is_of_foreign_page(scope["method"], headers, host):
            raise ForeignOrigin

    def _checked_host(
        self, scope: Scope, headers: list[tuple[bytes, bytes]], *, any_host: bool
    ) -> Authority | None:
        values = [value for name, value in headers if name == b"host"]
        host = parse_authority(values[0].decode("latin-1")) if len(values) == 1 else None
        is_exempt = any_host and scope["method"] in _CHANGES_NOTHING
        if is_exempt or (not values and scope.get("http_version") != "1.1"):
            return host
        if host is None:
            raise BadHost(
                "a request must have one valid `Host`: the name of this service and its port"
            )
        if not self._accepts(values[0], scope.get("server")):
            raise ForeignHost
        return host

    def _accepts(self, raw: bytes, server: _Server) -> bool:
        try:
            return self._accepted_hosts[raw, server]
        except KeyError:
            is_ours = self._is_ours(raw, server)
            if len(self._accepted_hosts) >= _MAX_CACHED_HOSTS:
                self._accepted_hosts.clear()
            self._accepted_hosts[raw, server] = is_ours
            return is_ours

    def _is_ours(self, raw: bytes, server: _Server) -> bool:
        named = parse_authority(raw.decode("latin-1"))
        if named is None:
            return False
        if self.hosts is None or _is_loopback(named.host):
            return True
        if named in self.hosts or Authority(named.host, None) in self.hosts:
            return True
        if named.host.endswith(self.domains):
            return True
        # An IP address cannot be rebound by DNS.
        return (
            self.listens_everywhere
            and server is not None
            and named.host == _normalized_host(server[0])
        )

    def _is_of_foreign_page(
        self, method: str, headers: list[tuple[bytes, bytes]], host: Authority | None
    ) -> bool:
        stated = {name: value for name, value in headers if name in _OF_PAGES}
        origins = [value for name, value in headers if name == b"origin"]
        if origins:
            return not all(self._may_call(value.decode("latin-1"), host) for value in origins)
        site = stated.get(b"sec-fetch-site")
        if site is not None:
            # Navigation from other sites is allowed, since it changes nothing.
            is_visit = method in _CHANGES_NOTHING and (b"sec-fetch-mode", b"navigate") in headers
            return site not in _NO_FOREIGN_SITE and not is_visit
        # Browsers before 2020 send forms without `Origin`.
        referer = stated.get(b"referer")
        if referer is None or method in _CHANGES_NOTHING:
            return False
        page = _REFERER.match(referer.decode("latin-1"))
        return page is None or not self._may_call(page[0], host)

    def _may_call(self, site: str, host: Authority | None) -> bool:
        origin = parse_origin(site)
        if origin is None:
            return False
        if origin in self.origins:
            return True
        if host is None:
            return False
        # Behind a TLS proxy the service sees http where the browser sees https.
        own = _DEFAULT_PORTS[origin.scheme] if host.port is None else host.port
        return (origin.host, origin.port) == (host.host, own)


def _origins(texts: Iterable[str]) -> frozenset[Origin]:
    return frozenset(origin for origin in map(parse_origin, texts) if origin)


def _parse_listed_host(host: str) -> Authority | None:
    """Parse a host of the settings; IPv6 addresses may have no brackets."""
    return parse_authority(f"[{host}]" if host.count(":") > 1 and host[0] != "[" else host)
