"""Response schemas of the change log."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field

from app.actors import split_actor
from app.changes.model import Action, Change, Intent

ACTOR_ID = "The id of the caller's token; null for people and for the service itself."


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
    actor_id: str | None = Field(description=ACTOR_ID)

    @classmethod
    def of(cls, change: Change) -> "ChangeOut":
        actor, actor_id = split_actor(change.actor)
        return cls(
            revision=change.revision,
            id=change.id,
            kind=change.entity.kind,
            environment=change.entity.environment,
            name=change.entity.name,
            version=change.version,
            action=change.action,
            actor=actor,
            comment=change.comment,
            at=change.at,
            actor_id=actor_id,
        )


class WriteStateOut(BaseModel):
    id: str
    state: Literal["open", "applied", "lost"] = Field(
        description="`open`: the outcome is not known yet; read it again."
    )
    environment: str
    name: str
    version: int | None = None
    revision: int | None = None

    @classmethod
    def of(cls, intent: Intent) -> "WriteStateOut":
        # `expired` is how the reconciler remembers when to look again; it decides nothing. What is
        # `reserved` has not been sent yet.
        state = "open" if intent.state in {"reserved", "expired"} else intent.state
        return cls(
            id=intent.id,
            state=state,
            environment=intent.entity.environment,
            name=intent.entity.name,
            version=intent.version,
            revision=intent.revision,
        )
