"""Instances of services as they register, and the rules their registrations keep."""

import hashlib
import ipaddress
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from pilothouse_core.definitions import Place, shown
from pilothouse_core.names import is_name

STATUSES: Final = ("starting", "up", "suspect", "down", "draining")
DEFAULT_WEIGHT = 100
DEFAULT_TTL_SECONDS = 30
MAX_METADATA_BYTES = 16 * 1024  # as JSON
_MAX_WEIGHT = 1000
_MAX_SECONDS = 24 * 3600
_MAX_TAGS = 32
_MAX_TEXT = 100
_MAX_URL = 1000
_MAX_PORT = 65535
_ID_DIGITS = 32
_PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_WEB = ("http", "https")
MEMBERS = (
    *("service_name", "service_url", "health_check_url", "instance_id", "metadata", "tags"),
    *("weight", "zone", "version", "ttl_seconds", "warmup_seconds"),
)
# What is neither a letter nor a digit here needs percent-encoding (RFC 3986).
_URL = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://"
    r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9._-]+))(?::(?P<port>[0-9]*))?"
    r"(?P<path>(?:/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*)?)"
    r"(?P<query>(?:\?[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*)?)",
    re.ASCII,
)
_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?", re.ASCII)
_MAX_HOST = 253


class Url(NamedTuple):
    """An absolute URL, taken apart: `host` without brackets, scheme and host in lower case."""

    scheme: str
    host: str
    port: int
    path: str = ""  # without the slash alone
    query: str = ""  # with its question mark

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.path}{self.query}"


class Tag(NamedTuple):
    """Which registration something belongs to, and which claim of it; a later one is greater."""

    epoch: int  # moves when the instance registers
    term: int  # moves with each claim, deregistration and eviction


@dataclass(frozen=True, slots=True)
class Instance:
    """An instance as it registered; `service_url` stands as it was written."""

    service_name: str
    instance_id: str
    service_url: str
    url: Url
    health_check_url: str | None = None  # None: it sends heartbeats instead
    metadata: Mapping[str, str] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    weight: int = DEFAULT_WEIGHT
    zone: str | None = None
    version: str | None = None
    ttl_seconds: int = DEFAULT_TTL_SECONDS
    warmup_seconds: float = 0.0


def read_registration(definition: object) -> Instance:
    """Read what an instance sends to register; raises DefinitionError with the place."""
    return instance_at(Place(definition))


def instance_at(place: Place) -> Instance:
    """Read a registration that is a part of something else."""
    place.object(known=MEMBERS)
    service = name_at(place.member("service_name"))
    url = url_at(place.member("service_url"))
    if url.query:
        place.at("service_url").fail("has a query, which clients would lose", "bad_url")
    own_id = _optional(place, "instance_id")
    checked = _optional(place, "health_check_url")
    if checked is not None and url_at(checked).scheme not in _WEB:
        checked.fail("is neither http nor https", "bad_url")
    zone, version = _optional(place, "zone"), _optional(place, "version")
    return Instance(
        service_name=service,
        instance_id=default_id(service, url) if own_id is None else name_at(own_id),
        service_url=place.at("service_url").text(),
        url=url,
        health_check_url=None if checked is None else checked.text(),
        metadata=_metadata(_optional(place, "metadata")),
        tags=_tags(_optional(place, "tags")),
        weight=_whole(_optional(place, "weight"), DEFAULT_WEIGHT, 0, _MAX_WEIGHT),
        zone=None if zone is None else name_at(zone),
        version=None if version is None else _text(version),
        ttl_seconds=_whole(_optional(place, "ttl_seconds"), DEFAULT_TTL_SECONDS, 1, _MAX_SECONDS),
        warmup_seconds=_seconds(_optional(place, "warmup_seconds")),
    )


def instance_json(instance: Instance) -> dict[str, Any]:
    """Return the registration that reads as this instance, without what is not set."""
    written: dict[str, Any] = {
        "service_name": instance.service_name,
        "instance_id": instance.instance_id,
        "service_url": instance.service_url,
        "health_check_url": instance.health_check_url,
        "metadata": dict(instance.metadata),
        "tags": list(instance.tags),
        "weight": instance.weight,
        "zone": instance.zone,
        "version": instance.version,
        "ttl_seconds": instance.ttl_seconds,
        "warmup_seconds": instance.warmup_seconds,
    }
    return {name: value for name, value in written.items() if value is not None}


def default_id(service: str, url: Url) -> str:
    """Name an instance that names itself not: the same service and URL give the same id.

    A public contract, frozen by vectors: the first 32 hexadecimal digits of SHA-256 of service,
    line feed and URL, its port written out.
    """
    return hashlib.sha256(f"{service}\n{url}".encode()).hexdigest()[:_ID_DIGITS]


def read_url(text: str) -> Url:
    """Take an absolute URL apart; raises DefinitionError, its pointer empty."""
    return url_at(Place(text))


def url_at(place: Place) -> Url:
    text = place.text(_MAX_URL)
    if "://" not in text:
        place.fail("is not an absolute URL", "bad_url")
    if "@" in text.split("://", 1)[1].split("/", 1)[0]:
        place.fail("must not hold credentials", "bad_url")
    found = _URL.fullmatch(text)
    if found is None:
        place.fail("cannot be read as a URL", "bad_url")
    scheme = found["scheme"].lower()
    path = "" if found["path"] == "/" and not found["query"] else found["path"]
    return Url(scheme, _host(place, found), _port(place, scheme, found), path, found["query"])


def _host(place: Place, found: re.Match[str]) -> str:
    try:
        if found["six"] is not None:
            six = ipaddress.IPv6Address(found["six"])
            return str(six.ipv4_mapped or six)  # the same address, whatever wrote it
        host = found["host"].lower()
        # Resolvers also read 127.1, 0x7f.1 and 2130706433 as addresses: one spelling is enough.
        last = host.rstrip(".").rpartition(".")[2]
        if last.isdigit() or re.fullmatch("0x[0-9a-f]*", last):
            return str(ipaddress.IPv4Address(host))
    except ValueError:
        place.fail("holds an address that cannot be read", "bad_url")
    if len(host) > _MAX_HOST or not all(map(_LABEL.fullmatch, host.removesuffix(".").split("."))):
        place.fail("holds a host that cannot exist", "bad_url")
    return host


def _port(place: Place, scheme: str, found: re.Match[str]) -> int:
    digits = found["port"]
    if not digits:
        if scheme not in _PORTS:
            place.fail(f"names no port, and {scheme} has none of its own", "bad_url")
        return _PORTS[scheme]
    port = int(digits) if len(digits) <= len(str(_MAX_PORT)) else 0
    if not 1 <= port <= _MAX_PORT:
        place.fail(f"holds a port outside of 1 to {_MAX_PORT}", "bad_url")
    return port


def name_at(place: Place) -> str:
    """Read the name of a service, an instance or a zone."""
    name = place.text()
    if not is_name(name):
        place.fail(f"{shown(name)} is no name: letters, digits, '.', '_' and '-'", "bad_name")
    return name


def _optional(place: Place, name: str) -> Place | None:
    found = place.at(name)
    return None if found.value is None else found


def _text(place: Place) -> str:
    text = place.text(_MAX_TEXT)
    if not text or not text.isprintable():
        place.fail("is empty or holds characters that cannot be shown", "bad_text")
    return text


def _tags(place: Place | None) -> tuple[str, ...]:
    return () if place is None else tuple(map(_text, place.items(_MAX_TAGS)))


def _metadata(place: Place | None) -> Mapping[str, str]:
    if place is None:
        return {}
    for name in place.object():
        if "\0" in name + place.at(name).text(MAX_METADATA_BYTES):
            place.at(name).fail("holds a NUL character", "bad_text")
    try:
        size = len(compact(dict(place.object())))
    except UnicodeEncodeError:
        place.fail("holds half of a surrogate pair", "bad_text")
    if size > MAX_METADATA_BYTES:
        place.fail(f"takes {size} bytes, more than {MAX_METADATA_BYTES}", "too_large")
    return dict(place.object())


def compact(value: object) -> bytes:
    """Write JSON as small as it gets; raises UnicodeEncodeError for half a surrogate pair."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _whole(place: Place | None, default: int, least: int, most: int) -> int:
    if place is None:
        return default
    number = place.number()
    if number != int(number) or not least <= number <= most:
        place.fail(f"is no whole number from {least} to {most}", "out_of_range")
    return int(number)


def _seconds(place: Place | None) -> float:
    if place is None:
        return 0.0
    seconds = place.number()
    if not 0 <= seconds <= _MAX_SECONDS:
        place.fail(f"is not between 0 and {_MAX_SECONDS}", "out_of_range")
    return seconds
