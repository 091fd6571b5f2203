"""Signs the head of the audit when it has moved, and publishes it."""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from app.audit.keys import SigningKey
from app.audit.port import AuditLog, SignedHead
from app.changes.events.cloudevents import CONTENT_TYPE, SOURCE, Event
from app.changes.events.port import EventPublisher

SIGN_SECONDS: Final = 60.0
KEY: Final = "audit:head"
TYPE: Final = "pilothouse.audit.head"


class HeadEventUnreadable(ValueError):
    """A line is not an event of a signed head."""


@dataclass(slots=True)
class HeadSigner:
    audit: AuditLog
    signer: SigningKey
    publisher: EventPublisher | None
    _unsent: SignedHead | None = field(default=None, init=False)

    async def sign_head(self) -> None:
        """Sign, store and publish the head if it has moved; raises an Unavailable.

        A head that could not be published is published the next time, unless there is a later one.
        """
        head, last = await self.audit.head(), await self.audit.last_signed_head()
        if head.seq and (last is None or last.head != head):
            signed = self.signer.sign(head, datetime.now(UTC))
            await self.audit.store_signed_head(signed)
            self._unsent = signed
        if self._unsent is not None and self.publisher is not None:
            await self.publisher.publish([head_event(self._unsent)])
        self._unsent = None


def head_event(signed: SignedHead) -> Event:
    """Return the event of a signed head, always the same bytes."""
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


def parse_head_event(text: str) -> SignedHead:
    """Parse such an event; raises HeadEventUnreadable."""
    try:
        message = json.loads(text)
        data = message["data"]
        if message["type"] != TYPE:
            raise HeadEventUnreadable(f"an event of the type {message['type']!r}")
        return SignedHead(
            seq=int(data["seq"]),
            hash=bytes.fromhex(data["hash"]),
            at=datetime.fromisoformat(data["at"]),
            key_id=str(data["key_id"]),
            signature=bytes.fromhex(data["signature"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise HeadEventUnreadable(f"not an event of a signed head: {text[:80]!r}") from error
