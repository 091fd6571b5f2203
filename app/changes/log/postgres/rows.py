"""Rows of the log's tables as the model has them."""

from typing import Any

from sqlalchemy import Row

from app.changes.model import Change, Entity, Intent, Pointer


def entity_of_row(row: Row[Any]) -> Entity:
    return Entity(kind=row.kind, environment=row.environment, name=row.name, key=row.doc)


def intent_of_row(row: Row[Any]) -> Intent:
    return Intent(
        id=row.id,
        entity=entity_of_row(row),
        base=row.base_version,
        action=row.action,
        actor=row.actor,
        comment=row.comment,
        request_id=row.request_id,
        at=row.at,
        idempotency_key=row.idempotency_key,
        digest=row.digest,
        source=row.source,
        facts=row.facts,
        state=row.state,
        version=row.version,
        revision=row.revision,
    )


def change_of_row(row: Row[Any]) -> Change:
    return Change(
        revision=row.revision,
        id=row.id,
        entity=entity_of_row(row),
        version=row.version,
        action=row.action,
        actor=row.actor,
        comment=row.comment,
        at=row.at,
        deleted=row.deleted,
    )


def pointer_of_row(row: Row[Any]) -> Pointer:
    return Pointer(
        entity=entity_of_row(row),
        version=row.logged_version,
        revision=row.revision,
        deleted=row.deleted,
        at=row.updated_at,
        actor=row.updated_by,
    )
