"""Changes as CloudEvents 1.0 messages, without values. Pure."""

import json
from dataclasses import dataclass

from app.actors import split_actor
from app.changes.model import Change

SOURCE = "/pilothouse"
CONTENT_TYPE = "application/cloudevents+json"


@dataclass(frozen=True, slots=True)
class Event:
    """One message; those that share a key keep their order."""

    revision: int
    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...]


def event_of(change: Change) -> Event:
    """Write a change as one event, always in the same bytes."""
    entity = change.entity
    subject = f"{entity.environment}/{entity.name}"
    key = f"{entity.kind}:{subject}"
    actor, actor_id = split_actor(change.actor)
    message = {
        "specversion": "1.0",
        "id": change.id,
        "source": SOURCE,
        "type": f"pilothouse.{entity.kind}.{change.action}",
        "subject": subject,
        "time": change.at.isoformat(),
        "datacontenttype": "application/json",
        "partitionkey": key,
        "data": {
            "revision": change.revision,
            "kind": entity.kind,
            "environment": entity.environment,
            "name": entity.name,
            "version": change.version,
            "action": change.action,
            "deleted": change.deleted,
            "actor": actor,
            "comment": change.comment,
            "at": change.at.isoformat(),
            "actor_id": actor_id,
        },
    }
    return Event(
        revision=change.revision,
        key=key.encode(),
        value=json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode(),
        headers=(
            ("content-type", CONTENT_TYPE.encode()),
            ("revision", str(change.revision).encode()),
        ),
    )
