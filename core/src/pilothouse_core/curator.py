"""The format of instances in ZooKeeper, that of Apache Curator's service discovery.

So Curator and Spring Cloud ZooKeeper find our instances and we find theirs. Our own facts are
additional members, which Curator ignores (measured with 5.4). `enabled` is not written, as
Curator's default serializer omits it, and `payload` is null.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pilothouse_core.definitions import DefinitionError, Place
from pilothouse_core.instances import (
    MEMBERS,
    STATUSES,
    FencingToken,
    Instance,
    Url,
    compact_json,
    instance_at,
    instance_json,
    read_url,
)
from pilothouse_core.strict_json import BadJson, loads

# ZooKeeper answers a larger value with no error: it drops the connection, and all nodes with it.
MAX_NODE_BYTES = 64 * 1024
_MAX_TEXT = 1000
_MAX_PARTS = 50
_MARKS = frozenset("/?#@")  # where the host of a URL ends: what follows would be something else
_DIGITS = re.compile(r"\s*[0-9]{1,9}\s*", re.ASCII)
_LARGEST_COUNT = 2**53
_LAST_MOMENT = 253_402_300_799_999  # of the year 9999, after which a date cannot be written


class UnreadableNode(ValueError):
    """What a node holds is no instance; the message says why."""


@dataclass(frozen=True, slots=True)
class DiscoveredInstance:
    """An instance as a node shows it.

    `node` is the node's own name, which may differ from `id`. What others registered is foreign:
    it has no `instance`, and no `tag`.
    """

    service: str
    node: str
    id: str
    url: Url
    registered_at: int | None = None  # milliseconds since 1970
    status: str = "up"
    metadata: Mapping[str, str] = field(default_factory=dict)
    instance: Instance | None = None
    tag: FencingToken | None = None

    @property
    def is_foreign(self) -> bool:
        return self.tag is None


def node_data(
    instance: Instance, tag: FencingToken, registered_at: int, status: str = "up"
) -> bytes:
    """Write an instance as Curator does; `registered_at` in milliseconds since 1970."""
    url = instance.url
    written = {
        "name": instance.service_name,
        "id": instance.instance_id,
        "address": url.host,
        "port": url.port,
        # Curator and Spring take an instance for one of https if, and only if, this is there.
        "sslPort": url.port if url.scheme == "https" else None,
        "payload": None,
        "registrationTimeUTC": registered_at,
        "serviceType": "DYNAMIC",
        "uriSpec": {"parts": _uri_parts(url)},
        **instance_json(instance),
        "status": status,
        "epoch": tag.epoch,
        "term": tag.term,
    }
    return compact_json(written)


def _uri_parts(url: Url) -> list[dict[str, object]]:
    # Curator has a variable for the schemes http and https only: any other is written out.
    scheme = (
        _variable_part("scheme") if url.scheme in {"http", "https"} else _literal_part(url.scheme)
    )
    opened, closed = ("://[", "]:") if ":" in url.host else ("://", ":")
    parts = [
        scheme,
        _literal_part(opened),
        _variable_part("address"),
        _literal_part(closed),
        _variable_part("port"),
    ]
    return [*parts, _literal_part(url.path)] if url.path else parts


def _literal_part(text: str) -> dict[str, object]:
    return {"value": text, "variable": False}


def _variable_part(name: str) -> dict[str, object]:
    return {"value": name, "variable": True}


def read_nodes(
    service: str, nodes: Mapping[str, bytes]
) -> tuple[tuple[DiscoveredInstance, ...], Mapping[str, str]]:
    """Read the nodes of a service by name; returns the instances, and why nodes are unreadable.

    A node that cannot be read must not hide the others, as it does in a query of Curator.
    """
    instances, unreadable = [], {}
    for node, data in sorted(nodes.items()):
        try:
            instances.append(read_node(service, node, data))
        except UnreadableNode as error:
            unreadable[node] = str(error)
    return tuple(instances), unreadable


def read_node(service: str, node: str, data: bytes) -> DiscoveredInstance:
    """Read one node of a service; raises UnreadableNode, which quotes nothing but names."""
    if len(data) > MAX_NODE_BYTES:
        raise UnreadableNode(f"{len(data)} bytes are more than {MAX_NODE_BYTES}")
    try:
        place = Place(loads(data))
        place.object()
        return _read_own(service, node, place) or _read_foreign(service, node, place)
    except BadJson as error:
        raise UnreadableNode(error.reason) from None
    except DefinitionError as error:
        raise UnreadableNode(str(error)) from None


def _read_own(service: str, node: str, place: Place) -> DiscoveredInstance | None:
    epoch, term = _read_count(place.at("epoch")), _read_count(place.at("term"))
    if not epoch or not term:
        return None
    instance = instance_at(Place({name: place.value[name] for name in MEMBERS if place.has(name)}))
    return DiscoveredInstance(
        service=service,
        node=node,
        id=instance.instance_id,
        url=instance.url,
        registered_at=_read_time(place.at("registrationTimeUTC")),
        status=place.member("status").one_of(STATUSES),
        metadata=instance.metadata,
        instance=instance,
        tag=FencingToken(epoch, term),
    )


def _read_foreign(service: str, node: str, place: Place) -> DiscoveredInstance:
    id_ = place.at("id").value
    metadata = _spring_metadata(place.at("payload").value)
    return DiscoveredInstance(
        service=service,
        node=node,
        id=id_ if isinstance(id_, str) and 0 < len(id_) <= _MAX_TEXT else node,
        url=_foreign_url(place),
        registered_at=_read_time(place.at("registrationTimeUTC")),
        status="down" if place.at("enabled").value is False else _spring_status(metadata),
        metadata=metadata,
    )


def _foreign_url(place: Place) -> Url:
    """Build the URL as Curator's `buildUriSpec` does; where that gives none, of the facts alone."""
    address = place.member("address").text(_MAX_TEXT)
    if not _MARKS.isdisjoint(address):
        place.at("address").fail("is more than an address", "bad_url")
    port, secure = _read_port(place.at("port")), _read_port(place.at("sslPort"))
    scheme = "http" if secure is None else "https"
    facts = {
        "scheme": scheme,
        "name": place.at("name").value,
        "id": place.at("id").value,
        "address": address,
        # Curator leaves it out then, and the URL would lead to the default port of https.
        "port": secure if port is None else port,
        "ssl-port": secure,
        "registration-time-utc": place.at("registrationTimeUTC").value,
        "service-type": place.at("serviceType").value,
        "[": "{",
        "]": "}",
    }
    try:
        return read_url(_build_uri(place, facts))
    except DefinitionError:
        host = f"[{address}]" if ":" in address else address
        chosen = port if secure is None else secure
        # Without any port it is that of the scheme, as in a URL.
        return read_url(f"{scheme}://{host}" if chosen is None else f"{scheme}://{host}:{chosen}")


def _build_uri(place: Place, facts: Mapping[str, Any]) -> str:
    words = []
    for part in place.member("uriSpec").member("parts").items(_MAX_PARTS):
        value = part.member("value").text(_MAX_TEXT)
        known = facts.get(value) if part.member("variable").boolean() else value
        words.append("" if known is None else str(known))
    return "".join(words)


def _spring_metadata(payload: object) -> Mapping[str, str]:
    """Return the metadata of Spring Cloud ZooKeeper's payload."""
    metadata = payload.get("metadata") if isinstance(payload, Mapping) else None
    if not isinstance(metadata, Mapping):
        return {}
    return {name: value for name, value in metadata.items() if isinstance(value, str)}


def _spring_status(metadata: Mapping[str, str]) -> str:
    """Return the status for Spring Cloud ZooKeeper, which only uses instances that are UP."""
    status = metadata.get("instance_status", "UP").upper()
    return {"UP": "up", "STARTING": "starting"}.get(status, "down")


def _read_port(place: Place) -> int | None:
    """Read a port as Curator does, which takes a text of digits for a number."""
    value = place.value
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if value is not None and _read_count(place) is None:
        place.fail("is not a port", "bad_port")
    return _read_count(place)


def _read_count(place: Place) -> int | None:
    value = place.value
    is_count = (
        isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _LARGEST_COUNT
    )
    return value if is_count else None


def _read_time(place: Place) -> int | None:
    moment = _read_count(place)
    return None if moment is None or moment > _LAST_MOMENT else moment
