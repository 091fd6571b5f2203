"""Stored versions of flags and segments; their meaning is defined in the core."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from app.changes.model import Action, Entity

Kind = Literal["flag", "segment"]
# What a version of an item is called; the log calls these two `deleted` and `created`.
VersionAction = Action | Literal["archived", "restored"]


def entity(kind: Kind, environment: str, name: str) -> Entity:
    return Entity(kind, environment, name, f"{kind}s/{environment}/{name}")


@dataclass(frozen=True, slots=True)
class Item:
    """One version of a flag or a segment; `definition` is JSON text, "" where it was deleted.

    For evaluations an archived flag is deleted; its definition is kept.
    """

    kind: Kind
    environment: str
    name: str
    version: int
    definition: str
    action: Action
    actor: str
    comment: str
    at: datetime
    created_at: datetime  # of version 1
    revision: int  # of the change that made it

    @property
    def is_deleted(self) -> bool:
        return self.action == "deleted"

    @property
    def is_archived(self) -> bool:
        return self.is_deleted and self.definition != ""


def version_action(item: Item, former: Item | None) -> VersionAction:
    """Return the action that led from the version before to this one."""
    if item.is_archived:
        return "archived"
    is_restored = item.action == "created" and former is not None and former.is_archived
    return "restored" if is_restored else item.action


@dataclass(frozen=True, slots=True)
class Edit:
    """An edit of one flag or segment; a deletion with a definition archives it."""

    kind: Kind
    name: str
    definition: str
    action: Action
    facts: Mapping[str, str | None] | None = None  # for the audit, with keyed fingerprints


@dataclass(frozen=True, slots=True)
class Commit:
    """Edits of one environment that are written all or not at all."""

    environment: str
    base: int  # the set's revision for which the edits were found to be sound; 0: nothing there yet
    edits: Sequence[Edit]
    actor: str
    comment: str
    request_id: str
    idempotency_key: str | None = None  # caller, route and key
    digest: str | None = None  # of the request, to recognise another body
    source: str | None = None  # the address it came from
    policies_at: int | None = None  # the revision of the newest policy that was asked


@dataclass(frozen=True, slots=True)
class RecordedCommit:
    """The items that a commit under an idempotency key wrote."""

    digest: str
    items: Sequence[Item]


@dataclass(frozen=True, slots=True)
class FlagUsage:
    """How often a flag was evaluated, by variant, and when last (as far as it is known)."""

    counts: Mapping[str, int]
    last_evaluated_at: datetime
