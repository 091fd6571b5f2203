"""Tickets that open one stream by its URL, since a browser's EventSource sends no header."""

import hashlib
import hmac
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from time import time

from app.access.errors import TokenRefused
from app.access.model import Grant, Principal, Right

TICKET_SECONDS = 3600  # the longest life of a ticket
# Tickets issued within the same ten minutes are equal, so that responses can be cached; the
# shortest life is fifty minutes.
STEP_SECONDS = 600
_LONGEST = 2000


class StreamTickets:
    """Tickets signed with the installation's key, for the flag events of one environment."""

    def __init__(self, key: bytes, clock: Callable[[], float] = time) -> None:
        self._key = key
        self._clock = clock

    def issue(self, principal: Principal, environment: str) -> str:
        """Return a ticket that expires with the principal, and within an hour."""
        begun = int(self._clock()) // STEP_SECONDS * STEP_SECONDS
        until = min(begun + TICKET_SECONDS, principal.expires_at)
        text = json.dumps([principal.name, principal.token_id, environment, until])
        body = urlsafe_b64encode(text.encode()).rstrip(b"=")
        return f"{body.decode()}.{self._signature(body)}"

    def verify(self, ticket: str) -> Principal:
        """Return the ticket's principal with the one right it grants; raises TokenRefused."""
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
