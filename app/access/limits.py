"""How much one caller may ask for."""

from time import monotonic

from app.access.errors import TooManyRequests, TooManyStreamsOfCaller
from app.access.model import Caller, Principal
from app.changes.event_stream import NO_END, Leave
from app.changes.stream import Hub

_BURST_SECONDS = 2.0


class Rates:
    """Requests a second of each principal, by token buckets: two seconds' worth may come at once.

    The algorithm is GCRA (ITU-T I.371): one moment per principal, from which on all is paid for.
    """

    def __init__(self, per_second: float) -> None:
        self._each = 1 / per_second if per_second else 0.0
        self._paid_until: dict[str | None, float] = {}

    def admits(self, principal: Principal) -> bool:
        """Count a request, unless it is one too many."""
        if not self._each:
            return True
        now = monotonic()
        paid_until = max(self._paid_until.get(principal.name, 0.0), now)
        if paid_until - now > _BURST_SECONDS - self._each:
            return False
        self._paid_until[principal.name] = paid_until + self._each
        return True

    def demand(self, principal: Principal) -> None:
        """Count a request; raises TooManyRequests."""
        if not self.admits(principal):
            raise TooManyRequests(round(1 / self._each, 3))


def leave_of(caller: Caller, hub: Hub) -> Leave:
    """Return by whose leave a stream lasts; raises TooManyStreamsOfCaller."""
    principal = caller.principal
    if principal.name is None:
        return NO_END
    owner = principal.token_id or principal.name
    if hub.owned(owner) >= hub.limit_of_each:
        raise TooManyStreamsOfCaller(hub.limit_of_each)
    return Leave(owner, principal.expires_at)
