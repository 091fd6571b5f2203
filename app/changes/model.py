"""What the change log holds: intents, changes and the pointer of every document."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal

Action = Literal["created", "updated", "deleted", "rolled_back", "external"]
IntentState = Literal["open", "expired", "applied", "lost"]

EXTERNAL_ACTOR = "external"


@dataclass(frozen=True, slots=True)
class Entity:
    """What a change is about; `key` identifies it in the log, the rest is for readers."""

    kind: str
    environment: str
    name: str
    key: str


@dataclass(frozen=True, slots=True)
class Intent:
    """One configuration write under way. It never holds a value."""

    id: str
    entity: Entity
    base: int  # the version this write was computed from; it can only become version base + 1
    action: Action
    actor: str
    comment: str
    request_id: str
    at: datetime
    idempotency_key: str | None = None  # caller, route, key and attempt
    digest: str | None = None  # keyed fingerprint of the request, to recognise another body
    source: str | None = None  # the address it came from; it and `facts` are for the audit
    facts: Mapping[str, str | None] | None = None  # keyed fingerprints
    state: IntentState = "open"
    version: int | None = None
    revision: int | None = None


@dataclass(frozen=True, slots=True)
class Idempotency:
    """A client's key, scoped to caller and route, and the request it stands for."""

    key: str
    request: str = field(repr=False)

    def by(self, caller: str | None) -> "Idempotency":
        """Return the same for one caller: who chooses the same key is not shown their answer."""
        return self if caller is None else replace(self, key=f"{caller}\n{self.key}")


@dataclass(frozen=True, slots=True)
class Written:
    """A version found in the store, as much of it as the log needs."""

    version: int
    change_id: str | None  # None when it cannot be read any more or is not ours
    at: datetime | None = None
    comment: str = ""
    deleted: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """One committed write; `revision` is its place in the one log."""

    revision: int
    id: str
    entity: Entity
    version: int
    action: Action
    actor: str
    comment: str
    at: datetime
    deleted: bool = False


@dataclass(frozen=True, slots=True)
class Pointer:
    """The last logged version of a document."""

    entity: Entity
    version: int
    revision: int
    deleted: bool
    at: datetime
    actor: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All pointers as they stood at `revision`."""

    revision: int
    pointers: Mapping[str, Pointer]


@dataclass(frozen=True, slots=True)
class Disclosure:
    """The fact that somebody saw secrets: written before they are handed out."""

    entity: Entity
    keys: tuple[str, ...]
    actor: str
    request_id: str
    source: str | None = None
