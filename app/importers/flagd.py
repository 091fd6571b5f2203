"""Import of flagd's flag definitions.

A targeting expression becomes rules in order: each branch of an `if` is a rule, `fractional` is a
rollout with flagd's own hash, so that every user keeps their variant. In addition to the cases in
`jsonlogic`, evaluations differ in three cases, for subjects without a stable cohort:

- only strings and integers have a bucket; any other value is treated as missing;
- a branch that returns null serves the default variant by a rule: the reason is TARGETING_MATCH;
- a definition that flagd answers with an error is refused.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import Any, Final

from app.importers.flagd_export import write_flagd
from app.importers.jsonlogic import (
    BOOLEAN,
    LEGACY_FRACTION,
    MAX_DEPTH,
    Const,
    Logic,
    Steps,
    Var,
    branches,
    is_truthy,
    operation,
)
from app.importers.model import (
    ALWAYS,
    DEFAULT_FLAGD_HASH,
    DESCRIBED,
    NEVER,
    Condition,
    FlagdHash,
    ImportedFlags,
    Notes,
    UnexpressedNote,
    all_of,
    any_of,
    check_flag,
    check_segment,
    comparison_json,
    exists,
    negation_of,
    when_of,
)
from pilothouse_core.bucketing import HASHES, Range, range_lookup
from pilothouse_core.definitions import Place, quote
from pilothouse_core.flags.metadata import metadata_tag
from pilothouse_core.names import is_name

__all__ = ["read_flagd", "write_flagd"]

_LARGEST_TOTAL: Final = 2**31 - 1
_MAX_RULES: Final = 500
_SHARES: Final = 100_000  # of a share as a condition
_MANY_DOCUMENTS: Final = 1000
_SUBJECT: Final = "targetingKey"


def read_flagd(document: Any, hash_version: FlagdHash = DEFAULT_FLAGD_HASH) -> ImportedFlags:
    """Read a document of `flags`, and `$evaluators` as segments.

    A list of documents is read as one, as flagd does with several sources: flags may refer to
    `$evaluators` of any of them. Subjects keep the variants they have in a flagd that buckets by
    `hash_version`.
    """
    whole = Notes("")
    with whole.catching():
        parts = _parts(Place(document))
        flags, evaluators = _flags(parts), _evaluators(parts)
    if whole.entries:
        return ImportedFlags((), (), tuple(whole.entries))
    read, used, report = [], set[str](), list[UnexpressedNote]()
    steps = Steps()
    segments = _segments(evaluators, steps)
    for name, (place, metadata) in flags.items():
        notes = Notes(name)
        logic = Logic(notes, name, evaluators, steps, segments)
        steps.begin()
        with notes.catching():
            definition = _read_flag(name, place, logic, notes, _Reading(hash_version, metadata))
        if notes.entries:
            report += notes.entries
        else:
            read.append(definition)
            used |= logic.used
    return ImportedFlags(
        tuple(read), tuple(segments[name] for name in segments if name in used), tuple(report)
    )


def _parts(document: Place) -> Sequence[Place]:
    """Return the documents that are read as one."""
    if not isinstance(document.value, list):
        document.object()
        return [document]
    parts = document.items(_MANY_DOCUMENTS)
    for part in parts:
        part.object()
        _metadata(part.at("metadata"))
    if not any(part.has("flags") for part in parts):
        document.fail("holds no document with flags")
    return parts


def _flags(parts: Sequence[Place]) -> dict[str, tuple[Place, Mapping[str, Any]]]:
    """Return the flags of all documents, each with the metadata of its document."""
    by_name: dict[str, tuple[Place, Mapping[str, Any]]] = {}
    for part in parts:
        flags = part.member("flags") if len(parts) == 1 or part.has("flags") else Place({})
        for name in flags.object():
            place, metadata = flags.at(name), _metadata(part.at("metadata"))
            if name in by_name:
                _check_same(place, by_name[name][0])
            by_name[name] = place, metadata
    return by_name


def _evaluators(parts: Sequence[Place]) -> dict[str, Place]:
    by_name: dict[str, Place] = {}
    for part in parts:
        evaluators = part.at("$evaluators") if part.has("$evaluators") else Place({})
        for name in evaluators.object():
            if name in by_name:
                _check_same(evaluators.at(name), by_name[name])
            by_name[name] = evaluators.at(name)
    return by_name


def _check_same(place: Place, other: Place) -> None:
    if place.value != other.value:
        place.fail(f"differs from {other.pointer}")


def _segments(evaluators: Mapping[str, Place], steps: Steps) -> Mapping[str, Mapping[str, Any]]:
    """Return the evaluators that can become segments; the others are expanded in place."""
    segments = {}
    for name in evaluators:
        notes = Notes(name)
        steps.begin()
        with notes.catching():
            holds = Logic(notes, None, evaluators, steps).holds(evaluators[name])
            segment = {"name": name, "when": when_of(holds)}
            check_segment(segment, evaluators[name], notes)
        if is_name(name) and not notes.entries:
            segments[name] = segment
    return segments


@dataclass(frozen=True, slots=True)
class _Reading:
    """The shared parts of one document: evaluators, metadata and limits."""

    version: FlagdHash
    metadata: Mapping[str, Any]


def _read_flag(
    name: str, place: Place, logic: Logic, notes: Notes, reading: _Reading
) -> dict[str, Any]:
    kind, variants = _variants(place.member("variants"))
    state = place.member("state").one_of(["ENABLED", "DISABLED"])
    default = _default(place.at("defaultVariant"), variants)
    subjects = _Subjects(name, logic, reading.version)
    logic.fractional = partial(_holds_fraction, subjects)
    rules = _Rules(subjects, variants, default, logic, notes)
    targeting = place.at("targeting")
    if targeting.value:
        targeting.object()
        rules.add_outcome(targeting, [])
    definition = {
        "name": name,
        **_description_members(place.at("metadata"), reading.metadata),
        "type": kind,
        "variants": variants,
        "default_variant": default,
        "off_variant": None,
        "enabled": state == "ENABLED",
        "rules": rules.definitions(),
    }
    if not notes.entries:
        check_flag(definition, place, notes)
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
        place.fail("have values of different types")
    return kind, variants


def _default(place: Place, variants: Mapping[str, Any]) -> str | None:
    if place.value is None or place.value == "":
        return None
    name = _variant_name(place)
    if name not in variants:
        place.fail(f"{quote(name)} is not a variant of this flag")
    return name


def _variant_name(place: Place) -> str:
    if isinstance(place.value, bool):
        return str(place.value).lower()
    return place.text()


def _metadata(place: Place) -> Mapping[str, Any]:
    return {} if place.value is None else place.object()


def _description_members(place: Place, inherited: Mapping[str, Any]) -> dict[str, Any]:
    """Take description, owner and tags from the metadata, and all else as tags `name=value`.

    `inherited` is the metadata of the whole document, which that of a flag overrides.
    """
    metadata = {**inherited, **_metadata(place)}
    if not metadata:
        return {}
    described: dict[str, Any] = {
        name: str(metadata[name]) for name in ("description", "owner") if name in metadata
    }
    tags = [tag.strip() for tag in str(metadata.get("tags", "")).split(",")]
    for name, value in metadata.items():
        if name not in DESCRIBED:
            if not name or "=" in name or not isinstance(value, (str, int, float)):
                place.fail(
                    f"{quote(name)} cannot be a tag: its value is not a string, number or boolean"
                )
            tags.append(metadata_tag(name, value))
    return {**described, "tags": [tag for tag in tags if tag]}


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
    """The input of the hash: a salt followed by an attribute.

    `missing` is hashed instead of a missing attribute. A subject that does not meet `guard` has no
    bucket.
    """

    hash: str
    by: str
    salt: str
    missing: str | int | None
    guard: Sequence[Condition] = ()


@dataclass(frozen=True, slots=True)
class _Subjects:
    """Reads the bucketing value of a `fractional` for one version of flagd's hash."""

    flag: str
    logic: Logic
    version: FlagdHash

    def by_targeting_key(self) -> _Bucketing:
        hash_name = "flagd-1" if self.version == "v2" else "flagd-2"
        # To flagd, an empty key is a missing one.
        is_there = (exists(_SUBJECT), negation_of(comparison_json(_SUBJECT, "in", "")))
        return _Bucketing(hash_name, _SUBJECT, self.flag, None, is_there)

    def read(self, place: Place) -> _Bucketing | Const:
        call = operation(place)
        if call is None or call[0] != "cat":
            return self._read_value(place)
        operands = [self.logic.operand(one) for one in call[1]]
        *before, last = operands or [Const("")]
        if any(isinstance(one, Var) for one in before):
            place.fail("buckets by several attributes, or by an attribute with a suffix")
        salt = "".join(_text(place, one) for one in before)
        if isinstance(last, Const):
            return Const(salt + _text(place, last))
        if not salt and self.version == "v3":
            place.fail("converts an attribute to a string: name only the attribute")
        return _Bucketing(self._by_value, last.path, salt, salt + _text(place, last))

    def _read_value(self, place: Place) -> _Bucketing | Const:
        operand = self.logic.operand(place)
        hashed = _hash_input(place, operand)
        if self.version == "v2" and not isinstance(hashed, str):
            hashed = None  # version 2 hashes texts only
        if isinstance(operand, Const):
            return Const(hashed)
        is_text = [comparison_json(operand.path, "starts_with", "")] if self.version == "v2" else []
        return _Bucketing(self._by_value, operand.path, "", hashed, is_text)

    @property
    def _by_value(self) -> str:
        return "flagd-1" if self.version == "v2" else "flagd-2-value"

    def bucket(self, value: str | int, total: int) -> int:
        return HASHES[self._by_value].bind("", total)(value)


class _Rules:
    """Turns an expression into rules.

    Every path through it ends in a rule or in `_end_path`, so what a later rule sees has matched no
    earlier branch: it need not say so.
    """

    def __init__(
        self,
        subjects: _Subjects,
        variants: Mapping[str, Any],
        default: str | None,
        logic: Logic,
        notes: Notes,
    ) -> None:
        self._subjects = subjects
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

    def add_outcome(self, place: Place, guard: Sequence[Condition], depth: int = 0) -> None:
        """Add the rules that serve the result of `place` where `guard` holds."""
        self._logic.steps.take(place)
        place = self._logic.follow_reference(place)
        if depth > MAX_DEPTH or len(self._rules) > _MAX_RULES:
            self._notes.add(place, "expands to too many rules")
            return
        applied = operation(place)
        if applied is None:
            self._add_literal(place, guard)
            return
        name, arguments = applied
        if name in ("if", "?:"):
            self._add_branches(branches(arguments, place), guard, depth)
        elif name == "fractional":
            self._add_fractional(place, arguments, guard, depth)
        elif name == "fractionalEvaluation":
            self._notes.add(place, LEGACY_FRACTION)
        elif name in BOOLEAN:
            yes, no = Place("true", place.pointer), Place("false", place.pointer)
            self._add_branches([(place, yes), (None, no)], guard, depth)
        else:
            self._notes.add(place, f"{quote(name)} returns variants that are not known in advance")

    def _add_branches(
        self, paths: list[tuple[Place | None, Place]], guard: Sequence[Condition], depth: int
    ) -> None:
        for condition, result in paths:
            holds = ALWAYS if condition is None else self._logic.holds(condition)
            self.add_outcome(result, [*guard, holds], depth + 1)

    def _add_literal(self, place: Place, guard: Sequence[Condition]) -> None:
        if place.value is None:
            self._end_path(guard)
            return
        with self._notes.catching():
            self._add(guard, {"variant": self._variant(place)})

    def _variant(self, place: Place) -> str:
        name = _variant_name(place)
        if name not in self._variants:
            place.fail(f"{quote(name)} is not a variant of this flag")
        return name

    def _add(
        self, guard: Sequence[Condition], serve: Mapping[str, Any], *, implied: bool = False
    ) -> None:
        when = all_of([*self._excluded, *guard])
        if when != NEVER:
            self._rules.append(_Rule(when, serve, implied))

    def _end_path(self, guard: Sequence[Condition]) -> None:
        """End a path without a result: with the default variant, else the caller's default."""
        if self._default is not None:
            self._add(guard, {"variant": self._default}, implied=True)
        else:
            self._excluded.append(negation_of(all_of(guard)))

    def _add_fractional(
        self, place: Place, arguments: list[Place], guard: Sequence[Condition], depth: int
    ) -> None:
        with self._notes.catching():
            bucketing, fractions = _read_fractional(self._subjects, place, arguments)
            if not sum(one.weight for one in fractions):
                place.fail("has weights with the sum 0")
            self._split(place, bucketing, fractions, guard, depth)

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
        resolved = [
            _Fraction(self._logic.follow_reference(one.variant), one.weight) for one in fractions
        ]
        for number, one in enumerate(resolved):
            call = operation(one.variant)
            if call is None:
                continue
            if call[0] not in ("if", "?:") or depth > MAX_DEPTH or len(self._rules) > _MAX_RULES:
                one.variant.fail("is neither a variant nor an `if` that returns variants")
            for condition, result in branches(call[1], one.variant):
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
            place.fail("returns null, and the flag has no default variant")
        return self._default

    def _roll_out(
        self, bucketing: _Bucketing | Const, ranges: list[Range], guard: Sequence[Condition]
    ) -> None:
        if isinstance(bucketing, Const):
            self._serve_bucket(bucketing.value, ranges, guard)
            return
        weights: dict[str, int] = {}
        for start, end, name in ranges:
            weights[name] = weights.get(name, 0) + end - start
        rollout = {
            "by": bucketing.by,
            "salt": bucketing.salt,
            "hash": bucketing.hash,
            "weights": weights,
            "ranges": [list(span) for span in ranges],
        }
        said = all_of(guard)
        said_already = said.get("all", [said])  # what was exported and imported again
        needed = [one for one in bucketing.guard if one not in said_already]
        self._add([*guard, *needed], {"rollout": rollout})
        self._serve_bucket(bucketing.missing, ranges, guard)

    def _serve_bucket(
        self, hashed: str | float | None, ranges: list[Range], guard: Sequence[Condition]
    ) -> None:
        """Serve the variant of one bucketing value; None serves nothing."""
        if not isinstance(hashed, (str, int)):
            self._end_path(guard)
            return
        bucket = self._subjects.bucket(hashed, ranges[-1].end)
        self._add(guard, {"variant": ranges[range_lookup(ranges)(bucket)].variant})


def _read_fractional(
    subjects: _Subjects, place: Place, arguments: list[Place]
) -> tuple[_Bucketing | Const, list[_Fraction]]:
    if not arguments:
        place.fail("names no variants")
    if isinstance(arguments[0].value, list):
        bucketing: _Bucketing | Const = subjects.by_targeting_key()
    else:
        bucketing = subjects.read(subjects.logic.follow_reference(arguments[0]))
        arguments = arguments[1:]
    fractions = [_fraction(one) for one in arguments]
    if sum(one.weight for one in fractions) > _LARGEST_TOTAL:
        place.fail(f"has weights whose sum is more than {_LARGEST_TOTAL}")
    return bucketing, fractions


def _holds_fraction(
    subjects: _Subjects, logic: Logic, place: Place, arguments: list[Place]
) -> Condition:
    """Return a condition that holds where a `fractional` yields a truthy value."""
    bucketing, fractions = _read_fractional(subjects, place, arguments)
    logic.steps.take(place, len(fractions))
    for one in fractions:
        if operation(logic.follow_reference(one.variant)) is not None:
            one.variant.fail("is computed from the context, which is not supported in a condition")
    ends = list(accumulate(one.weight for one in fractions))
    spans = [
        (end - one.weight, end)
        for one, end in zip(fractions, ends, strict=True)
        if one.weight and is_truthy(logic.follow_reference(one.variant).value)
    ]
    if not spans:
        return NEVER
    total = ends[-1]

    def is_in(bucket: int) -> bool:
        return any(start <= bucket < end for start, end in spans)

    if isinstance(bucketing, Const):
        value = bucketing.value
        has_bucket = isinstance(value, (str, int)) and is_in(subjects.bucket(value, total))
        return ALWAYS if has_bucket else NEVER

    def below(bucket: int) -> Condition:
        if bucket * _SHARES % total:
            place.fail("has shares that are not multiples of 0.001 percent, as a condition needs")
        return {
            "rollout": {
                "by": bucketing.by,
                "salt": bucketing.salt,
                "hash": bucketing.hash,
                "percent": bucket * 100 / total,
            }
        }

    shares = [
        all_of([below(end), *([negation_of(below(start))] if start else [])])
        for start, end in spans
    ]
    ways = [all_of([*bucketing.guard, any_of(shares)])]
    if bucketing.missing is not None and is_in(subjects.bucket(bucketing.missing, total)):
        ways.append(negation_of(all_of([*bucketing.guard, below(total)])))
    return any_of(ways)


def _fraction(place: Place) -> _Fraction:
    parts = place.items(2)
    if not parts:
        place.fail("names no variant")
    weight = parts[1].value if len(parts) > 1 else 1
    if type(weight) is not int:
        parts[1].fail("is not an integer")
    return _Fraction(parts[0], max(weight, 0))


def _hash_input(place: Place, operand: Const | Var) -> str | int | None:
    """Return the hash input for a constant, or for a missing attribute."""
    value = operand.default if isinstance(operand, Var) else operand.value
    if isinstance(value, (bool, float)):
        place.fail("buckets by a value that is neither a string nor an integer")
    return value


def _text(place: Place, operand: Const | Var) -> str:
    """Return the result of `cat` for a constant, or for a missing attribute."""
    value = _hash_input(place, operand)
    return "null" if value is None else str(value)
