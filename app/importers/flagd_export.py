"""Export of flags as flagd's definitions.

What flagd cannot express is reported by its place in the flag: shares by a hash that flagd does
not have, time windows, progressive rollouts, prerequisites, patterns, networks, times and
comparisons that ignore case. Some conditions match slightly more in flagd: true and false count
as numbers, and `v1.2` is a version.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import gcd
from typing import Any, Final, NamedTuple

from app.importers.model import DEFAULT_FLAGD_HASH, DESCRIBED, FlagdHash, UnexpressedNote
from pilothouse_core.bucketing import HASHES, shares_of
from pilothouse_core.conditions.model import (
    AllOf,
    AnyOf,
    Comparison,
    Condition,
    InSegment,
    Not,
    segments_in,
)
from pilothouse_core.flags.metadata import metadata_of, metadata_tag
from pilothouse_core.flags.model import Fixed, Flag, Rollout, Rule, Segment

_SUBJECTS: Final = ("user_id", "targetingKey")


class _Method(NamedTuple):
    """How the target flagd assigns buckets."""

    version: FlagdHash
    redraws: bool


class _CannotSayError(ValueError):
    def __init__(self, pointer: str, reason: str) -> None:
        super().__init__(reason)
        self.pointer = pointer
        self.reason = reason


def write_flagd(
    flags: Iterable[Flag],
    segments: Iterable[Segment],
    hash_version: FlagdHash = DEFAULT_FLAGD_HASH,
    *,
    redraws: bool = False,
) -> tuple[dict[str, Any], tuple[UnexpressedNote, ...]]:
    """Return a document for flagd, and a report of the definitions it cannot express.

    With `redraws`, rollouts by a hash that flagd does not have keep their shares, but not their
    subjects.
    """
    method = _Method(hash_version, redraws)
    known = {segment.name: segment for segment in segments}
    written: dict[str, Any] = {}
    used: set[str] = set()
    report = []
    for flag in flags:
        try:
            needed = _needed_segments(flag, known)
            for name in needed:
                _segment(known[name])
            written[flag.name] = _flag(flag, method)
            used |= needed
        except _CannotSayError as error:
            report.append(UnexpressedNote(flag.name, error.pointer, error.reason))
    document: dict[str, Any] = {"flags": written}
    if used:
        ordered = _users_first(used, known)
        document["$evaluators"] = {name: _segment(known[name]) for name in ordered}
    return document, tuple(report)


def _needed_segments(flag: Flag, segments: Mapping[str, Segment]) -> set[str]:
    needed: set[str] = set()
    waiting = [name for rule in flag.rules for name in segments_in(rule.when)]
    while waiting:
        name = waiting.pop()
        if name not in segments:
            raise _CannotSayError("/rules", f"there is no segment {name!r}")
        if name not in needed:
            needed.add(name)
            waiting += segments_in(segments[name].when)
    return needed


def _users_first(names: set[str], segments: Mapping[str, Segment]) -> list[str]:
    """Put segments before those they name: flagd replaces references in this order, once."""
    depths: dict[str, int] = {}

    def depth(name: str) -> int:
        if name not in depths:
            inner = segments_in(segments[name].when)
            depths[name] = 1 + max((depth(other) for other in inner), default=0)
        return depths[name]

    return sorted(names, key=lambda name: (-depth(name), name))


def _segment(segment: Segment) -> Any:
    if segment.when is None:
        return True
    return _logic(segment.when, f"/segments/{segment.name}/when")


def _flag(flag: Flag, method: _Method) -> dict[str, Any]:
    if flag.prerequisites:
        raise _CannotSayError("/prerequisites", "flagd has no prerequisites")
    is_fixed = not flag.enabled and flag.off_variant is not None
    members: dict[str, Any] = {
        # A disabled flag serves the caller's default there; a variant is served as the only one.
        "state": "ENABLED" if flag.enabled or is_fixed else "DISABLED",
        "variants": dict(flag.variants),
        "defaultVariant": flag.off_variant if is_fixed else flag.default_variant,
    }
    if flag.rules and not is_fixed:
        steps: list[Any] = []
        for number, rule in enumerate(flag.rules):
            steps += _rule(flag, rule, f"/rules/{number}", method)
        members["targeting"] = {"if": steps}
    custom = {
        name: value
        for name, value in metadata_of(flag).items()
        if name not in DESCRIBED and metadata_tag(name, value) in flag.tags
    }
    said = {metadata_tag(name, value) for name, value in custom.items()}
    tags = ",".join(tag for tag in flag.tags if tag not in said)
    metadata = {"description": flag.description, "owner": flag.owner, "tags": tags}
    described = {**{name: text for name, text in metadata.items() if text}, **custom}
    return {**members, "metadata": described} if described else members


def _rule(flag: Flag, rule: Rule, pointer: str, method: _Method) -> list[Any]:
    """Return the condition and the result of a rule, as `if` takes them."""
    if rule.active is not None:
        raise _CannotSayError(f"{pointer}/active", "flagd has no time windows")
    when = True if rule.when is None else _logic(rule.when, f"{pointer}/when")
    match rule.serve:
        case Fixed(variant):
            return [when, variant]
        case Rollout(ranges=(only,), hash=by_hash) if not HASHES[by_hash].needs_subject:
            return [when, only.variant]  # at 0 % and at 100 % there is nothing to compute
        case Rollout() as rollout:
            is_there = {"!==": [_attribute(rollout.by, pointer), None]}
            at = f"{pointer}/serve/rollout"
            return [_both(when, is_there), _rollout(flag, rollout, at, method)]
        case _:
            raise _CannotSayError(f"{pointer}/serve", "flagd has no progressive rollouts")


def _both(when: Any, is_there: Any) -> Any:
    """Join two conditions; the first may contain the second already after a round trip."""
    if when is True:
        return is_there
    parts = when["and"] if isinstance(when, dict) and "and" in when else [when]
    return when if is_there in parts else {"and": [*parts, is_there]}


_VERSIONS: Final[Mapping[str, FlagdHash]] = {
    "flagd-1": "v2",
    "flagd-2": "v3",
    "flagd-2-value": "v3",
}


def _rollout(flag: Flag, rollout: Rollout, pointer: str, method: _Method) -> dict[str, Any]:
    stated = _VERSIONS.get(rollout.hash)
    if stated != method.version and method.redraws:
        return _redrawn(rollout, pointer)
    if stated is None:
        reason = f"flagd cannot compute {rollout.hash}; redraw=true keeps only the shares"
        raise _CannotSayError(f"{pointer}/hash", reason)
    if stated != method.version:
        reason = f"{rollout.hash} is version {stated[1]} of flagd's hash: export with hash={stated}"
        raise _CannotSayError(f"{pointer}/hash", reason)
    parts = [[span.variant, span.end - span.start] for span in rollout.ranges]
    if rollout.hash == "flagd-2":
        if rollout.salt != flag.name:
            raise _CannotSayError(f"{pointer}/salt", "flagd uses the name of the flag as the salt")
        if rollout.by not in _SUBJECTS:
            raise _CannotSayError(f"{pointer}/by", "the hash flagd-2 buckets by the targeting key")
        return {"fractional": parts}
    subject = _attribute(rollout.by, f"{pointer}/by")
    if rollout.hash == "flagd-1":
        if rollout.by in _SUBJECTS and rollout.salt == flag.name:
            return {"fractional": parts}
        # Version 2 hashes nothing but texts: `cat` makes one of a number.
        return {"fractional": [{"cat": [rollout.salt, subject]}, *parts]}
    return {"fractional": [{"cat": [rollout.salt, subject]} if rollout.salt else subject, *parts]}


def _redrawn(rollout: Rollout, pointer: str) -> dict[str, Any]:
    """Write the same shares by the hash that flagd has."""
    shares = shares_of(rollout.ranges)
    least = gcd(*shares.values())
    parts = [[variant, share // least] for variant, share in shares.items()]
    if rollout.by in _SUBJECTS:
        return {"fractional": parts}
    subject = _attribute(rollout.by, f"{pointer}/by")
    return {"fractional": [{"cat": [rollout.salt, subject]}, *parts]}


def _attribute(path: str, pointer: str) -> dict[str, str]:
    first, *others = path.split(".")
    if first == "$flagd" or any(name == "length" or name.isdigit() for name in others):
        raise _CannotSayError(pointer, f"flagd interprets the path {path!r} differently")
    return {"var": "targetingKey" if path in _SUBJECTS else path}


def _logic(condition: Condition, pointer: str) -> Any:
    match condition:
        case AllOf(inner):
            return _combination("and", inner, f"{pointer}/all", empty=True)
        case AnyOf(inner):
            return _combination("or", inner, f"{pointer}/any", empty=False)
        case Not(inner):
            return {"!": [_logic(inner, f"{pointer}/not")]}
        case InSegment(name):
            return {"$ref": name}
        case Comparison():
            return _comparison(condition, pointer)
        case _:
            raise _CannotSayError(pointer, "flagd has no rollouts in conditions")


def _combination(name: str, inner: Sequence[Condition], pointer: str, *, empty: bool) -> Any:
    if not inner:
        return empty
    return {name: [_logic(one, f"{pointer}/{number}") for number, one in enumerate(inner)]}


def _comparison(test: Comparison, pointer: str) -> Any:
    if test.case_insensitive:
        raise _CannotSayError(f"{pointer}/case_insensitive", "flagd compares case-sensitively")
    written = _TESTS.get(test.op)
    if written is None:
        raise _CannotSayError(f"{pointer}/op", f"flagd has no operator {test.op}")
    return written(_attribute(test.attribute, f"{pointer}/attribute"), test, pointer)


_Attribute = Mapping[str, str]


def _among(attribute: _Attribute, test: Comparison, _: str) -> Any:
    test_json = {"in": [attribute, list(test.values)]}
    return test_json if test.op in ("in", "eq") else {"!": [test_json]}


def _exists(attribute: _Attribute, _: Comparison, __: str) -> Any:
    return {"!==": [attribute, None]}


def _part(attribute: _Attribute, test: Comparison, _: str) -> Any:
    return {"or": [{test.op: [attribute, value]} for value in test.values]}


def _contains(attribute: _Attribute, test: Comparison, pointer: str) -> Any:
    """flagd's `in` searches strings and lists: only a string starts with an empty string."""
    for number, value in enumerate(test.values):
        if isinstance(value, bool) or not isinstance(value, (str, int)):
            raise _CannotSayError(
                f"{pointer}/values/{number}", "flagd does not distinguish 1 from true"
            )
    is_text: Any = {"starts_with": [attribute, ""]}
    kind = is_text if test.op == "contains" else {"!": [is_text]}
    return {"and": [kind, {"or": [{"in": [value, attribute]} for value in test.values]}]}


_SIGNS: Final = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<=", "eq": "="}


def _order_test(attribute: _Attribute, test: Comparison, _: str) -> Any:
    """In flagd a missing attribute counts as 0, and texts count as numbers."""
    is_number = {"===": [attribute, {"+": [attribute]}]}
    is_there = {"!==": [attribute, None]}
    kind = is_there if test.loose else is_number
    return {"and": [kind, {_SIGNS[test.op]: [attribute, test.values[0]]}]}


def _version(attribute: _Attribute, test: Comparison, _: str) -> Any:
    sign = _SIGNS[test.op.removeprefix("semver_")]
    return {"sem_ver": [attribute, sign, test.values[0]]}


_TESTS: Mapping[str, Callable[[_Attribute, Comparison, str], Any]] = {
    **dict.fromkeys(("in", "not_in", "eq", "neq"), _among),
    **dict.fromkeys(("starts_with", "ends_with"), _part),
    **dict.fromkeys(("contains", "includes"), _contains),
    **dict.fromkeys(("gt", "gte", "lt", "lte"), _order_test),
    **dict.fromkeys([f"semver_{name}" for name in ("eq", "gt", "gte", "lt", "lte")], _version),
    "exists": _exists,
}
