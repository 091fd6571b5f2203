"""Webhooks, and the deliveries to their receivers."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, get_args

from app.changes.model import Entity
from app.rules.definitions.model import Definition
from pilothouse_core.name_patterns import matches

WebhookKind = Literal[
    "config",
    "flag",
    "segment",
    "instance",
    "schema",
    "template",
    "policy",
    "proposal",
    "release",
    "webhook",
]
KINDS: tuple[WebhookKind, ...] = get_args(WebhookKind)
Outcome = Literal["delivered", "failed", "dead_letter"]
_OF_SERVICES = frozenset({"config", "instance", "proposal", "release"})


def service_of(kind: str, name: str) -> str | None:
    """Return the service of what was changed, None if its kind belongs to no service."""
    return name.partition("/")[0] if kind in _OF_SERVICES else None


@dataclass(frozen=True, slots=True)
class Filter:
    """Which changes a webhook delivers: kinds, and patterns of environments and services.

    What belongs to no service, such as a flag, passes whatever the patterns of services say.
    """

    kinds: frozenset[str]
    environments: tuple[str, ...]
    services: tuple[str, ...]

    def selects(self, entity: Entity) -> bool:
        """Tell whether a change of this entity is delivered."""
        if entity.kind not in self.kinds:
            return False
        if not any(matches(pattern, entity.environment) for pattern in self.environments):
            return False
        service = service_of(entity.kind, entity.name)
        return service is None or any(matches(pattern, service) for pattern in self.services)


@dataclass(frozen=True, slots=True)
class Webhook:
    """A webhook as it is stored: its URL and its secrets are ciphertexts.

    `id` differs for each webhook that was ever created, also under the same name. `former_secret`
    signs too until `former_until`, after a new secret was set. `template` is a preset, or an object
    with places for placeholders.
    """

    id: str
    name: str
    version: int
    url: str = field(repr=False)
    secret: str = field(repr=False)
    former_secret: str | None = field(repr=False)
    former_until: datetime | None
    filter: Filter
    template: Any
    is_enabled: bool

    @classmethod
    def of(cls, definition: Definition) -> "Webhook":
        """Read a stored version that is not a deletion."""
        body = json.loads(definition.text)
        until = body["former_until"]
        return cls(
            id=body["id"],
            name=definition.name,
            version=definition.version,
            url=body["url"],
            secret=body["secret"],
            former_secret=body["former_secret"],
            former_until=None if until is None else datetime.fromisoformat(until),
            filter=Filter(
                frozenset(body["kinds"]), tuple(body["environments"]), tuple(body["services"])
            ),
            template=body["template"],
            is_enabled=body["enabled"],
        )

    def to_text(self) -> str:
        """Return what is stored, as JSON."""
        return json.dumps(
            {
                "id": self.id,
                "url": self.url,
                "secret": self.secret,
                "former_secret": self.former_secret,
                "former_until": self.former_until and self.former_until.isoformat(),
                "kinds": sorted(self.filter.kinds),
                "environments": self.filter.environments,
                "services": self.filter.services,
                "template": self.template,
                "enabled": self.is_enabled,
            }
        )


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message to one receiver, with the same `id` in every attempt.

    Those of one `entity` are sent in the order of `revision`. `message` is the change as a
    CloudEvent. `attempts` were made so far; `age` is in seconds since it was first queued.
    """

    id: str
    revision: int
    entity: str
    message: str
    attempts: int = 0
    age: float = 0.0


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request to a receiver, as it is shown; `status` is None if there was no answer."""

    id: str
    revision: int
    outcome: Outcome
    status: int | None
    reason: str
    seconds: float
    attempt: int
    at: datetime


@dataclass(frozen=True, slots=True)
class NumberedAttempt:
    """An attempt with its number among those of the webhook, by which lists are paged."""

    number: int
    attempt: Attempt


@dataclass(frozen=True, slots=True)
class Kept:
    """A delivery that is still to be made: in `delay` seconds, or by hand if it is a dead letter.

    `attempts` includes the last one, whose status and reason are kept too.
    """

    delivery: Delivery
    attempts: int
    delay: float = 0.0
    is_dead: bool = False
    status: int | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A delivery that was given up; `at` is the time of that."""

    delivery: Delivery
    at: datetime
    status: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class Lease:
    """What a replica that holds the lease of a webhook begins with.

    Changes up to `cursor` were delivered or are among the `waiting` deliveries.
    """

    cursor: int
    waiting: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """Deliveries that wait for another attempt.

    `due` are those of entities whose oldest one is due now, whole lines in order; `entities` have
    any that wait; `next_due` is in seconds, None if nothing waits that is not due.
    """

    due: Sequence[Delivery] = ()
    entities: frozenset[str] = frozenset()
    next_due: float | None = None


NOTHING_WAITS = Waiting()


@dataclass(frozen=True, slots=True)
class RoundResult:
    """What one round has brought: recorded as one, by the holder of the lease only.

    `cursor`: the last change that was taken from the log. `delivered`: ids of deliveries that had
    waited. `kept`: deliveries that failed, or could not be tried yet. `gaps`: how often the log was
    trimmed before it was read.
    """

    cursor: int
    delivered: Sequence[str] = ()
    kept: Sequence[Kept] = ()
    attempts: Sequence[Attempt] = ()
    gaps: int = 0


@dataclass(frozen=True, slots=True)
class DeliveryState:
    """How far the deliveries of a webhook are; `oldest_seconds` is the age of the oldest one due.

    `is_leased`: whether a replica delivers now. `attempted` counts requests, `gaps` how often the
    log was trimmed before it was read.
    """

    webhook_id: str
    cursor: int
    is_leased: bool
    waiting: int
    dead_letters: int
    oldest_seconds: float
    attempted: int
    gaps: int
