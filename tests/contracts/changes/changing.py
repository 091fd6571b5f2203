"""What the tests of a change log write into it."""

from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

from app.changes.model import Action, Change, Entity, Intent, Pointer, Written
from tests.changes.ports import AnyPorts

NOW = datetime.now(UTC).replace(microsecond=123456)
DAY = 24 * 3600


def entity(name: str = "checkout", environment: str = "staging", kind: str = "config") -> Entity:
    return Entity(kind, environment, name, key=f"{kind}:{environment}/{name}")


CHECKOUT = entity()


def intent(about: Entity = CHECKOUT, base: int = 0, *, action: Action = "updated") -> Intent:
    return Intent(
        id=str(uuid4()),
        entity=about,
        base=base,
        action=action,
        actor="ana",
        comment="because",
        request_id="request-1",
        at=NOW,
    )


def intent_with_key(key: str, digest: str = "digest") -> Intent:
    return replace(intent(), idempotency_key=key, digest=digest)


def version_of(of: Intent, *, deleted: bool = False) -> Written:
    """Tell what the store holds after this intent was written."""
    return Written(of.base + 1, of.id, at=of.at, comment=of.comment, deleted=deleted)


async def write(ports: AnyPorts, about: Entity = CHECKOUT, base: int = 0) -> Pointer:
    begun = await ports.intents.begin(intent(about, base))
    return await ports.log.advance(about, [version_of(begun)])


async def changes_of(ports: AnyPorts, about: Entity = CHECKOUT) -> list[Change]:
    return list(reversed(await ports.log.history(about.key, limit=1000)))
