"""JsonLogic, as flagd evaluates it, as conditions.

JsonLogic compares loosely: 18 equals "18", and a missing attribute counts as 0. The conditions say
so explicitly, or the import refuses the expression. They differ from flagd in three cases:

- lists and objects are never equal to a string, a number or a boolean;
- a string that spells a number with spaces or underscores is not a number;
- 0 and false do not equal null: only a missing attribute is null.
"""

import operator
import re
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, NoReturn

from app.importers.model import (
    ALWAYS,
    NEVER,
    Condition,
    Notes,
    all_of,
    any_of,
    comparison_json,
    exists,
    negation_of,
)
from pilothouse_core.conditions.reading import read_attribute
from pilothouse_core.definitions import DefinitionError, Place, quote
from pilothouse_core.versions import full_version, version_key

MAX_DEPTH: Final = 40
# References are written out, so a few lines can stand for millions. A definition has at most 5,000
# conditions and 1 MiB some 50,000 places: what is meant to be read needs no more steps than these.
_MAX_STEPS: Final = 20_000
_MAX_STEPS_OF_ALL: Final = 100_000
_NUMERAL = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_NOT_A_NUMBER = float("nan")
LEGACY_FRACTION: Final = (
    "'fractionalEvaluation' buckets by another hash (XXH3), whose cohorts cannot be kept: "
    "first replace it with 'fractional' in flagd, which creates new cohorts there"
)
_EITHER_WAY = "flagd's implementations disagree about missing attributes: use === or !"

Scalar = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Const:
    value: Scalar


@dataclass(frozen=True, slots=True)
class Var:
    """An attribute, or `default` if it is missing."""

    path: str
    default: Scalar


Operand = Const | Var


@dataclass(slots=True)
class Steps:
    """The remaining budget of steps for a document, and for one definition in it."""

    _of_all: int = _MAX_STEPS_OF_ALL
    _of_one: int = 0

    def begin(self) -> None:
        """Begin with another definition."""
        self._of_one = _MAX_STEPS

    def take(self, place: Place, amount: int = 1) -> None:
        """Take steps from the budget; raises DefinitionError if it is used up."""
        self._of_one -= amount
        self._of_all -= amount
        if self._of_one < 0 or self._of_all < 0:
            place.fail("is too large, together with everything it refers to")


def operation(place: Place) -> tuple[str, list[Place]] | None:
    """Return the operator and its arguments, None for a literal value."""
    if not isinstance(place.value, Mapping) or len(place.value) != 1:
        return None
    name = next(iter(place.value))
    inner = place.at(name)
    if not isinstance(inner.value, list):
        return name, [inner]
    return name, [Place(item, f"{inner.pointer}/{n}") for n, item in enumerate(inner.value)]


def branches(arguments: Sequence[Place], end: Place) -> list[tuple[Place | None, Place]]:
    """Return the (condition, result) of an `if`; the last has none, and is null if not written."""
    pairs: list[tuple[Place | None, Place]] = [
        (arguments[n], arguments[n + 1]) for n in range(0, len(arguments) - 1, 2)
    ]
    otherwise = arguments[-1] if len(arguments) % 2 else Place(None, end.pointer)
    return [*pairs, (None, otherwise)]


class Logic:
    """Reads the logic of one flag."""

    def __init__(
        self,
        notes: Notes,
        flag_key: str | None,
        evaluators: Mapping[str, Place],
        steps: Steps,
        segments: Container[str] = (),
    ) -> None:
        self.steps = steps
        self._notes = notes
        self._flag_key = flag_key
        self._evaluators = evaluators
        self._segments = segments
        self.used: set[str] = set()  # segments
        self.fractional: Callable[[Logic, Place, list[Place]], Condition] | None = None
        """Says for whom a `fractional` yields something truthy."""

    def follow_reference(self, place: Place) -> Place:
        """Follow references to $evaluators; an unknown reference is returned unchanged."""
        for _ in range(MAX_DEPTH):
            call = operation(place)
            if call is None or call[0] != "$ref":
                return place
            name = place.value["$ref"]
            if not isinstance(name, str) or name not in self._evaluators:
                return place
            place = self._evaluators[name]
        return Place({"$ref": None}, place.pointer)

    def holds(self, place: Place, depth: int = 0) -> Condition:
        """Return a condition that is true when JsonLogic finds `place` truthy.

        Raises DefinitionError only for what takes too many steps.
        """
        self.steps.take(place)
        if depth > MAX_DEPTH:
            return self._notes.refuse(place, "is nested too deeply")
        call = operation(place)
        if call is not None and call[0] == "$ref" and self._is_segment(place.value["$ref"]):
            self.used.add(place.value["$ref"])
            return {"segment": place.value["$ref"]}
        place = self.follow_reference(place)
        call = operation(place)
        if call is None:
            return _constant(truth=is_truthy(place.value))
        joins = _JOINS.get(call[0])
        if joins is not None:
            return joins(self, call[1], depth + 1)
        return self._test(place, *call)

    def _is_segment(self, name: object) -> bool:
        return isinstance(name, str) and name in self._segments

    def _test(self, place: Place, name: str, arguments: list[Place]) -> Condition:
        reads = _TESTS.get(name)
        if name == "fractional":
            reads = self.fractional
        if name == "fractionalEvaluation":
            return self._notes.refuse(place, LEGACY_FRACTION)
        if reads is None:
            return self._notes.refuse(place, f"{quote(name)} has no equivalent in Pilothouse")
        try:
            return reads(self, place, arguments)
        except DefinitionError as error:
            return self._notes.refuse(Place(None, error.pointer), error.detail)

    def _and(self, arguments: list[Place], depth: int) -> Condition:
        return all_of([self.holds(one, depth) for one in arguments]) if arguments else NEVER

    def _or(self, arguments: list[Place], depth: int) -> Condition:
        return any_of([self.holds(one, depth) for one in arguments])

    def _not(self, arguments: list[Place], depth: int) -> Condition:
        return negation_of(self._is(arguments, depth))

    def _is(self, arguments: list[Place], depth: int) -> Condition:
        return self.holds(arguments[0], depth) if arguments else NEVER

    def _if(self, arguments: list[Place], depth: int) -> Condition:
        ways: list[Condition] = []
        before: list[Condition] = []
        for condition, result in branches(arguments, Place(None)):
            self.steps.take(result, len(before))  # each of them is said again
            holds = ALWAYS if condition is None else self.holds(condition, depth)
            ways.append(all_of([*before, holds, self.holds(result, depth)]))
            before.append(negation_of(holds))
        return any_of(ways)

    def operand(self, place: Place) -> Operand:
        """Return a constant or an attribute; raises DefinitionError for anything else."""
        place = self.follow_reference(place)
        call = operation(place)
        if call is None:
            if isinstance(place.value, (Mapping, list)):
                place.fail("cannot be compared: it is not a string, number, boolean or null")
            return Const(place.value)
        name, arguments = call
        if name != "var":
            place.fail("cannot be compared: it is neither an attribute nor a value")
        return self._variable(place, arguments)

    def _variable(self, place: Place, arguments: list[Place]) -> Operand:
        path = arguments[0].value if arguments else ""
        if not isinstance(path, str):
            place.fail("does not name an attribute")
        if path == "$flagd.flagKey" and self._flag_key is not None:
            return Const(self._flag_key)
        if path == "$flagd" or path.startswith("$flagd."):
            place.fail(f"{quote(path)} has no equivalent in Pilothouse")
        if any(part == "length" or part.isdigit() for part in path.split(".")[1:]):
            place.fail(
                f"{quote(path)} counts or selects items, which has no equivalent in Pilothouse"
            )
        read_attribute(Place(path, arguments[0].pointer if arguments else place.pointer))
        default = arguments[1] if len(arguments) > 1 else Place(None)
        if isinstance(default.value, (Mapping, list)):
            default.fail("is not a string, number, boolean or null")
        return Var(path, default.value)

    def _two(self, place: Place, arguments: list[Place]) -> tuple[Operand, Operand]:
        padded = [*arguments[:2], Place(None, place.pointer), Place(None, place.pointer)]
        return self.operand(padded[0]), self.operand(padded[1])

    def _truthy(self, place: Place, _: list[Place]) -> Condition:
        operand = self.operand(place)
        if isinstance(operand, Const):
            return _constant(truth=is_truthy(operand.value))
        is_something = comparison_json(operand.path, "not_in", "", 0, False)  # noqa: FBT003
        present = all_of([exists(operand.path), is_something])
        return _on(operand, present, missing=is_truthy(operand.default))

    def _equal(self, place: Place, arguments: list[Place]) -> Condition:
        left, right = self._two(place, arguments)
        return _comparison_of(place, left, right, _loosely_equal, same_loosely)

    def _same(self, place: Place, arguments: list[Place]) -> Condition:
        number = self._number_tested(arguments)
        if number is not None:
            return any_of([comparison_json(number, "gte", 0), comparison_json(number, "lt", 0)])
        left, right = self._two(place, arguments)
        return _comparison_of(place, left, right, _strictly_equal, same_strictly)

    def _number_tested(self, arguments: list[Place]) -> str | None:
        """Return the attribute of `{"===": [V, {"+": [V]}]}`: V is a number."""
        if len(arguments) != 2:  # noqa: PLR2004
            return None
        second = operation(arguments[1])
        if second is None or second[0] != "+" or len(second[1]) != 1:
            return None
        first = self.operand(arguments[0])
        is_same = second[1][0].value == arguments[0].value
        return first.path if is_same and isinstance(first, Var) and first.default is None else None

    def _order_condition(self, place: Place, arguments: list[Place], name: str) -> Condition:
        if len(arguments) < 2:  # noqa: PLR2004
            place.fail("has fewer than two arguments")
        operands = [self.operand(one) for one in arguments[:3]]
        if len(operands) == 3 and operands[2] == Const(None):  # noqa: PLR2004
            operands.pop()
        pairs = pairwise(operands)
        return all_of([_in_order(place, left, right, name) for left, right in pairs])

    def _in(self, place: Place, arguments: list[Place]) -> Condition:
        if len(arguments) < 2:  # noqa: PLR2004
            return NEVER
        needle, haystack = self.operand(arguments[0]), self.follow_reference(arguments[1])
        if isinstance(haystack.value, list):
            return _among(needle, self._constants(haystack))
        return _inside(place, needle, self.operand(haystack))

    def _constants(self, place: Place) -> list[Scalar]:
        values = []
        for item in place.items(100_000):
            operand = self.operand(item)
            if isinstance(operand, Var):
                item.fail("is an attribute in a list of values")
            values.append(operand.value)
        return values

    def _part(self, place: Place, arguments: list[Place], name: str) -> Condition:
        if len(arguments) != 2:  # noqa: PLR2004
            place.fail("needs two arguments")
        text, part = self._two(place, arguments)
        if isinstance(part, Var) or isinstance(text, Const):
            place.fail("must compare an attribute with a constant")
        if not isinstance(part.value, str):
            return NEVER
        says = str.startswith if name == "starts_with" else str.endswith
        missing = isinstance(text.default, str) and says(text.default, part.value)
        return _on(text, comparison_json(text.path, name, part.value), missing=missing)

    def _version(self, place: Place, arguments: list[Place]) -> Condition:
        if len(arguments) != 3:  # noqa: PLR2004
            place.fail("needs three arguments")
        version, sign, wanted = (self.operand(one) for one in arguments)
        if not isinstance(version, Var) or version.default is not None:
            place.fail("must compare an attribute without a default")
        if not isinstance(wanted, Const) or not isinstance(sign, Const):
            place.fail("must compare with a constant version")
        full = full_version(str(wanted.value))
        key = version_key(full)
        if key is None:
            arguments[2].fail(f"{quote(str(wanted.value))} is not a version")
        return _on_version(arguments[1], version.path, str(sign.value), full)


_JOINS: Mapping[str, Callable[[Logic, list[Place], int], Condition]] = {
    "and": Logic._and,  # noqa: SLF001 - the class's own table
    "or": Logic._or,  # noqa: SLF001
    "!": Logic._not,  # noqa: SLF001
    "!!": Logic._is,  # noqa: SLF001
    "if": Logic._if,  # noqa: SLF001
    "?:": Logic._if,  # noqa: SLF001
}
_TESTS: Mapping[str, Callable[[Logic, Place, list[Place]], Condition]] = {
    "var": Logic._truthy,  # noqa: SLF001
    "==": Logic._equal,  # noqa: SLF001
    "!=": lambda logic, place, arguments: negation_of(logic._equal(place, arguments)),  # noqa: SLF001
    "===": Logic._same,  # noqa: SLF001
    "!==": lambda logic, place, arguments: negation_of(logic._same(place, arguments)),  # noqa: SLF001
    "<": lambda logic, place, arguments: logic._order_condition(place, arguments, "lt"),  # noqa: SLF001
    "<=": lambda logic, place, arguments: logic._order_condition(place, arguments, "lte"),  # noqa: SLF001
    ">": lambda logic, place, arguments: logic._order_condition(place, arguments, "gt"),  # noqa: SLF001
    ">=": lambda logic, place, arguments: logic._order_condition(place, arguments, "gte"),  # noqa: SLF001
    "in": Logic._in,  # noqa: SLF001
    "starts_with": lambda logic, place, arguments: logic._part(place, arguments, "starts_with"),  # noqa: SLF001
    "ends_with": lambda logic, place, arguments: logic._part(place, arguments, "ends_with"),  # noqa: SLF001
    "sem_ver": Logic._version,  # noqa: SLF001
}
# Their result is true or false, never null or a value.
BOOLEAN: Final = frozenset(["!", "!!", "==", "!=", "===", "!==", "<", "<=", ">", ">=", "in"])


def is_truthy(value: object) -> bool:
    """Return the truth of a value in JsonLogic: objects are true, empty lists are false."""
    return True if isinstance(value, Mapping) else bool(value)


def number_of(value: Scalar) -> float:
    if value is None:
        return 0
    if not isinstance(value, str):
        return value
    return float(value) if _NUMERAL.fullmatch(value) else _NOT_A_NUMBER


def same_loosely(left: Scalar, right: Scalar) -> bool:
    if type(left) is type(right):
        return left == right
    if isinstance(left, (int, float)) or isinstance(right, (int, float)):
        return number_of(left) == number_of(right)
    return False


def same_strictly(left: Scalar, right: Scalar) -> bool:
    return left == right and isinstance(left, bool) is isinstance(right, bool)


def _constant(*, truth: bool) -> Condition:
    return ALWAYS if truth else NEVER


def _on(var: Var, present: Condition, *, missing: bool) -> Condition:
    """Combine a condition for a present attribute with its outcome for a missing one."""
    return any_of([present, negation_of(exists(var.path))]) if missing else present


def _comparison_of(
    place: Place,
    left: Operand,
    right: Operand,
    present: Callable[[Place, str, Scalar], Condition],
    same: Callable[[Scalar, Scalar], bool],
) -> Condition:
    if isinstance(left, Const) and isinstance(right, Const):
        return _constant(truth=same(left.value, right.value))
    if isinstance(left, Const):
        left, right = right, left
    if isinstance(right, Var) or isinstance(left, Const):
        place.fail("compares two attributes")
    condition = present(place, left.path, right.value)
    return _on(left, condition, missing=same(left.default, right.value))


def _strictly_equal(_: Place, path: str, value: Scalar) -> Condition:
    return NEVER if value is None else comparison_json(path, "eq", value)


def _loosely_equal(place: Place, path: str, value: Scalar) -> Condition:
    if value is None:
        return NEVER
    if isinstance(value, str):
        return comparison_json(path, "in", *_equal_spellings(place, value))
    if not value:
        place.fail(_EITHER_WAY)
    is_number = all_of([comparison_json(path, op, +value, loose=True) for op in ("gte", "lte")])
    return any_of([is_number, comparison_json(path, "eq", True)]) if value == 1 else is_number  # noqa: FBT003


def _equal_spellings(place: Place, text: str) -> list[Any]:
    """Return everything that equals a text, loosely."""
    number = number_of(text)
    if number != number:  # noqa: PLR0124 - not a number
        if _looks_numeric(text):
            place.fail(f"flagd's implementations disagree whether {quote(text)} is a number")
        return [text]
    booleans = [bool(number)] if number in (0, 1) else []
    return [text, *([number] if abs(number) < float("inf") else []), *booleans]


def _looks_numeric(text: str) -> bool:
    try:
        return float(text) == float(text)
    except ValueError:
        return text.lower().startswith(("0x", "0b", "0o"))


_ORDERS: Mapping[str, Callable[[Any, Any], bool]] = {
    "lt": operator.lt,
    "lte": operator.le,
    "gt": operator.gt,
    "gte": operator.ge,
}
_TURNED = {"lt": "gt", "lte": "gte", "gt": "lt", "gte": "lte"}


def _in_order(place: Place, left: Operand, right: Operand, name: str) -> Condition:
    if isinstance(left, Const):
        left, right, name = right, left, _TURNED[name]
    if isinstance(left, Const) or isinstance(right, Var):
        place.fail("must compare an attribute with a number")
    limit = right.value
    if limit is None or isinstance(limit, str):
        place.fail("must compare with a number")
    limit = +limit
    holds = _ORDERS[name]
    booleans = [value for value in (True, False) if holds(value, limit)]
    ways = [comparison_json(left.path, name, limit, loose=True)]
    if booleans:
        ways.append(comparison_json(left.path, "in", *booleans))
    return _on(left, any_of(ways), missing=holds(number_of(left.default), limit))


def _among(needle: Operand, values: Sequence[Scalar]) -> Condition:
    if isinstance(needle, Const):
        return _constant(truth=any(same_strictly(needle.value, value) for value in values))
    wanted = [value for value in values if value is not None]
    present = comparison_json(needle.path, "in", *wanted) if wanted else NEVER
    is_there = any(same_strictly(needle.default, value) for value in values)
    return _on(needle, present, missing=is_there)


def _inside(place: Place, needle: Operand, haystack: Operand) -> Condition:
    if isinstance(needle, Var) or isinstance(haystack, Const):
        place.fail("must look for a constant in an attribute")
    wanted = needle.value
    if isinstance(wanted, bool) or not isinstance(wanted, (str, int)):
        place.fail("must look for a string or an integer in an attribute")
    ways = [comparison_json(haystack.path, "contains", str(wanted))]
    ways.append(comparison_json(haystack.path, "includes", wanted))
    missing = isinstance(haystack.default, str) and str(wanted) in haystack.default
    return _on(haystack, any_of(ways), missing=missing)


_SIGNS = {"=": "eq", "<": "lt", "<=": "lte", ">": "gt", ">=": "gte"}


def _on_version(sign_at: Place, path: str, sign: str, version: str) -> Condition:
    def test(name: str, limit: str = version) -> Condition:
        return comparison_json(path, f"semver_{name}", limit, loose=True)

    if sign in _SIGNS:
        return test(_SIGNS[sign])
    if sign == "!=":  # what is no version is not unequal either
        return any_of([test("lt"), test("gt")])
    key = version_key(version)
    if sign not in ("^", "~") or key is None:
        _unknown_sign(sign_at, sign)
    major, minor, *_ = key
    # No version comes before the one that ends in -0.
    least, next_one = (0, f"{major + 1}.0") if sign == "^" else (minor, f"{major}.{minor + 1}")
    return all_of([test("gte", f"{major}.{least}.0-0"), test("lt", f"{next_one}.0-0")])


def _unknown_sign(place: Place, sign: str) -> NoReturn:
    place.fail(f"{quote(sign)} is not an operator for versions")
