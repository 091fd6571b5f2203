"""Stored versions of schemas, templates, policies and webhooks, of the whole installation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from app.changes.model import Action, Entity

Kind = Literal["schema", "template", "policy", "webhook"]
_PLURALS: Mapping[Kind, str] = {
    "schema": "schemas",
    "template": "templates",
    "policy": "policies",
    "webhook": "webhooks",
}
ENVIRONMENT = "default"  # of their changes in the log: they belong to no environment


def entity(kind: Kind, name: str) -> Entity:
    return Entity(kind, ENVIRONMENT, name, f"{_PLURALS[kind]}/{name}")


@dataclass(frozen=True, slots=True)
class Scope:
    """Patterns of the environments and of the services that a definition applies to.

    `*` in a pattern matches any characters.
    """

    environments: tuple[str, ...]
    services: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Definition:
    """One version of a definition; `text` is JSON, "" where it was deleted."""

    kind: Kind
    name: str
    version: int
    text: str
    action: Action
    actor: str
    comment: str
    at: datetime
    created_at: datetime  # of version 1
    revision: int  # of the change that made it

    @property
    def is_deleted(self) -> bool:
        return self.action == "deleted"


@dataclass(frozen=True, slots=True)
class DefinitionEdit:
    """The next version of one definition.

    `base`: the version that it follows, 0 if there was never one. `scopes`: where writers of
    configurations and flags have to ask again once it is there; none for a template.
    """

    kind: Kind
    name: str
    base: int
    text: str
    action: Action
    scopes: Sequence[Scope] = ()
    facts: Mapping[str, str | None] | None = None  # keyed fingerprints, for the audit


@dataclass(frozen=True, slots=True)
class DefinitionCommit:
    """Edits that are written all or not at all.

    `judged_at`: the revision at which every configuration in `judged` was found to meet them; None
    if none was judged, as for templates and for schemas that only warn. `policies_at`: the revision
    of the newest policy that was asked; None if none was.
    """

    edits: Sequence[DefinitionEdit]
    actor: str
    comment: str
    request_id: str
    source: str | None = None  # the address it came from
    judged_at: int | None = None
    judged: Sequence[Scope] = ()
    policies_at: int | None = None
