"""Instances in the words of the API, and of Prometheus."""

import json
import re
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any

import msgspec

from app.registry.balancing import Choice, registered_at
from app.registry.checking import Check
from app.registry.view import Seen, ServiceView
from pilothouse_core.definitions import DefinitionError
from pilothouse_core.instances import DEFAULT_WEIGHT, Url, read_url

_ANSWERS_AT_MOST = 100  # of one service; who asks can invent any number of questions
_encode = msgspec.json.Encoder().encode
_WORD = {True: b"true", False: b"false"}
_NOT_IN_LABELS = re.compile("[^A-Za-z0-9_]")


def shown(
    seen: Seen, last_heartbeat: datetime | None = None, last_check: Check | None = None
) -> dict[str, Any]:
    """Return an instance as clients see it."""
    instance, row = seen.instance, seen.row
    url = url_of(seen)
    moment = registered_at(seen, 0.0)
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
        "registered_at": _time(moment) if moment else None,
        "last_heartbeat": None if last_heartbeat is None else last_heartbeat.isoformat(),
        "last_check": None
        if last_check is None
        else {
            "at": last_check.at.isoformat(),
            "healthy": last_check.probe.is_healthy,
            "reason": last_check.probe.reason,
        },
    }


def _time(moment: float) -> str:
    """Write a time as every other answer does."""
    return datetime.fromtimestamp(moment, UTC).isoformat().replace("+00:00", "Z")


def discovered(seen: Seen) -> dict[str, Any]:
    """Return an instance without what moves although it stays the same."""
    members = shown(seen)
    del members["last_heartbeat"], members["last_check"]
    return members


def url_of(seen: Seen) -> Url:
    if seen.instance is not None:
        return seen.instance.url
    try:
        return read_url(seen.url)
    except DefinitionError:
        return Url("", "", 0)


def target(seen: Seen) -> dict[str, Any]:
    """Return a target of Prometheus; every label is a text."""
    url = url_of(seen)
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
    for name, value in sorted(seen.metadata.items()):
        labels[f"__meta_pilothouse_metadata_{_NOT_IN_LABELS.sub('_', name)}"] = value
    return {"targets": [f"{host}:{url.port}"], "labels": labels}


def discovery(
    service: ServiceView, zone: str | None, tag: str | None, version: str | None
) -> tuple[bytes, str]:
    """Return the discovered instances as a JSON list, and a digest of it."""
    asked = (zone, tag, version)
    found = service.answers.get(asked)
    if found is None:
        chosen = [
            discovered(seen) for seen in service.discovered if _is_asked(seen, zone, tag, version)
        ]
        text = json.dumps(chosen, ensure_ascii=False, separators=(",", ":")).encode()
        found = text, blake2b(text, digest_size=12).hexdigest()
        if len(service.answers) < _ANSWERS_AT_MOST:
            service.answers[asked] = found
    return found


def discovery_answer(
    service: ServiceView,
    zone: str | None,
    tag: str | None,
    version: str | None,
    *,
    stale: bool,
    protected: bool,
) -> tuple[bytes, str]:
    """Return the whole answer of `discover`, and a digest of it."""
    items, digest = discovery(service, zone, tag, version)
    body = b'{"items":%b,"stale":%b,"protected":%b}' % (items, _WORD[stale], _WORD[protected])
    return body, f"{digest}-{int(stale)}{int(protected)}"


def url_answer(choice: Choice, strategy: str, *, stale: bool, protected: bool) -> bytes:
    """Return the whole answer of `url`."""
    members = {
        "service_name": choice.seen.service,
        "instance_id": choice.seen.id,
        "url": choice.seen.url,
        "strategy": strategy,
        "zone_local": choice.pool.is_local,
        "panicked": choice.pool.panicked,
        "stale": stale,
        "protected": protected,
    }
    return _encode(members)


def _is_asked(seen: Seen, zone: str | None, tag: str | None, version: str | None) -> bool:
    instance = seen.instance
    return (
        (zone is None or (instance is not None and instance.zone == zone))
        and (tag is None or (instance is not None and tag in instance.tags))
        and (version is None or (instance is not None and instance.version == version))
    )
