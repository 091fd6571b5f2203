"""What opens one stream by its URL: a browser's EventSource can send no header."""

import hashlib
import hmac
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from time import time

from app.access.errors import TokenRefused
from app.access.model import Grant, Principal, Right

TICKET_SECONDS = 3600.0
_STEP_SECONDS = 600  # tickets of the same ten minutes are the same, so that answers can be kept
_LONGEST = 2000


class Tickets:
    """Signed by the installation's own key, and good for the flags' events of one environment."""

    def __init__(self, key: bytes, clock: Callable[[], float] = time) -> None:
        self._key = key
        self._clock = clock

    def issued(self, principal: Principal, environment: str) -> str:
        """Return a ticket that ends with the principal's own time, or after an hour."""
        begun = int(self._clock()) // _STEP_SECONDS * _STEP_SECONDS
        until = min(begun + TICKET_SECONDS + _STEP_SECONDS, principal.expires_at)
        text = json.dumps([principal.name, principal.token_id, environment, until])
        body = urlsafe_b64encode(text.encode()).rstrip(b"=")
        return f"{body.decode()}.{self._signature(body)}"

    def holder(self, ticket: str) -> Principal:
        """Return who was given the ticket, with the one right it gives; raises TokenRefused."""
        body, _, signature = ticket.partition(".")
        encoded = body.encode(errors="replace")
        given = signature.encode(errors="replace")
        genuine = hmac.compare_digest(given, self._signature(encoded).encode())
        if not genuine or len(ticket) > _LONGEST:
            raise TokenRefused
        name, token_id, environment, until = json.loads(urlsafe_b64decode(body + "=="))
        if until <= self._clock():
            raise TokenRefused
        grant = Grant(frozenset({Right.EVALUATE}), (environment,), ())
        return Principal(name, (grant,), token_id=token_id, expires_at=until)

    def _signature(self, body: bytes) -> str:
        digest = hmac.new(self._key, body, hashlib.sha256).digest()
        return urlsafe_b64encode(digest).rstrip(b"=").decode()
