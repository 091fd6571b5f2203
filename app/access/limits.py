"""Limits for each caller: requests a second, and streams."""

from time import monotonic

from app.access.errors import TooManyRequests, TooManyStreamsOfCaller
from app.access.model import Caller, Principal
from app.changes.stream.event_stream import UNLIMITED, StreamGrant
from app.changes.stream.hub import Hub

_BURST_SECONDS = 2.0
_PRUNED_ABOVE = 1000  # remembered callers at which those of the past are first removed


class RateLimiter:
    """Requests a second of each token, person or address: two seconds' worth may come at once.

    The algorithm is GCRA (ITU-T I.371): one time per caller, until which the rate is used up. Times
    in the past mean nothing and are removed, seldom enough to cost next to nothing.
    """

    def __init__(self, per_second: float) -> None:
        self._each = 1 / per_second if per_second else 0.0
        self._paid_until: dict[str | None, float] = {}
        self._most = _PRUNED_ABOVE

    @property
    def per_second(self) -> float:
        return round(1 / self._each, 3) if self._each else 0.0

    def __len__(self) -> int:
        """Return how many callers are remembered."""
        return len(self._paid_until)

    def try_acquire(self, principal: Principal) -> bool:
        """Count a request and return True, or return False if it is one too many."""
        return self.try_acquire_for(_owner_of(principal))

    def try_acquire_for(self, owner: str | None) -> bool:
        """Like `try_acquire`, for the key of a caller."""
        if not self._each:
            return True
        now = monotonic()
        paid_until = max(self._paid_until.get(owner, 0.0), now)
        if paid_until - now > _BURST_SECONDS - self._each:
            return False
        self._paid_until[owner] = paid_until + self._each
        if len(self._paid_until) > self._most:
            self._forget(now)
        return True

    def _forget(self, now: float) -> None:
        self._paid_until = {who: at for who, at in self._paid_until.items() if at > now}
        self._most = max(_PRUNED_ABOVE, 2 * len(self._paid_until))

    def demand(self, principal: Principal) -> None:
        """Count a request; raises TooManyRequests."""
        if not self.try_acquire(principal):
            raise TooManyRequests(self.per_second)


def _owner_of(principal: Principal) -> str | None:
    """Return a key for each token and person; no token's id is the name of a person."""
    return principal.token_id or principal.name


def stream_grant(caller: Caller, hub: Hub) -> StreamGrant:
    """Return the grant under which a stream lasts; raises TooManyStreamsOfCaller."""
    principal = caller.principal
    owner = _owner_of(principal)
    if owner is None:
        return UNLIMITED
    if hub.count_of_owner(owner) >= hub.limit_of_each:
        raise TooManyStreamsOfCaller(hub.limit_of_each)
    return StreamGrant(owner, principal.expires_at)
