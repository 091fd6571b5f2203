"""The contents of the change log: intents, changes and the pointer of every document."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal

Action = Literal["created", "updated", "deleted", "rolled_back", "external"]
IntentState = Literal["reserved", "open", "expired", "applied", "lost"]

EXTERNAL_ACTOR = "external"
CLOSED_BASE = -1  # of the record that closes an idempotency key: it can become no version


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

    @property
    def closes_key(self) -> bool:
        """Whether this only records that nothing is begun under its idempotency key any more."""
        return self.base == CLOSED_BASE


@dataclass(frozen=True, slots=True)
class Guard:
    """What a write was judged by (docs/protocols.md E).

    `revision`: how far the replica had followed the log before it began to judge.
    `covers_related`: whether related documents were part of the judgement, because a schema is
    enforced there; else only schemas and policies count that were changed since.
    """

    revision: int
    covers_related: bool


@dataclass(frozen=True, slots=True)
class EarlierIntents:
    """How many related intents under way are older than one, and the newest revision of the log."""

    count: int
    revision: int


@dataclass(frozen=True, slots=True)
class Idempotency:
    """A client's key, scoped to caller and route, and the request that it identifies."""

    key: str
    request: str = field(repr=False)

    def by(self, caller: str | None) -> "Idempotency":
        """Scope the key to one caller: callers with equal keys do not share answers."""
        return self if caller is None else replace(self, key=f"{caller}\n{self.key}")


@dataclass(frozen=True, slots=True)
class Written:
    """A version found in the store, as much of it as the log needs."""

    version: int
    change_id: str | None  # None if it cannot be read any more or is not ours
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
    """All pointers as of `revision`."""

    revision: int
    pointers: Mapping[str, Pointer]


@dataclass(frozen=True, slots=True)
class Disclosure:
    """The record that a caller saw secrets, written before they are returned.

    `entity` is the layer that was addressed; `inherited` are the keys that came from others, by
    `environment/service` or `environment/service/user`.
    """

    entity: Entity
    keys: tuple[str, ...]
    actor: str
    request_id: str
    source: str | None = None
    inherited: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def facts(self) -> Mapping[str, object]:
        """Return the facts for the audit."""
        keys = {"keys": list(self.keys)}
        return {**keys, "inherited": dict(self.inherited)} if self.inherited else keys
