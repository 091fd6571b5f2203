"""Evaluation: a flag set and a context in, an answer with its reason out.

Pure: no I/O, no clock, no chance. A flag is compiled once, into closures; evaluating it never
raises, whatever the context holds. A set is never changed: a change makes another set that shares
every flag which has not changed.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from pilothouse_core.bucketing import HASHES, owner
from pilothouse_core.conditions import Context, Holds, compiled, getter, subject_of
from pilothouse_core.flags import (
    Fixed,
    Flag,
    Prerequisite,
    Progressive,
    Rollout,
    Rule,
    Segment,
    Window,
)
from pilothouse_core.times import seconds_of

STATIC: Final = "STATIC"
DEFAULT: Final = "DEFAULT"
TARGETING_MATCH: Final = "TARGETING_MATCH"
SPLIT: Final = "SPLIT"
DISABLED: Final = "DISABLED"
ERROR: Final = "ERROR"

FLAG_NOT_FOUND: Final = "FLAG_NOT_FOUND"
TARGETING_KEY_MISSING: Final = "TARGETING_KEY_MISSING"

# While a share moves with time, answers may be kept for this many seconds.
PROGRESS_SECONDS: Final = 10.0
_SUBJECTS: Final = frozenset({"user_id", "targetingKey"})


class Evaluation(NamedTuple):
    """An answer and why. Without a variant the caller's own default holds."""

    flag: str
    version: int
    variant: str | None
    value: Any
    reason: str
    rule_id: str | None = None
    prerequisite: str | None = None
    skipped: tuple[tuple[str, str], ...] = ()  # (rule, attribute it needs and did not find)
    error_code: str | None = None
    bucket: int | None = None

    @property
    def lacks_targeting_key(self) -> bool:
        """Whether nothing decided, and what a rollout wanted was the targeting key."""
        return self.reason == DEFAULT and any(name in _SUBJECTS for _, name in self.skipped)


Decide = Callable[[Context, float, "FlagSet"], Evaluation]


@dataclass(frozen=True, slots=True)
class CompiledFlag:
    flag: Flag
    version: int
    decide: Decide
    boundaries: tuple[float, ...]  # moments at which answers may change
    progress: tuple[tuple[float, float], ...]  # spans in which they change all the time


class FlagSet:
    """The flags and segments of one environment, ready to be evaluated."""

    __slots__ = (
        "_boundaries",
        "_decides",
        "_progress",
        "flags",
        "segment_definitions",
        "segments",
    )

    def __init__(
        self,
        flags: Mapping[str, CompiledFlag],
        segments: Mapping[str, Holds],
        segment_definitions: Mapping[str, Segment],
        decides: Mapping[str, Decide],
    ) -> None:
        self.flags = flags
        self.segments = segments
        self.segment_definitions = segment_definitions
        self._decides = decides
        self._boundaries: Sequence[float] | None = None
        self._progress: Sequence[tuple[float, float]] = ()

    def changed(
        self,
        flags: Iterable[tuple[str, Flag | None, int]] = (),
        segments: Iterable[tuple[str, Segment | None]] = (),
    ) -> "FlagSet":
        """Return the set with these flags (name, definition, version) and segments; None removes.

        Only what is given is compiled.
        """
        compiled_flags, decides = dict(self.flags), dict(self._decides)
        holds = dict(self.segments)
        definitions = dict(self.segment_definitions)
        for name, flag, version in flags:
            if flag is None:
                compiled_flags.pop(name, None)
                decides.pop(name, None)
            else:
                compiled_flags[name] = made = compiled_flag(flag, version)
                decides[name] = made.decide
        for name, segment in segments:
            if segment is None:
                holds.pop(name, None)
                definitions.pop(name, None)
            else:
                definitions[name] = segment
                holds[name] = _always if segment.when is None else compiled(segment.when)
        return FlagSet(compiled_flags, holds, definitions, decides)

    def evaluate(self, name: str, context: Context, now: float) -> Evaluation:
        """Evaluate one flag for `context`, at `now` in seconds since 1970."""
        try:
            decide = self._decides[name]
        except KeyError:
            return Evaluation(name, 0, None, None, ERROR, error_code=FLAG_NOT_FOUND)
        return decide(context, now, self)

    def epoch(self, now: float) -> tuple[int, int]:
        """Return what moves whenever time alone may change an answer of this set."""
        if self._boundaries is None:
            found = self.flags.values()
            self._progress = [span for flag in found for span in flag.progress]
            self._boundaries = sorted({at for flag in found for at in flag.boundaries})
        step = 0
        if any(start <= now < end for start, end in self._progress):
            step = int(now // PROGRESS_SECONDS)
        return bisect_right(self._boundaries, now), step


EMPTY: Final = FlagSet({}, {}, {}, {})


def with_subject(context: Mapping[str, Any], subject: str | None) -> dict[str, Any]:
    """Return a context whose subject is found by each of its two names."""
    if subject is None:
        return dict(context)
    return {**context, "user_id": subject, "targetingKey": subject}


def _always(_: Context, __: Any) -> bool:
    return True


_Try = Callable[[Context, float, FlagSet], Any]  # Evaluation, (rule, attribute) or None


def compiled_flag(flag: Flag, version: int) -> CompiledFlag:
    boundaries: list[float] = []
    progress: list[tuple[float, float]] = []
    for rule in flag.rules:
        if rule.active is not None:
            boundaries += [at for at in _span(rule.active) if abs(at) != _EVER]
        if isinstance(rule.serve, Progressive):
            start, end = _moment(rule.serve.starts), _moment(rule.serve.ends)
            boundaries += [start, end]
            progress.append((start, end))
    return CompiledFlag(flag, version, _decide(flag, version), tuple(boundaries), tuple(progress))


def _decide(flag: Flag, version: int) -> Decide:
    if not flag.enabled:
        off = _answer(flag, version, flag.off_variant, DISABLED)
        return lambda _context, _now, _flags: off
    decide = _by_rules(flag, version)
    return _guarded(flag, version, decide) if flag.prerequisites else decide


def _answer(
    flag: Flag, version: int, variant: str | None, reason: str, rule: str | None = None
) -> Evaluation:
    value = None if variant is None else flag.variants[variant]
    return Evaluation(flag.name, version, variant, value, reason, rule)


def _guarded(flag: Flag, version: int, decide: Decide) -> Decide:
    needs = flag.prerequisites
    off = _answer(flag, version, flag.off_variant, DISABLED)

    def guarded(context: Context, now: float, flags: FlagSet) -> Evaluation:
        for need in needs:
            if not _is_met(need, context, now, flags):
                return off._replace(prerequisite=need.flag)
        return decide(context, now, flags)

    return guarded


def _is_met(need: Prerequisite, context: Context, now: float, flags: FlagSet) -> bool:
    return flags.evaluate(need.flag, context, now).variant in need.variants


def _by_rules(flag: Flag, version: int) -> Decide:
    default = _answer(flag, version, flag.default_variant, DEFAULT if flag.rules else STATIC)
    if not flag.rules:
        return lambda _context, _now, _flags: default
    if len(flag.rules) == 1:
        return _compiled_rule(flag, version, flag.rules[0], default)
    rules = [_compiled_rule(flag, version, rule, None) for rule in flag.rules]

    def decide(context: Context, now: float, flags: FlagSet) -> Evaluation:
        skipped: tuple[tuple[str, str], ...] = ()
        for rule in rules:
            found = rule(context, now, flags)
            if found is None:
                continue
            if type(found) is Evaluation:
                return found._replace(skipped=skipped) if skipped else found
            skipped = (*skipped, found)
        return default._replace(skipped=skipped) if skipped else default

    return decide


def _compiled_rule(flag: Flag, version: int, rule: Rule, default: Evaluation | None) -> _Try:
    """Return what tries a rule: its answer, None if it does not match, or why it was skipped.

    With a `default` no other rule follows, and the default is answered instead of both.
    """
    tries = _serving(flag, version, rule, default)
    if rule.active is None:
        return tries
    start, until = _span(rule.active)

    def tries_in_time(context: Context, now: float, flags: FlagSet) -> Any:
        return tries(context, now, flags) if start <= now < until else default

    return tries_in_time


_EVER = float("inf")


def _span(window: Window) -> tuple[float, float]:
    start = -_EVER if window.start is None else _moment(window.start)
    return start, _EVER if window.until is None else _moment(window.until)


def _moment(text: str) -> float:
    found = seconds_of(text)
    assert found is not None  # read_flag has seen to it
    return found


def _serving(flag: Flag, version: int, rule: Rule, default: Evaluation | None) -> _Try:
    holds = _always if rule.when is None else compiled(rule.when)
    match rule.serve:
        case Fixed(variant):
            answer = _answer(flag, version, variant, TARGETING_MATCH, rule.id)
            return lambda context, _, flags: answer if holds(context, flags) else default
        case Rollout():
            return _rolling(flag, version, rule, rule.serve, holds, default)
        case Progressive():
            return _progressing(flag, version, rule, rule.serve, holds, default)


def _missing(rule: Rule, by: str, default: Evaluation | None) -> Any:
    skipped = (rule.id, by)
    return skipped if default is None else default._replace(skipped=(skipped,))


def _rolling(
    flag: Flag,
    version: int,
    rule: Rule,
    rollout: Rollout,
    holds: Holds,
    default: Evaluation | None,
) -> _Try:
    bucket_of = HASHES[rollout.hash].bind(rollout.salt, rollout.total)
    owner_of = owner(rollout.ranges)
    # All of the answer but its last member, the bucket.
    heads = [_answer(flag, version, found.variant, SPLIT, rule.id)[:-1] for found in rollout.ranges]
    get, new = getter(rollout.by), tuple.__new__
    name = rollout.by if "." not in rollout.by else None
    missing = _missing(rule, rollout.by, default)

    def tries(context: Context, _: float, flags: FlagSet) -> Any:
        if not holds(context, flags):
            return default
        subject = get(context) if name is None else context.get(name)
        if type(subject) is not str and subject_of(subject) is None:
            return missing
        bucket = bucket_of(subject)  # type: ignore[arg-type]
        return new(Evaluation, heads[owner_of(bucket)] + (bucket,))

    return tries


def _progressing(
    flag: Flag,
    version: int,
    rule: Rule,
    progressive: Progressive,
    holds: Holds,
    default: Evaluation | None,
) -> _Try:
    method = HASHES[progressive.hash]
    bucket_of = method.bind(progressive.salt, method.total or 0)
    share_at = _share_at(progressive)
    get = getter(progressive.by)
    missing = _missing(rule, progressive.by, default)
    inside = _answer(flag, version, progressive.variant, SPLIT, rule.id)
    outside = _answer(flag, version, progressive.otherwise, SPLIT, rule.id)

    def tries(context: Context, now: float, flags: FlagSet) -> Any:
        if not holds(context, flags):
            return default
        subject = subject_of(get(context))
        if subject is None:
            return missing
        bucket = bucket_of(subject)
        return (inside if bucket < share_at(now) else outside)._replace(bucket=bucket)

    return tries


def _share_at(progressive: Progressive) -> Callable[[float], int]:
    """Return the share in buckets at a moment: exact, in whole microseconds."""
    method = HASHES[progressive.hash]
    first, last = method.share(progressive.first), method.share(progressive.last)
    start = round(_moment(progressive.starts) * 1_000_000)
    span = round(_moment(progressive.ends) * 1_000_000) - start

    def share(now: float) -> int:
        elapsed = min(max(round(now * 1_000_000) - start, 0), span)
        return first + (last - first) * elapsed // span

    return share
