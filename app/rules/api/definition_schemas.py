"""Versions of schemas and templates in responses."""

import json
from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from app.actors import split_actor
from app.changes.model import Action
from app.rules.definitions.model import Definition
from pilothouse_core.diff import Diff


class DefinitionDiffOut(BaseModel):
    name: str
    old_version: int
    new_version: int
    added: dict[str, Any]
    removed: dict[str, Any]
    changed: dict[str, dict[str, Any]] = Field(description="`{old, new}` by path of the member.")

    @classmethod
    def of(cls, name: str, versions: tuple[int, int], diff: Diff) -> "DefinitionDiffOut":
        changed = {path: {"old": old, "new": new} for path, (old, new) in diff.changed.items()}
        old, new = versions
        return cls(
            name=name,
            old_version=old,
            new_version=new,
            added=dict(diff.added),
            removed=dict(diff.removed),
            changed=changed,
        )


class DefinitionVersionOut(BaseModel):
    version: int
    revision: int
    action: Action
    actor: str
    comment: str
    at: datetime
    definition: dict[str, Any] | None = Field(description="null: this version is a deletion.")

    @classmethod
    def of(cls, definition: Definition) -> "DefinitionVersionOut":
        return cls(
            version=definition.version,
            revision=definition.revision,
            action=definition.action,
            actor=split_actor(definition.actor)[0],
            comment=definition.comment,
            at=definition.at,
            definition=json.loads(definition.text) if definition.text else None,
        )
