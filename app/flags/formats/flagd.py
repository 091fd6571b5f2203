"""flagd's flag definitions, read.

A targeting expression becomes rules in order: each branch of an `if` is a rule, `fractional` is a
rollout with flagd's own hash, so that everybody keeps their variant. Apart from what `jsonlogic`
says, four things differ, for subjects that have no cohort worth keeping:

- an empty targeting key has a bucket here, flagd counts it as missing;
- only texts and whole numbers have a bucket; whoever has something else to be bucketed by gets what
  those get who have nothing;
- a branch that yields null serves the default variant by a rule: the reason is TARGETING_MATCH;
- what flagd answers with an error is refused.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Final

from app.flags.formats.flagd_writing import write_flagd
from app.flags.formats.jsonlogic import (
    BOOLEAN,
    MAX_DEPTH,
    Const,
    Logic,
    Steps,
    Var,
    branches,
    operation,
)
from app.flags.formats.model import (
    ALWAYS,
    NEVER,
    Condition,
    Imported,
    Notes,
    Unexpressed,
    all_of,
    checked_flag,
    checked_segment,
    negated,
    when_of,
)
from pilothouse_core.bucketing import HASHES, Range, owner
from pilothouse_core.definitions import Place, shown
from pilothouse_core.names import is_name

__all__ = ["read_flagd", "write_flagd"]

_LARGEST_TOTAL: Final = 2**31 - 1
_MAX_RULES: Final = 500
_SUBJECT: Final = "targetingKey"


def read_flagd(document: Any) -> Imported:
    """Read a document of `flags`, and `$evaluators` as segments."""
    whole = Notes("")
    with whole.catching():
        place = Place(document)
        flags = place.member("flags")
        evaluators = place.at("$evaluators") if place.has("$evaluators") else Place({})
        evaluators.object()
        names = list(flags.object())
    if whole.found:
        return Imported((), (), tuple(whole.found))
    steps = Steps()
    segments = _segments(evaluators, steps)
    read, used, report = [], set[str](), list[Unexpressed]()
    for name in names:
        notes = Notes(name)
        logic = Logic(notes, name, evaluators, steps, segments)
        steps.begin()
        with notes.catching():
            definition = _read_flag(name, flags.at(name), logic, notes)
        if notes.found:
            report += notes.found
        else:
            read.append(definition)
            used |= logic.used
    return Imported(
        tuple(read), tuple(segments[name] for name in segments if name in used), tuple(report)
    )


def _segments(evaluators: Place, steps: Steps) -> Mapping[str, Mapping[str, Any]]:
    """Return every evaluator that can stand as a segment; the others are written out in place."""
    segments = {}
    for name in evaluators.object():
        notes = Notes(name)
        steps.begin()
        with notes.catching():
            holds = Logic(notes, None, evaluators, steps).holds(evaluators.at(name))
            segment = {"name": name, "when": when_of(holds)}
            checked_segment(segment, evaluators.at(name), notes)
        if is_name(name) and not notes.found:
            segments[name] = segment
    return segments


def _read_flag(name: str, place: Place, logic: Logic, notes: Notes) -> dict[str, Any]:
    kind, variants = _variants(place.member("variants"))
    state = place.member("state").one_of(["ENABLED", "DISABLED"])
    default = _default(place.at("defaultVariant"), variants)
    rules = _Rules(name, variants, default, logic, notes)
    targeting = place.at("targeting")
    if targeting.value:
        targeting.object()
        rules.outcome(targeting, [])
    definition = {
        "name": name,
        **_described(place.at("metadata")),
        "type": kind,
        "variants": variants,
        "default_variant": default,
        "off_variant": None,
        "enabled": state == "ENABLED",
        "rules": rules.definitions(),
    }
    if not notes.found:
        checked_flag(definition, place, notes)
    return definition


_KINDS: Mapping[str, tuple[type, ...]] = {
    "boolean": (bool,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "object": (dict, list),
}


def _variants(place: Place) -> tuple[str, Mapping[str, Any]]:
    variants = place.object()
    types = {type(value) for value in variants.values()}
    kind = next((kind for kind, accepted in _KINDS.items() if types <= {*accepted}), None)
    if kind is None:
        place.fail("are not values of one type")
    return kind, variants


def _default(place: Place, variants: Mapping[str, Any]) -> str | None:
    if place.value is None or place.value == "":
        return None
    name = _variant_name(place)
    if name not in variants:
        place.fail(f"{shown(name)} is no variant of this flag")
    return name


def _variant_name(place: Place) -> str:
    if isinstance(place.value, bool):
        return str(place.value).lower()
    return place.text()


def _described(place: Place) -> dict[str, Any]:
    """Take description, owner and tags from the metadata, and all else as tags `name=value`."""
    if place.value is None:
        return {}
    metadata = dict(place.object())
    described: dict[str, Any] = {
        name: str(metadata.pop(name)) for name in ("description", "owner") if name in metadata
    }
    tags = str(metadata.pop("tags", "")).split(",")
    others = [
        f"{name}={value if isinstance(value, str) else json.dumps(value)}"
        for name, value in metadata.items()
    ]
    return {**described, "tags": [tag.strip() for tag in [*tags, *others] if tag.strip()]}


@dataclass(frozen=True, slots=True)
class _Rule:
    when: Condition
    serve: Mapping[str, Any]
    implied: bool = False  # it serves what nothing would serve: needed before other rules only


@dataclass(frozen=True, slots=True)
class _Fraction:
    variant: Place
    weight: int


@dataclass(frozen=True, slots=True)
class _Bucketing:
    """What is hashed: an attribute behind a salt. `missing` is hashed where there is none."""

    hash: str
    by: str
    salt: str
    missing: str | int | None


class _Rules:
    """Turns an expression into rules.

    Every path through it ends in a rule or in `_nothing`, so what a later rule sees has matched no
    earlier branch: it need not say so.
    """

    def __init__(
        self,
        flag: str,
        variants: Mapping[str, Any],
        default: str | None,
        logic: Logic,
        notes: Notes,
    ) -> None:
        self._flag = flag
        self._variants = variants
        self._default = default
        self._logic = logic
        self._notes = notes
        self._rules: list[_Rule] = []
        self._excluded: list[Condition] = []  # who gets the caller's own default

    def definitions(self) -> list[dict[str, Any]]:
        rules = self._rules
        while rules and rules[-1].implied:
            rules = rules[:-1]
        return [{"when": when_of(rule.when), "serve": dict(rule.serve)} for rule in rules]

    def outcome(self, place: Place, guard: Sequence[Condition], depth: int = 0) -> None:
        """Add the rules of those who pass `guard` and get what `place` yields."""
        self._logic.steps.take(place)
        place = self._logic.resolved(place)
        if depth > MAX_DEPTH or len(self._rules) > _MAX_RULES:
            self._notes.add(place, "makes too many rules")
            return
        found = operation(place)
        if found is None:
            self._literal(place, guard)
            return
        name, arguments = found
        if name in ("if", "?:"):
            self._branch(branches(arguments, place), guard, depth)
        elif name == "fractional":
            self._fractional(place, arguments, guard, depth)
        elif name in BOOLEAN:
            yes, no = Place("true", place.pointer), Place("false", place.pointer)
            self._branch([(place, yes), (None, no)], guard, depth)
        else:
            self._notes.add(place, f"{shown(name)} yields no variant that is known beforehand")

    def _branch(
        self, found: list[tuple[Place | None, Place]], guard: Sequence[Condition], depth: int
    ) -> None:
        for condition, result in found:
            holds = ALWAYS if condition is None else self._logic.holds(condition)
            self.outcome(result, [*guard, holds], depth + 1)

    def _literal(self, place: Place, guard: Sequence[Condition]) -> None:
        if place.value is None:
            self._nothing(guard)
            return
        with self._notes.catching():
            self._add(guard, {"variant": self._variant(place)})

    def _variant(self, place: Place) -> str:
        name = _variant_name(place)
        if name not in self._variants:
            place.fail(f"{shown(name)} is no variant of this flag")
        return name

    def _add(
        self, guard: Sequence[Condition], serve: Mapping[str, Any], *, implied: bool = False
    ) -> None:
        when = all_of([*self._excluded, *guard])
        if when != NEVER:
            self._rules.append(_Rule(when, serve, implied))

    def _nothing(self, guard: Sequence[Condition]) -> None:
        """End a path that yields nothing: the default variant, or else the caller's default."""
        if self._default is not None:
            self._add(guard, {"variant": self._default}, implied=True)
        else:
            self._excluded.append(negated(all_of(guard)))

    def _fractional(
        self, place: Place, arguments: list[Place], guard: Sequence[Condition], depth: int
    ) -> None:
        with self._notes.catching():
            if not arguments:
                place.fail("names no variants")
            if isinstance(arguments[0].value, list):
                bucketing: _Bucketing | Const = _Bucketing("flagd-2", _SUBJECT, self._flag, None)
            else:
                bucketing = self._bucketing(self._logic.resolved(arguments.pop(0)))
            fractions = [_fraction(one) for one in arguments]
            if not 0 < sum(one.weight for one in fractions) <= _LARGEST_TOTAL:
                place.fail(f"has weights that add up to nothing, or to more than {_LARGEST_TOTAL}")
            self._split(place, bucketing, fractions, guard, depth)

    def _bucketing(self, place: Place) -> _Bucketing | Const:
        found = operation(place)
        if found is None or found[0] != "cat":
            operand = self._logic.operand(place)
            if isinstance(operand, Var):
                return _Bucketing("flagd-2-value", operand.path, "", _hashed(place, operand))
            return Const(_hashed(place, operand))
        operands = [self._logic.operand(one) for one in found[1]]
        *before, last = operands or [Const("")]
        if any(isinstance(one, Var) for one in before):
            place.fail("buckets by more than one attribute, or by one with something behind it")
        salt = "".join(_text(place, one) for one in before)
        if isinstance(last, Const):
            return Const(salt + _text(place, last))
        if not salt:
            place.fail("makes a text of an attribute: name the attribute alone")
        return _Bucketing("flagd-2-value", last.path, salt, salt + _text(place, last))

    def _split(
        self,
        place: Place,
        bucketing: _Bucketing | Const,
        fractions: list[_Fraction],
        guard: Sequence[Condition],
        depth: int,
    ) -> None:
        """Roll out; where the variant of a fraction depends on an `if`, once for each branch."""
        self._logic.steps.take(place, len(fractions))
        resolved = [_Fraction(self._logic.resolved(one.variant), one.weight) for one in fractions]
        for number, one in enumerate(resolved):
            found = operation(one.variant)
            if found is None:
                continue
            if found[0] not in ("if", "?:") or depth > MAX_DEPTH or len(self._rules) > _MAX_RULES:
                one.variant.fail("is no variant, and no choice of variants")
            for condition, result in branches(found[1], one.variant):
                holds = ALWAYS if condition is None else self._logic.holds(condition)
                chosen = [
                    *resolved[:number],
                    _Fraction(result, one.weight),
                    *resolved[number + 1 :],
                ]
                self._split(place, bucketing, chosen, [*guard, holds], depth + 1)
            return
        self._roll_out(bucketing, self._ranges(resolved), guard)

    def _ranges(self, fractions: Iterable[_Fraction]) -> list[Range]:
        ranges: list[Range] = []
        ends = accumulate(one.weight for one in fractions)
        for one, end in zip(fractions, ends, strict=True):
            name = self._fractions_variant(one.variant)
            start = ranges[-1].end if ranges else 0
            if ranges and ranges[-1].variant == name:
                ranges[-1] = Range(ranges[-1].start, end, name)
            elif start < end:
                ranges.append(Range(start, end, name))
        return ranges

    def _fractions_variant(self, place: Place) -> str:
        if place.value is not None:
            return self._variant(place)
        if self._default is None:
            place.fail("yields nothing, and there is no default variant to say so")
        return self._default

    def _roll_out(
        self, bucketing: _Bucketing | Const, ranges: list[Range], guard: Sequence[Condition]
    ) -> None:
        if isinstance(bucketing, Const):
            self._served(bucketing.value, ranges, guard)
            return
        weights: dict[str, int] = {}
        for start, end, name in ranges:
            weights[name] = weights.get(name, 0) + end - start
        rollout = {
            "by": bucketing.by,
            "salt": bucketing.salt,
            "hash": bucketing.hash,
            "weights": weights,
            "ranges": [list(found) for found in ranges],
        }
        self._add(guard, {"rollout": rollout})
        self._served(bucketing.missing, ranges, guard)

    def _served(
        self, hashed: str | float | None, ranges: list[Range], guard: Sequence[Condition]
    ) -> None:
        """Serve everybody what one value gets; None gets nothing."""
        if not isinstance(hashed, (str, int)):
            self._nothing(guard)
            return
        bucket = HASHES["flagd-2-value"].bind("", ranges[-1].end)(hashed)
        self._add(guard, {"variant": ranges[owner(ranges)(bucket)].variant})


def _fraction(place: Place) -> _Fraction:
    parts = place.items(2)
    if not parts:
        place.fail("names no variant")
    weight = parts[1].value if len(parts) > 1 else 1
    if type(weight) is not int:
        parts[1].fail("is no whole number")
    return _Fraction(parts[0], max(weight, 0))


def _hashed(place: Place, operand: Const | Var) -> str | int | None:
    """Return what is hashed of a constant, or where an attribute is missing."""
    value = operand.default if isinstance(operand, Var) else operand.value
    if isinstance(value, (bool, float)):
        place.fail("buckets by something else than a text or a whole number")
    return value


def _text(place: Place, operand: Const | Var) -> str:
    """Return what `cat` makes of a constant, or of an attribute that is missing."""
    value = _hashed(place, operand)
    return "null" if value is None else str(value)
