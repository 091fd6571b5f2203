"""Policies, what they require together, and on whose authority a change is made. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, time, timedelta
from typing import Final, Literal
from zoneinfo import ZoneInfo

from app.access.model import Right
from app.rules.definitions.model import Scope
from pilothouse_core.name_patterns import can_match_one_name

PolicyKind = Literal["config", "flag", "segment", "schema", "template", "policy", "webhook"]
Approver = Literal["publisher", "admin"]
RollbackRule = Literal["free", "approved"]
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: Final[tuple[Day, ...]] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_OF_ENVIRONMENTS: Final = frozenset({"flag", "segment"})  # these belong to no service
_MIDNIGHT: Final = time()


@dataclass(frozen=True, slots=True)
class Authority:
    """On whose authority a change is made where a policy asks for a proposal; by default none.

    `bypass_reason`: of a caller with `change:bypass` there, in an emergency. `proposal`: the id of
    the approved one that is applied. `is_own`: the service itself writes, as it does to log what
    happened in the store.
    """

    bypass_reason: str | None = None
    proposal: str | None = None
    is_own: bool = False


NO_AUTHORITY: Final = Authority()
OWN_AUTHORITY: Final = Authority(is_own=True)


@dataclass(frozen=True, slots=True)
class ClosedWindow:
    """Times of the week in a zone at which nothing is applied.

    From `begin` to `end` of each of the days; up to `end` of the next day if that is not later.
    """

    days: tuple[Day, ...]
    zone: str
    begin: time = _MIDNIGHT
    end: time = _MIDNIGHT

    def contains(self, moment: datetime) -> bool:
        """Tell whether an aware time lies in it, by the clocks of its zone."""
        local = moment.astimezone(ZoneInfo(self.zone))
        clock = local.time()
        if self.end > self.begin:
            return self._begins_on(local) and self.begin <= clock < self.end
        return (self._begins_on(local) and self.begin <= clock) or (
            self._begins_on(local - timedelta(days=1)) and clock < self.end
        )

    def _begins_on(self, local: datetime) -> bool:
        return DAYS[local.weekday()] in self.days


@dataclass(frozen=True, slots=True)
class Policy:
    """One version of a policy. `valid_for`: seconds for which approvals count, None without end."""

    name: str
    version: int
    scope: Scope
    kinds: frozenset[PolicyKind]
    approvals: int
    of: frozenset[Approver]
    people_only: bool
    valid_for: int | None
    rollback: RollbackRule
    closed: tuple[ClosedWindow, ...] = ()

    def covers(self, kind: str, scope: Scope) -> bool:
        """Tell whether it asks for a proposal for a change of this kind somewhere in the scope.

        Flags and segments belong to no service: the environment alone counts.
        """
        return (
            kind in self.kinds
            and _can_meet(self.scope.environments, scope.environments)
            and (kind in _OF_ENVIRONMENTS or _can_meet(self.scope.services, scope.services))
        )


def _can_meet(ones: Iterable[str], others: Sequence[str]) -> bool:
    return any(can_match_one_name(one, other) for one in ones for other in others)


@dataclass(frozen=True, slots=True)
class Requirements:
    """What the policies ask of one change, the strictest of each.

    `policies`: their names, sorted. `of`: the roles whose approvals count. A change is free to be
    rolled back only if each of them says so, and nothing is applied while any of them is closed.
    """

    policies: tuple[str, ...]
    approvals: int
    of: frozenset[Approver]
    people_only: bool
    valid_for: int | None
    rollback: RollbackRule
    closed: tuple[ClosedWindow, ...]

    @property
    def approver_right(self) -> Right:
        """What an approver needs at the place of the change, besides `change:approve`."""
        return Right.APPROVE_CHANGES if "publisher" in self.of else Right.WRITE_POLICIES

    def is_closed_at(self, moment: datetime) -> bool:
        return any(window.contains(moment) for window in self.closed)


def requirements_of(
    policies: Iterable[Policy], kind: str, environment: str, service: str
) -> Requirements | None:
    """Return what the policies ask of a change there, None if none of them asks.

    The names of the place may be patterns: then of a change anywhere in them.
    """
    return requirements_of_scopes(policies, kind, [Scope((environment,), (service,))])


def requirements_of_scopes(
    policies: Iterable[Policy], kind: str, scopes: Sequence[Scope]
) -> Requirements | None:
    """Return what the policies ask of a change of something that applies in several scopes."""
    strictest: Requirements | None = None
    for policy in policies:
        if any(policy.covers(kind, scope) for scope in scopes):
            asked = _requirements(policy)
            strictest = asked if strictest is None else _stricter(strictest, asked)
    return strictest


def joined_requirements(several: Iterable[Requirements | None]) -> Requirements | None:
    """Return what changes of several places need together, None if none of them needs anything."""
    strictest: Requirements | None = None
    for asked in several:
        if asked is not None:
            strictest = asked if strictest is None else _stricter(strictest, asked)
    return strictest


def _requirements(policy: Policy) -> Requirements:
    # An admin is a publisher too, so that their approvals always count.
    return Requirements(
        (policy.name,),
        policy.approvals,
        policy.of | {"admin"},
        policy.people_only,
        policy.valid_for,
        policy.rollback,
        _sorted_windows(policy.closed),
    )


def _stricter(one: Requirements, other: Requirements) -> Requirements:
    lives = [each.valid_for for each in (one, other) if each.valid_for is not None]
    return replace(
        one,
        policies=tuple(sorted({*one.policies, *other.policies})),
        approvals=max(one.approvals, other.approvals),
        of=one.of & other.of,
        people_only=one.people_only or other.people_only,
        valid_for=min(lives, default=None),
        rollback="approved" if "approved" in (one.rollback, other.rollback) else "free",
        closed=_sorted_windows((*one.closed, *other.closed)),
    )


def _sorted_windows(windows: Iterable[ClosedWindow]) -> tuple[ClosedWindow, ...]:
    return tuple(sorted(set(windows), key=_order))


def _order(window: ClosedWindow) -> tuple[str, tuple[str, ...], time, time]:
    return window.zone, window.days, window.begin, window.end


def authority_facts(authority: Authority, requirements: Requirements) -> Mapping[str, str]:
    """Return what the audit says of a change that a policy would have refused."""
    if authority.bypass_reason is not None:
        return {
            "bypass_reason": authority.bypass_reason,
            "bypassed": ",".join(requirements.policies),
        }
    return {} if authority.proposal is None else {"proposal": authority.proposal}
