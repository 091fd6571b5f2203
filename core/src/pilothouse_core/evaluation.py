"""Evaluation of flags: a flag set and a context in, an answer with its reason out.

Pure: no I/O, no clock, no chance. A flag is compiled once, into closures; evaluating it never
raises, whatever the context holds. A set is never changed: a change makes another set that shares
every flag which has not changed.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from pilothouse_core.bucketing import HASHES, range_lookup
from pilothouse_core.conditions.attributes import getter, subject_of
from pilothouse_core.conditions.compiler import compile_condition
from pilothouse_core.conditions.model import MAX_TEXT, SUBJECTS, Context, Matcher, Segments
from pilothouse_core.costs import Cost, Costs, cost_of_flag
from pilothouse_core.flags.model import (
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
        """Whether no rule matched, and a rollout lacked the targeting key."""
        return self.reason == DEFAULT and any(name in SUBJECTS for _, name in self.skipped)


Evaluator = Callable[[Context, float, "FlagSet"], Evaluation]


@dataclass(frozen=True, slots=True)
class CompiledFlag:
    flag: Flag
    version: int
    evaluate: Evaluator
    cost: Cost  # its own
    boundaries: tuple[float, ...]  # moments at which answers may change
    progress: tuple[tuple[float, float], ...]  # spans in which they change all the time


class FlagSet:
    """The flags and segments of one environment, ready to be evaluated."""

    __slots__ = (
        "_boundaries",
        "_costs",
        "_evaluators",
        "_progress",
        "flags",
        "segment_definitions",
        "segments",
    )

    def __init__(
        self,
        flags: Mapping[str, CompiledFlag],
        segments: Mapping[str, Matcher],
        segment_definitions: Mapping[str, Segment],
        decides: Mapping[str, Evaluator],
    ) -> None:
        self.flags = flags
        self.segments = segments
        self.segment_definitions = segment_definitions
        self._evaluators = decides
        self._boundaries: Sequence[float] | None = None
        self._costs: Costs | None = None
        self._progress: Sequence[tuple[float, float]] = ()

    def with_changes(
        self,
        flags: Iterable[tuple[str, Flag | None, int]] = (),
        segments: Iterable[tuple[str, Segment | None]] = (),
    ) -> "FlagSet":
        """Return the set with these flags (name, definition, version) and segments; None removes.

        Only what is given is compiled.
        """
        compiled_flags, decides = dict(self.flags), dict(self._evaluators)
        holds = dict(self.segments)
        definitions = dict(self.segment_definitions)
        for name, flag, version in flags:
            if flag is None:
                compiled_flags.pop(name, None)
                decides.pop(name, None)
            else:
                compiled_flags[name] = made = compile_flag(flag, version)
                decides[name] = made.evaluate
        for name, segment in segments:
            if segment is None:
                holds.pop(name, None)
                definitions.pop(name, None)
            else:
                definitions[name] = segment
                holds[name] = _always if segment.when is None else compile_condition(segment.when)
        return FlagSet(compiled_flags, holds, definitions, decides)

    def evaluate(self, name: str, context: Context, now: float) -> Evaluation:
        """Evaluate one flag for `context`, at `now` in seconds since 1970."""
        try:
            decide = self._evaluators[name]
        except KeyError:
            return _not_found(name)
        return decide(context, now, self)

    def evaluator_of(self, name: str) -> Evaluator:
        """Return the evaluator of a flag."""
        try:
            return self._evaluators[name]
        except KeyError:
            missing = _not_found(name)
            return lambda _context, _now, _flags: missing

    def pause(self) -> None:
        """Do nothing: this evaluation has no time limit, see EvaluationPass."""

    @property
    def costs(self) -> Costs:
        """The highest cost of evaluating each flag."""
        if self._costs is None:
            self._costs = Costs(self.flags, self.segment_definitions)
        return self._costs

    def epoch(self, now: float) -> tuple[int, int]:
        """Return a value that changes whenever time alone may change an answer of this set."""
        if self._boundaries is None:
            flags = self.flags.values()
            self._progress = [span for flag in flags for span in flag.progress]
            self._boundaries = sorted({at for flag in flags for at in flag.boundaries})
        step = 0
        if any(start <= now < end for start, end in self._progress):
            step = int(now // PROGRESS_SECONDS)
        return bisect_right(self._boundaries, now), step


EMPTY: Final = FlagSet({}, {}, {}, {})


class EvaluationPass(FlagSet):
    """A set on which many flags are evaluated for one context at one time, none of them twice.

    Inherits: conditions and prerequisites ask it as they ask a set. `pause` is called before each
    flag, each segment and each long attribute, and may raise to end it all. For one thread only.
    """

    __slots__ = ("_evaluations", "_pause", "_set")

    def __init__(self, flags: FlagSet, pause: Callable[[], None]) -> None:
        segments = _RememberedSegments(flags.segments, pause)
        super().__init__(flags.flags, segments, flags.segment_definitions, {})
        self._set = flags
        self._evaluations: dict[str, Evaluation] = {}
        self._pause = pause

    def evaluate(self, name: str, context: Context, now: float) -> Evaluation:
        evaluation = self._evaluations.get(name)
        if evaluation is None:
            self._pause()
            decide = self._set.evaluator_of(name)
            evaluation = self._evaluations[name] = decide(context, now, self)
        return evaluation

    def pause(self) -> None:
        self._pause()


class _RememberedSegments(dict[str, Matcher]):
    """Inherits: a segment is looked up in it as in the dict of a set, and then remembered."""

    def __init__(self, segments: Mapping[str, Matcher], pause: Callable[[], None]) -> None:
        super().__init__()
        self._segments = segments
        self._pause = pause

    def get(self, name: str, default: Any = None) -> Any:
        matcher = super().get(name)
        if matcher is None:
            matcher = self[name] = _remember_match(self._segments.get(name, default), self._pause)
        return matcher


def _remember_match(holds: Matcher, pause: Callable[[], None]) -> Matcher:
    results: list[bool] = []

    def holds_once(context: Context, segments: Segments) -> bool:
        if not results:
            pause()
            results.append(holds(context, segments))
        return results[0]

    return holds_once


def _not_found(name: str) -> Evaluation:
    return Evaluation(name, 0, None, None, ERROR, error_code=FLAG_NOT_FOUND)


def with_subject(context: Mapping[str, Any], subject: str | None) -> dict[str, Any]:
    """Return a context whose subject is found by each of its two names."""
    if subject is None:
        return dict(context)
    return {**context, "user_id": subject, "targetingKey": subject}


def _always(_: Context, __: Any) -> bool:
    return True


_RuleEvaluator = Callable[[Context, float, FlagSet], Any]  # Evaluation, (rule, attribute) or None


def compile_flag(flag: Flag, version: int) -> CompiledFlag:
    boundaries: list[float] = []
    progress: list[tuple[float, float]] = []
    for rule in flag.rules:
        if rule.active is not None:
            boundaries += [at for at in _span(rule.active) if abs(at) != _EVER]
        if isinstance(rule.serve, Progressive):
            start, end = _seconds(rule.serve.starts), _seconds(rule.serve.ends)
            boundaries += [start, end]
            progress.append((start, end))
    return CompiledFlag(
        flag,
        version,
        _compile_evaluator(flag, version),
        cost_of_flag(flag),
        tuple(boundaries),
        tuple(progress),
    )


def _compile_evaluator(flag: Flag, version: int) -> Evaluator:
    if not flag.enabled:
        off = _answer(flag, version, flag.off_variant, DISABLED)
        return lambda _context, _now, _flags: off
    decide = _compile_rules(flag, version)
    return _check_prerequisites(flag, version, decide) if flag.prerequisites else decide


def _answer(
    flag: Flag, version: int, variant: str | None, reason: str, rule: str | None = None
) -> Evaluation:
    value = None if variant is None else flag.variants[variant]
    return Evaluation(flag.name, version, variant, value, reason, rule)


def _check_prerequisites(flag: Flag, version: int, decide: Evaluator) -> Evaluator:
    needs = flag.prerequisites
    off = _answer(flag, version, flag.off_variant, DISABLED)

    def evaluate_if_met(context: Context, now: float, flags: FlagSet) -> Evaluation:
        for need in needs:
            if not _is_met(need, context, now, flags):
                return off._replace(prerequisite=need.flag)
        return decide(context, now, flags)

    return evaluate_if_met


def _is_met(need: Prerequisite, context: Context, now: float, flags: FlagSet) -> bool:
    return flags.evaluate(need.flag, context, now).variant in need.variants


def _compile_rules(flag: Flag, version: int) -> Evaluator:
    is_static = not flag.rules and flag.default_variant is not None
    default = _answer(flag, version, flag.default_variant, STATIC if is_static else DEFAULT)
    if not flag.rules:
        return lambda _context, _now, _flags: default
    if len(flag.rules) == 1:
        return _compile_rule(flag, version, flag.rules[0], default)
    rules = [_compile_rule(flag, version, rule, None) for rule in flag.rules]

    def decide(context: Context, now: float, flags: FlagSet) -> Evaluation:
        skipped: tuple[tuple[str, str], ...] = ()
        for rule in rules:
            outcome = rule(context, now, flags)
            if outcome is None:
                continue
            if type(outcome) is Evaluation:
                return outcome._replace(skipped=skipped) if skipped else outcome
            skipped = (*skipped, outcome)
        return default._replace(skipped=skipped) if skipped else default

    return decide


def _compile_rule(
    flag: Flag, version: int, rule: Rule, default: Evaluation | None
) -> _RuleEvaluator:
    """Return a rule's evaluator: it yields an answer, None without a match, or why it was skipped.

    With a `default` no other rule follows, and the default is answered instead of both.
    """
    tries = _compile_serve(flag, version, rule, default)
    if rule.active is None:
        return tries
    start, until = _span(rule.active)

    def tries_in_time(context: Context, now: float, flags: FlagSet) -> Any:
        return tries(context, now, flags) if start <= now < until else default

    return tries_in_time


_EVER = float("inf")


def _span(window: Window) -> tuple[float, float]:
    start = -_EVER if window.start is None else _seconds(window.start)
    return start, _EVER if window.until is None else _seconds(window.until)


def _seconds(text: str) -> float:
    seconds = seconds_of(text)
    assert seconds is not None  # read_flag has seen to it
    return seconds


def _compile_serve(
    flag: Flag, version: int, rule: Rule, default: Evaluation | None
) -> _RuleEvaluator:
    holds = _always if rule.when is None else compile_condition(rule.when)
    match rule.serve:
        case Fixed(variant):
            answer = _answer(flag, version, variant, TARGETING_MATCH, rule.id)
            return lambda context, _, flags: answer if holds(context, flags) else default
        case Rollout():
            return _compile_rollout(flag, version, rule, rule.serve, holds, default)
        case Progressive():
            return _compile_progressive(flag, version, rule, rule.serve, holds, default)


def _missing(rule: Rule, by: str, default: Evaluation | None) -> Any:
    skipped = (rule.id, by)
    return skipped if default is None else default._replace(skipped=(skipped,))


def _compile_rollout(
    flag: Flag,
    version: int,
    rule: Rule,
    rollout: Rollout,
    holds: Matcher,
    default: Evaluation | None,
) -> _RuleEvaluator:
    bucket_of = HASHES[rollout.hash].bind(rollout.salt, rollout.total)
    owner_of = range_lookup(rollout.ranges)
    # All of the answer but its last member, the bucket.
    heads = [_answer(flag, version, span.variant, SPLIT, rule.id)[:-1] for span in rollout.ranges]
    get, new = getter(rollout.by), tuple.__new__
    name = rollout.by if "." not in rollout.by else None
    # A variant that owns all buckets needs no subject.
    owns_all = len(heads) == 1 and not HASHES[rollout.hash].needs_subject
    missing = Evaluation(*heads[0]) if owns_all else _missing(rule, rollout.by, default)
    longest = MAX_TEXT

    def tries(context: Context, _: float, flags: FlagSet) -> Any:
        if not holds(context, flags):
            return default
        subject = get(context) if name is None else context.get(name)
        is_text = type(subject) is str and len(subject) <= longest
        if not is_text and subject_of(subject) is None:
            return missing
        bucket = bucket_of(subject)  # type: ignore[arg-type]
        return new(Evaluation, heads[owner_of(bucket)] + (bucket,))

    return tries


def _compile_progressive(
    flag: Flag,
    version: int,
    rule: Rule,
    progressive: Progressive,
    holds: Matcher,
    default: Evaluation | None,
) -> _RuleEvaluator:
    method = HASHES[progressive.hash]
    bucket_of = method.bind(progressive.salt, method.total or 0)
    share_at = share_over_time(progressive)
    get = getter(progressive.by)
    missing = _missing(rule, progressive.by, default)
    inside = _answer(flag, version, progressive.variant, SPLIT, rule.id)
    outside = _answer(flag, version, progressive.otherwise, SPLIT, rule.id)

    def tries(context: Context, now: float, flags: FlagSet) -> Any:
        if not holds(context, flags):
            return default
        subject, share = subject_of(get(context)), share_at(now)
        if subject is None:
            if (
                share in (0, method.total) and not method.needs_subject
            ):  # one of both owns all buckets
                return inside if share else outside
            return missing
        bucket = bucket_of(subject)
        return (inside if bucket < share else outside)._replace(bucket=bucket)

    return tries


def share_over_time(progressive: Progressive) -> Callable[[float], int]:
    """Return a function from a time to the share in buckets: exact, in whole microseconds."""
    method = HASHES[progressive.hash]
    first, last = method.share(progressive.first), method.share(progressive.last)
    start = round(_seconds(progressive.starts) * 1_000_000)
    span = round(_seconds(progressive.ends) * 1_000_000) - start

    def share(now: float) -> int:
        elapsed = min(max(round(now * 1_000_000) - start, 0), span)
        return first + (last - first) * elapsed // span

    return share
