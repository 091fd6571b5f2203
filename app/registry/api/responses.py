"""Instances as JSON members of the API, and as targets of Prometheus."""

import json
import re
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from hashlib import blake2b, sha256
from typing import Any, NamedTuple

import msgspec

from app.registry.balancing import Choice, registered_at
from app.registry.health.checker import HealthCheck
from app.registry.view import InstanceView, ServiceView
from pilothouse_core.definitions import DefinitionError
from pilothouse_core.instances import DEFAULT_WEIGHT, Url, read_url

_MAX_CACHED_RESPONSES = 100  # for each service; callers can send any number of queries
_encode = msgspec.json.Encoder().encode
_WORD = {True: b"true", False: b"false"}
_DIGITS = 8  # of a digest that distinguishes labels
_NOT_IN_LABELS = re.compile("[^A-Za-z0-9_]")


class InstanceFilter(NamedTuple):
    """Criteria of a discovery; None: any."""

    zone: str | None = None
    tag: str | None = None
    version: str | None = None
    environment: str | None = None

    def matches(self, seen: InstanceView) -> bool:
        instance = seen.instance
        return (
            (self.zone is None or (instance is not None and instance.zone == self.zone))
            and (self.tag is None or (instance is not None and self.tag in instance.tags))
            and (
                self.version is None or (instance is not None and instance.version == self.version)
            )
            and (self.environment is None or seen.environment == self.environment)
        )


def instance_members(
    seen: InstanceView,
    last_heartbeat: datetime | None = None,
    last_check: HealthCheck | None = None,
) -> dict[str, Any]:
    """Return an instance as clients see it."""
    instance, row = seen.instance, seen.row
    url = service_url(seen)
    registered = registered_at(seen, 0.0)
    return {
        "service_name": seen.service,
        "instance_id": seen.id,
        "service_url": seen.url,
        "address": url.host,
        "port": url.port,
        "scheme": url.scheme,
        "health_check_url": None if instance is None else instance.health_check_url,
        "metadata": dict(seen.metadata),
        "tags": [] if instance is None else list(instance.tags),
        "weight": DEFAULT_WEIGHT if instance is None else instance.weight,
        "warmup_seconds": 0.0 if instance is None else instance.warmup_seconds,
        "zone": None if instance is None else instance.zone,
        "version": None if instance is None else instance.version,
        "status": seen.status,
        "foreign": row is None,
        "epoch": None if row is None else row.epoch,
        "registered_at": _format_time(registered) if registered else None,
        "last_heartbeat": None if last_heartbeat is None else last_heartbeat.isoformat(),
        "last_check": None
        if last_check is None
        else {
            "at": last_check.at.isoformat(),
            "healthy": last_check.probe.is_healthy,
            "reason": last_check.probe.reason,
        },
    }


def _format_time(seconds: float) -> str:
    """Format a time as all other responses do."""
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def discovered_members(seen: InstanceView) -> dict[str, Any]:
    """Return the members of an instance without those that change while it stays the same."""
    members = instance_members(seen)
    del members["last_heartbeat"], members["last_check"]
    return members


def service_url(seen: InstanceView) -> Url:
    if seen.instance is not None:
        return seen.instance.url
    try:
        return read_url(seen.url)
    except DefinitionError:
        return Url("", "", 0)


def prometheus_target(seen: InstanceView) -> dict[str, Any]:
    """Return a target of Prometheus."""
    url = service_url(seen)
    host = f"[{url.host}]" if ":" in url.host else url.host
    labels = {
        "__scheme__": url.scheme,
        "__meta_pilothouse_service": seen.service,
        "__meta_pilothouse_instance_id": seen.id,
        "__meta_pilothouse_status": seen.status,
        "__meta_pilothouse_foreign": "true" if seen.row is None else "false",
        "service": seen.service,
    }
    instance = seen.instance
    if instance is not None:
        labels |= {
            "__meta_pilothouse_zone": instance.zone or "",
            "__meta_pilothouse_version": instance.version or "",
            "__meta_pilothouse_tags": "".join(f",{tag}" for tag in instance.tags) + ","
            if instance.tags
            else "",
        }
    names = label_names(seen.metadata)
    for name, value in sorted(seen.metadata.items()):
        labels[f"__meta_pilothouse_metadata_{names[name]}"] = value
    return {"targets": [f"{host}:{url.port}"], "labels": labels}


def label_names(names: Iterable[str]) -> dict[str, str]:
    """Return a unique label suffix for each name of metadata.

    Characters not allowed in labels become `_`. A name without any is unchanged; other names that
    would become equal end with the first eight hexadecimal digits of their SHA-256.
    """
    cleaned = {name: _NOT_IN_LABELS.sub("_", name) for name in sorted(names)}
    often = Counter(cleaned.values())
    labels = {name: name for name, label in cleaned.items() if label == name}
    taken = set(labels)
    for name, label in cleaned.items():
        if name in labels:
            continue
        digest = sha256(name.encode(errors="surrogatepass")).hexdigest()
        length = 0 if often[label] == 1 else _DIGITS
        chosen = f"{label}_{digest[:length]}" if length else label
        while chosen in taken:
            length += _DIGITS
            chosen = f"{label}_{digest[:length]}"
        taken.add(chosen)
        labels[name] = chosen
    return labels


def discovered_items(service: ServiceView, criteria: InstanceFilter) -> tuple[bytes, str]:
    """Return the discovered instances as a JSON list, and its digest."""
    cached = service.answers.get(criteria)
    if cached is None:
        chosen = [
            discovered_members(seen) for seen in service.discoverable if criteria.matches(seen)
        ]
        text = json.dumps(chosen, ensure_ascii=False, separators=(",", ":")).encode()
        cached = text, blake2b(text, digest_size=12).hexdigest()
        if len(service.answers) < _MAX_CACHED_RESPONSES:
            service.answers[criteria] = cached
    return cached


def discovery_response(
    service: ServiceView,
    criteria: InstanceFilter,
    *,
    stale: bool,
    protected: bool,
) -> tuple[bytes, str]:
    """Return the response body of `discover`, and its digest."""
    items, digest = discovered_items(service, criteria)
    body = b'{"items":%b,"stale":%b,"protected":%b}' % (items, _WORD[stale], _WORD[protected])
    return body, f"{digest}-{int(stale)}{int(protected)}"


def url_response(choice: Choice, strategy: str, *, stale: bool, protected: bool) -> bytes:
    """Return the response body of `url`."""
    members = {
        "service_name": choice.instance.service,
        "instance_id": choice.instance.id,
        "url": choice.instance.url,
        "strategy": strategy,
        "zone_local": choice.pool.is_local,
        "panicked": choice.pool.panicked,
        "stale": stale,
        "protected": protected,
    }
    return _encode(members)
