"""Writing changes into the embedded SQLite log, for every feature."""

import sqlite3
from datetime import UTC, datetime

from app.changes.model import Change, Entity


def format_timestamp(at: datetime) -> str:
    """Format a time so that text order is time order."""
    return at.astimezone(UTC).isoformat(timespec="microseconds")


def entity_columns(entity: Entity) -> dict[str, object]:
    return {
        "doc": entity.key,
        "kind": entity.kind,
        "environment": entity.environment,
        "name": entity.name,
    }


def append_change(
    connection: sqlite3.Connection,
    change: Change,
    request_id: str | None,
    source: str | None = None,
    facts: str | None = None,
) -> int:
    """Write one version's change and audit rows, and the pointer; return its revision.

    `facts`, JSON text, and `source`, the address that the request came from, are for the audit.
    """
    row: dict[str, object] = {
        **entity_columns(change.entity),
        "id": change.id,
        "version": change.version,
        "action": change.action,
        "actor": change.actor,
        "comment": change.comment,
        "at": format_timestamp(change.at),
        "deleted": change.deleted,
        "now": format_timestamp(datetime.now(UTC)),
        "request_id": request_id,
        "source": source,
        "facts": facts,
    }
    revision = connection.execute(
        "INSERT INTO changes"
        " (id, doc, kind, environment, name, version, action, actor, comment, at, deleted,"
        " logged_at) VALUES"
        " (:id, :doc, :kind, :environment, :name, :version, :action, :actor, :comment, :at,"
        " :deleted, :now)",
        row,
    ).lastrowid
    assert revision is not None
    row["revision"] = revision
    connection.execute(
        "INSERT INTO audit"
        " (at, actor, action, kind, environment, name, version, revision, request_id, source,"
        " facts) VALUES"
        " (:now, :actor, :action, :kind, :environment, :name, :version, :revision, :request_id,"
        " :source, :facts)",
        row,
    )
    connection.execute(
        "INSERT INTO documents (doc, kind, environment, name, logged_version, revision, deleted,"
        " updated_at, updated_by) VALUES"
        " (:doc, :kind, :environment, :name, :version, :revision, :deleted, :at, :actor)"
        " ON CONFLICT (doc) DO UPDATE SET"
        " logged_version = :version, revision = :revision, deleted = :deleted,"
        " updated_at = :at, updated_by = :actor",
        row,
    )
    return revision
