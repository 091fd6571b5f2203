"""Registrations of service instances, and their validation."""

import hashlib
import ipaddress
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from pilothouse_core.definitions import Place, quote
from pilothouse_core.names import NAME_GRAMMAR, is_instance_id, is_name

STATUSES: Final = ("starting", "up", "suspect", "down", "draining")
ENVIRONMENT: Final = "environment"  # the name in the metadata by which an instance states it
DEFAULT_WEIGHT = 100
DEFAULT_TTL_SECONDS = 30
MAX_METADATA_BYTES = 16 * 1024  # as JSON
_MAX_MEMBERS = MAX_METADATA_BYTES // 6  # "":"",
_MAX_WEIGHT = 1000
_MAX_SECONDS = 24 * 3600
_MAX_TAGS = 32
_MAX_TEXT = 100
_MAX_URL = 1000
_MAX_PORT = 65535
_ID_DIGITS = 32
_PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_WEB = ("http", "https")
# Of addresses that callers open. Others mean something to who opens them: `javascript`, `file`.
SCHEMES: Final = (*_WEB, "ws", "wss", "grpc", "grpcs", "tcp")
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
# Controls, also those of Unicode's C1, and the backslash that some read as `/`:
# harmless until they are decoded.
_ENCODED = re.compile(r"%(?:[01][0-9a-f]|7f|5c|c2%[89][0-9a-f])", re.ASCII | re.IGNORECASE)
_BAD_ENCODING = re.compile(r"%(?![0-9a-f]{2})", re.ASCII | re.IGNORECASE)
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


class FencingToken(NamedTuple):
    """Which registration something belongs to, and which claim of it; a later one is greater."""

    epoch: int  # moves when the instance registers
    term: int  # moves with each claim, deregistration and eviction


@dataclass(frozen=True, slots=True)
class Instance:
    """An instance as it registered; `service_url` is kept as it was sent."""

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
    """Read the registration of an instance; raises DefinitionError with its pointer."""
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
    if checked is not None:
        url_at(checked, _WEB)
    zone, version = _optional(place, "zone"), _optional(place, "version")
    return Instance(
        service_name=service,
        instance_id=default_id(service, url) if own_id is None else instance_id_at(own_id),
        service_url=place.at("service_url").text(),
        url=url,
        health_check_url=None if checked is None else checked.text(),
        metadata=_read_metadata(_optional(place, "metadata")),
        tags=_read_tags(_optional(place, "tags")),
        weight=_read_integer(_optional(place, "weight"), DEFAULT_WEIGHT, 0, _MAX_WEIGHT),
        zone=None if zone is None else name_at(zone),
        version=None if version is None else _read_text(version),
        ttl_seconds=_read_integer(
            _optional(place, "ttl_seconds"), DEFAULT_TTL_SECONDS, 1, _MAX_SECONDS
        ),
        warmup_seconds=_read_seconds(_optional(place, "warmup_seconds")),
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


def environment_in(metadata: Mapping[str, str]) -> str | None:
    """Return the environment that the metadata of an instance states; None if it states none."""
    stated = metadata.get(ENVIRONMENT)
    return stated if isinstance(stated, str) and is_name(stated) else None


def default_id(service: str, url: Url) -> str:
    """Name an instance that names itself not: the same service and URL give the same id.

    A public contract, frozen by vectors: the first 32 hexadecimal digits of SHA-256 of service,
    line feed and URL, its port written out.
    """
    return hashlib.sha256(f"{service}\n{url}".encode()).hexdigest()[:_ID_DIGITS]


def read_url(text: str) -> Url:
    """Take an absolute URL apart; raises DefinitionError, its pointer empty."""
    return url_at(Place(text))


def url_at(place: Place, schemes: Sequence[str] = SCHEMES) -> Url:
    """Read an absolute URL with one of these schemes; raises DefinitionError with the place."""
    text = place.text(_MAX_URL)
    if "://" not in text:
        place.fail("is not an absolute URL", "bad_url")
    if "@" in text.split("://", 1)[1].split("/", 1)[0]:
        place.fail("must not hold credentials", "bad_url")
    match = _URL.fullmatch(text)
    if match is None:
        is_ascii = text.isascii()
        place.fail(
            "cannot be read as a URL"
            if is_ascii
            else "cannot be read as a URL: hosts beyond ASCII"
            " are written as xn--..., other characters percent-encoded",
            "bad_url",
        )
    scheme = match["scheme"].lower()
    if scheme not in schemes:
        place.fail(
            f"has the scheme {scheme[:40]}, which is not one of {', '.join(schemes)}", "bad_url"
        )
    if _BAD_ENCODING.search(text):
        place.fail("holds a % that begins no percent-encoding", "bad_url")
    if _ENCODED.search(text):
        place.fail("holds an encoded control character or backslash", "bad_url")
    path = "" if match["path"] == "/" and not match["query"] else match["path"]
    return Url(
        scheme, _read_host(place, match), _read_port(place, scheme, match), path, match["query"]
    )


def _read_host(place: Place, match: re.Match[str]) -> str:
    try:
        if match["six"] is not None:
            six = ipaddress.IPv6Address(match["six"])
            return str(six.ipv4_mapped or six)  # the same address, whatever wrote it
        host = match["host"].lower()
        # Resolvers also read 127.1, 0x7f.1 and 2130706433 as addresses: one spelling is enough.
        last = host.rstrip(".").rpartition(".")[2]
        if last.isdigit() or re.fullmatch("0x[0-9a-f]*", last):
            return str(ipaddress.IPv4Address(host))
    except ValueError:
        place.fail("holds an address that cannot be read", "bad_url")
    if len(host) > _MAX_HOST or not all(map(_LABEL.fullmatch, host.removesuffix(".").split("."))):
        place.fail("holds a host that cannot exist", "bad_url")
    return host


def _read_port(place: Place, scheme: str, match: re.Match[str]) -> int:
    digits = match["port"]
    if not digits:
        if scheme not in _PORTS:
            place.fail(f"names no port, and {scheme} has none of its own", "bad_url")
        return _PORTS[scheme]
    port = int(digits) if len(digits) <= len(str(_MAX_PORT)) else 0
    if not 1 <= port <= _MAX_PORT:
        place.fail(f"holds a port outside of 1 to {_MAX_PORT}", "bad_url")
    return port


def name_at(place: Place) -> str:
    """Read the name of a service or a zone."""
    name = place.text()
    if not is_name(name):
        place.fail(f"{quote(name)} is not a valid name: {NAME_GRAMMAR}", "bad_name")
    return name


def instance_id_at(place: Place) -> str:
    text = place.text()
    if not is_instance_id(text):
        place.fail(
            f"{quote(text)} is not an instance id: 1 to 128 letters, digits, '.', '_', '-', ':' and"
            " '@', the first and the last a letter, a digit or '_'",
            "bad_name",
        )
    return text


def _optional(place: Place, name: str) -> Place | None:
    member = place.at(name)
    return None if member.value is None else member


def _read_text(place: Place) -> str:
    text = place.text(_MAX_TEXT)
    if not text or not text.isprintable():
        place.fail("is empty or holds characters that cannot be shown", "bad_text")
    return text


def _read_tags(place: Place | None) -> tuple[str, ...]:
    return () if place is None else tuple(map(_read_text, place.items(_MAX_TAGS)))


def _read_metadata(place: Place | None) -> Mapping[str, str]:
    if place is None:
        return {}
    members = place.object()
    if len(members) > _MAX_MEMBERS:  # counted before each of them is looked at
        place.fail(
            f"has {len(members)} members, more than {MAX_METADATA_BYTES} bytes can hold",
            "too_large",
        )
    for name, value in members.items():
        if type(value) is str and len(value) <= MAX_METADATA_BYTES and "\0" not in name + value:
            continue
        place.at(name).text(MAX_METADATA_BYTES)
        place.at(name).fail("holds a NUL character", "bad_text")
    try:
        size = len(compact_json(dict(members)))
    except UnicodeEncodeError:
        place.fail("holds half of a surrogate pair", "bad_text")
    if size > MAX_METADATA_BYTES:
        place.fail(f"takes {size} bytes, more than {MAX_METADATA_BYTES}", "too_large")
    return dict(members)


def compact_json(value: object) -> bytes:
    """Write JSON as small as it gets; raises UnicodeEncodeError for half a surrogate pair."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _read_integer(place: Place | None, default: int, least: int, most: int) -> int:
    if place is None:
        return default
    number = place.number()
    if number != int(number) or not least <= number <= most:
        place.fail(f"is not a whole number from {least} to {most}", "out_of_range")
    return int(number)


def _read_seconds(place: Place | None) -> float:
    if place is None:
        return 0.0
    seconds = place.number()
    if not 0 <= seconds <= _MAX_SECONDS:
        place.fail(f"is not between 0 and {_MAX_SECONDS}", "out_of_range")
    return seconds
