"""Stale flags: those that decide nothing any more, are not evaluated, or have expired."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from app.flags.cache import EnvironmentFlags, FlagCache
from app.flags.evaluation.usage import UsageCounter
from app.flags.model import Item
from app.workers import run_apart
from pilothouse_core.flags.model import Flag
from pilothouse_core.flags.staleness import expiry_of, sole_value

Reason = Literal["one_value", "not_evaluated", "expired"]
_MANY_FLAGS = 500  # to look through them takes about as long as a thread does


@dataclass(frozen=True, slots=True)
class StaleFilter:
    """Filters of a list; None means no filter."""

    days: int
    owner: str | None = None
    reason: Reason | None = None


@dataclass(frozen=True, slots=True)
class Staleness:
    """Why a flag is stale, and since when."""

    reason: Reason
    since: datetime
    variant: str | None = None  # what all users are served, for `one_value`


@dataclass(frozen=True, slots=True)
class StaleFlag:
    item: Item
    owner: str
    tags: Sequence[str]
    enabled: bool
    last_evaluated_at: datetime | None
    expires_at: datetime | None
    reasons: Sequence[Staleness]


@dataclass(frozen=True, slots=True)
class StaleFlags:
    sets: FlagCache
    counter: UsageCounter

    async def list_flags(
        self, environments: Sequence[str], wanted: StaleFilter, after: tuple[str, str], limit: int
    ) -> Sequence[StaleFlag]:
        """Return up to `limit` stale flags after (environment, name), in this order.

        Raises FlagsUnavailable if the flags have not been read yet.
        """
        self.counter.collect()
        known = [self.sets.environment(name) for name in environments if name >= after[0]]
        is_long = sum(len(one.items) for one in known) > _MANY_FLAGS
        now = datetime.now(UTC)
        return await run_apart(is_long, self._first_flags, known, wanted, after, limit, now)

    def _first_flags(
        self,
        environments: Sequence[EnvironmentFlags],
        wanted: StaleFilter,
        after: tuple[str, str],
        limit: int,
        now: datetime,
    ) -> Sequence[StaleFlag]:
        flags: list[StaleFlag] = []
        for environment in environments:
            for name in sorted(environment.live_names("flag")):
                if (environment.name, name) <= after:
                    continue
                if (flag := self._stale_flag(environment, name, wanted, now)) is not None:
                    flags.append(flag)
                if len(flags) == limit:
                    return flags
        return flags

    def _stale_flag(
        self, environment: EnvironmentFlags, name: str, wanted: StaleFilter, now: datetime
    ) -> StaleFlag | None:
        flag, item = environment.flag(name), environment.live_item("flag", name)
        # One that this release cannot read is in no list of flags to be removed.
        if flag is None or item is None or wanted.owner not in {None, flag.owner}:
            return None
        last = self.counter.last_evaluated_at(environment.name, name)
        before = now - timedelta(days=wanted.days)
        reasons = [
            one
            for one in _reasons(flag, item, last, now)
            if wanted.reason in {None, one.reason}
            and (one.reason == "expired" or one.since <= before)
        ]
        if not reasons:
            return None
        expiry = expiry_of(flag)
        expires_at = None if expiry is None else _moment(expiry)
        return StaleFlag(item, flag.owner, flag.tags, flag.enabled, last, expires_at, reasons)


def _reasons(flag: Flag, item: Item, last: datetime | None, now: datetime) -> Iterator[Staleness]:
    """Yield why a flag is stale, however short it has been so."""
    if (sole := sole_value(flag, now.timestamp())) is not None:
        since = item.at if sole.since is None else max(item.at, _moment(sole.since))
        yield Staleness("one_value", since, sole.variant)
    yield Staleness("not_evaluated", last or item.created_at)
    if (expiry := expiry_of(flag)) is not None and expiry <= now.timestamp():
        yield Staleness("expired", _moment(expiry))


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
