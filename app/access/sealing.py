"""Signs the head of the audit as often as it moves, and tells it to the outside."""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from app.access.auditing import AuditLog, SignedHead
from app.access.signing import Signer
from app.changes.events import CONTENT_TYPE, SOURCE, Event
from app.changes.port import EventPublisher

SEAL_SECONDS: Final = 60.0
KEY: Final = "audit:head"
TYPE: Final = "pilothouse.audit.head"


class EventUnreadable(ValueError):
    """A line is no event of a signed head."""


@dataclass(slots=True)
class Sealer:
    audit: AuditLog
    signer: Signer
    publisher: EventPublisher | None
    _unsent: SignedHead | None = field(default=None, init=False)

    async def seal(self) -> None:
        """Sign, keep and send the head if it has moved; raises an Unavailable.

        What could not be sent is sent the next time, unless a later one is.
        """
        head, last = await self.audit.head(), await self.audit.signed()
        if head.seq and (last is None or last.head != head):
            signed = self.signer.signed(head, datetime.now(UTC))
            await self.audit.keep(signed)
            self._unsent = signed
        if self._unsent is not None and self.publisher is not None:
            await self.publisher.publish([event_of(self._unsent)])
        self._unsent = None


def event_of(signed: SignedHead) -> Event:
    """Write a signed head as one event, always in the same bytes."""
    message = {
        "specversion": "1.0",
        "id": f"{signed.hash.hex()}-{signed.signature.hex()[:16]}",
        "source": SOURCE,
        "type": TYPE,
        "subject": "audit",
        "time": signed.at.isoformat(),
        "datacontenttype": "application/json",
        "partitionkey": KEY,
        "data": {
            "seq": signed.seq,
            "hash": signed.hash.hex(),
            "at": signed.at.isoformat(),
            "key_id": signed.key_id,
            "signature": signed.signature.hex(),
        },
    }
    return Event(
        revision=signed.seq,
        key=KEY.encode(),
        value=json.dumps(message, separators=(",", ":")).encode(),
        headers=(("content-type", CONTENT_TYPE.encode()),),
    )


def head_of(text: str) -> SignedHead:
    """Read such an event; raises EventUnreadable."""
    try:
        message = json.loads(text)
        data = message["data"]
        if message["type"] != TYPE:
            raise EventUnreadable(f"an event of the type {message['type']!r}")
        return SignedHead(
            seq=int(data["seq"]),
            hash=bytes.fromhex(data["hash"]),
            at=datetime.fromisoformat(data["at"]),
            key_id=str(data["key_id"]),
            signature=bytes.fromhex(data["signature"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise EventUnreadable(f"no event of a signed head: {text[:80]!r}") from error
