"""Whether a flag still decides anything: the one value it serves, and when it expires."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from pilothouse_core.bucketing import HASHES
from pilothouse_core.flags.metadata import metadata_of
from pilothouse_core.flags.model import Fixed, Flag, Progressive, Rollout, Rule
from pilothouse_core.times import seconds_of

EXPIRES = "expires"  # name of the tag `expires=2026-12-31`
_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


@dataclass(frozen=True, slots=True)
class SoleValue:
    """The value that every context gets, from now on.

    `variant` is one of those that have it, None the caller's own default. `since` is when the last
    window or ramp of the definition ended, in seconds since 1970; None: it has none.
    """

    variant: str | None
    since: float | None


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What a rule may serve from now on. `is_final`: no later rule decides for anyone."""

    variants: tuple[str, ...]
    is_final: bool = False
    boundary: float | None = None  # time in the past from which this holds


def sole_value(flag: Flag, now: float) -> SoleValue | None:
    """Return the one value that a flag serves to all users from now on, None if there are more.

    `now` is in seconds since 1970. Conditions count as possible, whatever they say, and so does
    what a window or a ramp still changes.
    """
    outcomes = list(_outcomes(flag, now))
    variants = [variant for outcome in outcomes for variant in outcome.variants]
    possible: list[str | None] = [*variants]
    if not (outcomes and outcomes[-1].is_final):
        possible.append(flag.default_variant if flag.enabled else flag.off_variant)
    if flag.enabled and flag.prerequisites:
        possible.append(flag.off_variant)
    if len({_value_text(flag, variant) for variant in possible}) > 1:
        return None
    boundaries = [one.boundary for one in outcomes if one.boundary is not None]
    return SoleValue(possible[0], max(boundaries, default=None))


def expiry_of(flag: Flag) -> float | None:
    """Return the time in the tag `expires=TIME`, in seconds since 1970.

    A day (`2026-12-31`, from its beginning in UTC) or an RFC 3339 time; None for anything else.
    """
    text = metadata_of(flag).get(EXPIRES)
    if not isinstance(text, str):
        return None
    return seconds_of(f"{text}T00:00:00Z" if _DAY.fullmatch(text) else text)


def _outcomes(flag: Flag, now: float) -> Iterator[_Outcome]:
    """Yield what the rules may serve, up to the first that decides for all users."""
    if not flag.enabled:
        return
    for rule in flag.rules:
        outcome = _outcome(rule, now)
        yield outcome
        if outcome.is_final:
            return


def _outcome(rule: Rule, now: float) -> _Outcome:
    start = until = None
    if rule.active is not None:
        start = None if rule.active.start is None else seconds_of(rule.active.start)
        until = None if rule.active.until is None else seconds_of(rule.active.until)
    if until is not None and until <= now:
        return _Outcome((), boundary=until)
    served = _serve_outcome(rule, now)
    is_constant = until is None and (start is None or start <= now)
    times = [time for time in (start, served.boundary) if time is not None and time <= now]
    is_final = served.is_final and is_constant and rule.when is None
    return _Outcome(served.variants, is_final, max(times, default=None))


def _serve_outcome(rule: Rule, now: float) -> _Outcome:
    match rule.serve:
        case Fixed(variant):
            return _Outcome((variant,), is_final=True)
        case Rollout() as rollout:
            owners = tuple(dict.fromkeys(span.variant for span in rollout.ranges))
            # Without a subject, a share of a whole is served by hashes that need none.
            is_whole = len(owners) == 1 and not HASHES[rollout.hash].needs_subject
            return _Outcome(owners, is_whole and len(rollout.ranges) == 1)
        case Progressive() as ramp:
            return _ramp_outcome(ramp, now)


def _ramp_outcome(ramp: Progressive, now: float) -> _Outcome:
    end = seconds_of(ramp.ends)
    if end is None or now < end or 0 < ramp.last < 100:  # noqa: PLR2004 - percent
        return _Outcome((ramp.variant, ramp.otherwise))
    variant = ramp.variant if ramp.last else ramp.otherwise
    return _Outcome((variant,), not HASHES[ramp.hash].needs_subject, end)


def _value_text(flag: Flag, variant: str | None) -> str | None:
    return None if variant is None else json.dumps(flag.variants[variant], sort_keys=True)
