"""How much one caller may ask for."""

from time import monotonic

from app.access.errors import TooManyRequests, TooManyStreamsOfCaller
from app.access.model import Caller, Principal
from app.changes.event_stream import NO_END, Leave
from app.changes.stream import Hub

_BURST_SECONDS = 2.0
_LOOKED_THROUGH = 1000  # callers at which those are first looked for who have paid for all


class Rates:
    """Requests a second of each token or person: two seconds' worth may come at once.

    The algorithm is GCRA (ITU-T I.371): one moment per caller, from which on all is paid for. Those
    of the past say nothing and are let go of, at times so far apart that it costs each next to
    nothing.
    """

    def __init__(self, per_second: float) -> None:
        self._each = 1 / per_second if per_second else 0.0
        self._paid_until: dict[str | None, float] = {}
        self._most = _LOOKED_THROUGH

    def __len__(self) -> int:
        """Return how many callers are remembered."""
        return len(self._paid_until)

    def admits(self, principal: Principal) -> bool:
        """Count a request, unless it is one too many."""
        if not self._each:
            return True
        now, owner = monotonic(), _owner(principal)
        paid_until = max(self._paid_until.get(owner, 0.0), now)
        if paid_until - now > _BURST_SECONDS - self._each:
            return False
        self._paid_until[owner] = paid_until + self._each
        if len(self._paid_until) > self._most:
            self._forget(now)
        return True

    def _forget(self, now: float) -> None:
        self._paid_until = {who: at for who, at in self._paid_until.items() if at > now}
        self._most = max(_LOOKED_THROUGH, 2 * len(self._paid_until))

    def demand(self, principal: Principal) -> None:
        """Count a request; raises TooManyRequests."""
        if not self.admits(principal):
            raise TooManyRequests(round(1 / self._each, 3))


def _owner(principal: Principal) -> str | None:
    """Tell tokens of one name apart; no id of a token is the name of a person."""
    return principal.token_id or principal.name


def leave_of(caller: Caller, hub: Hub) -> Leave:
    """Return by whose leave a stream lasts; raises TooManyStreamsOfCaller."""
    principal = caller.principal
    owner = _owner(principal)
    if owner is None:
        return NO_END
    if hub.owned(owner) >= hub.limit_of_each:
        raise TooManyStreamsOfCaller(hub.limit_of_each)
    return Leave(owner, principal.expires_at)
