"""The change log as it is answered."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field

from app.changes.model import Action, Change, Intent


class ChangeOut(BaseModel):
    revision: int
    id: str
    kind: str
    environment: str
    name: str
    version: int
    action: Action
    actor: str
    comment: str
    at: datetime

    @classmethod
    def of(cls, change: Change) -> "ChangeOut":
        return cls(
            revision=change.revision,
            id=change.id,
            kind=change.entity.kind,
            environment=change.entity.environment,
            name=change.entity.name,
            version=change.version,
            action=change.action,
            actor=change.actor,
            comment=change.comment,
            at=change.at,
        )


class WriteStateOut(BaseModel):
    id: str
    state: Literal["open", "applied", "lost"] = Field(
        description="`open`: it may still land; ask again."
    )
    environment: str
    name: str
    version: int | None = None
    revision: int | None = None

    @classmethod
    def of(cls, intent: Intent) -> "WriteStateOut":
        # `expired` is how the reconciler remembers when to look again; it decides nothing.
        state = "open" if intent.state == "expired" else intent.state
        return cls(
            id=intent.id,
            state=state,
            environment=intent.entity.environment,
            name=intent.entity.name,
            version=intent.version,
            revision=intent.revision,
        )
