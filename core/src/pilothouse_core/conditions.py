"""Conditions on an evaluation context: read and checked once, compiled to closures.

A compiled condition never raises and waits for nothing, whatever the context holds.
"""

import re
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any, Protocol

import re2

from pilothouse_core.bucketing import DEFAULT_HASH, HASHES, Hash, Subject
from pilothouse_core.definitions import Place, shown
from pilothouse_core.names import is_name
from pilothouse_core.times import seconds_of
from pilothouse_core.versions import Key, filled_version, version_key

MAX_VALUES = 100_000
MAX_DEPTH = 32
# Of one flag or segment: whoever reads, compiles or evaluates it takes milliseconds for that.
MAX_CONDITIONS = 5000
MAX_COMPARED = 10_000  # values that are looked at one by one, as no set can hold them
MAX_STEPS = 20_000  # of the programs that RE2 makes of patterns
MAX_MATCHED = 4096  # characters; RE2 takes up to steps times characters, and no longer than that
_MAX_INNER = 1000
_MAX_PATTERN = 1000
_MAX_PATTERNS = 100
_MAX_TEXT = 1000
_MAX_PATTERN_BYTES = 1024 * 1024
_SEGMENT = re.compile(r"[^.\x00-\x1f]{1,128}")
_NUMERAL = re.compile(
    r"[+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|(?i:inf(?:inity)?|nan))"
)
DEFAULT_BY = "user_id"
_TOO_LONG = 10**4300  # CPython refuses to write this integer, and longer ones, as decimals

Context = Mapping[str, Any]
Scalar = str | int | float | bool


class Segments(Protocol):
    """Where a condition finds the segments it names: the flag set that is evaluated."""

    @property
    def segments(self) -> Mapping[str, "Holds"]: ...


Holds = Callable[[Context, Any], bool]


@dataclass(frozen=True, slots=True)
class AllOf:
    conditions: tuple["Condition", ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    conditions: tuple["Condition", ...]


@dataclass(frozen=True, slots=True)
class Not:
    condition: "Condition"


@dataclass(frozen=True, slots=True)
class InSegment:
    name: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """One operator on one attribute.

    `loose` takes more for a number or a version: a text that spells a number, and a version with
    a leading `v` or with fewer than three numbers.
    """

    attribute: str
    op: str
    values: tuple[Scalar, ...]
    case_insensitive: bool = False
    loose: bool = False


@dataclass(frozen=True, slots=True)
class Share:
    """True for a share of the subjects, by their bucket: see bucketing."""

    by: str
    salt: str
    hash: str
    percent: float


Condition = AllOf | AnyOf | Not | InSegment | Comparison | Share

_TEXT_OPS = ("starts_with", "ends_with", "contains", "matches")
_SET_OPS = ("in", "not_in")
_EQUAL_OPS = ("eq", "neq")
_NUMBER_OPS = ("gt", "gte", "lt", "lte")
_TIME_OPS = ("before", "after")
_VERSION_OPS = ("semver_eq", "semver_gt", "semver_gte", "semver_lt", "semver_lte")
OPERATORS = (
    *_SET_OPS,
    *_TEXT_OPS,
    *_EQUAL_OPS,
    *_NUMBER_OPS,
    *_TIME_OPS,
    *_VERSION_OPS,
    "cidr",
    "exists",
    "includes",
)
_FOLDING = frozenset({*_SET_OPS, *_EQUAL_OPS, *_TEXT_OPS})
_LOOSENED = frozenset({*_NUMBER_OPS, *_VERSION_OPS})
_ONE_VALUE = frozenset({*_EQUAL_OPS, *_NUMBER_OPS, *_TIME_OPS, *_VERSION_OPS})
_ONE_BY_ONE = frozenset({*_TEXT_OPS, "cidr"})
_HASHED = frozenset({*_SET_OPS, *_EQUAL_OPS, "includes"})


def read_condition(place: Place, depth: int = 0) -> Condition:
    """Read and check a condition; raises DefinitionError."""
    if depth > MAX_DEPTH:
        place.fail(f"is nested more than {MAX_DEPTH} deep", "too_deep")
    place.spend("conditions", 1, MAX_CONDITIONS)
    members = place.object()
    if "attribute" in members or "op" in members:
        return _read_test(place)
    name = next(iter(members), "")
    read = _READERS.get(name)
    if read is None or len(members) != 1:
        place.fail(f"is no condition: one of {', '.join(_READERS)}, or attribute with op")
    return read(place.at(name), depth + 1)


def _read_inner(place: Place, depth: int) -> tuple[Condition, ...]:
    return tuple(read_condition(item, depth) for item in place.items(_MAX_INNER))


def read_name(place: Place) -> str:
    name = place.text()
    if not is_name(name):
        place.fail(f"{shown(name)} cannot be a name", "bad_name")
    return name


def read_attribute(place: Place) -> str:
    """Read a dotted path into the context."""
    path = place.text()
    if not all(map(_SEGMENT.fullmatch, path.split("."))):
        place.fail(f"{shown(path)} is no dotted path into the context", "bad_attribute")
    return path


def _read_share(place: Place) -> Share:
    place.object({"by", "salt", "hash", "percent"})
    method = place.at("hash").one_of(HASHES) if place.has("hash") else DEFAULT_HASH
    percent = read_percent(place.member("percent"), HASHES[method])
    return Share(
        by=read_attribute(place.at("by")) if place.has("by") else DEFAULT_BY,
        salt=place.member("salt").text(),
        hash=method,
        percent=percent,
    )


def read_percent(place: Place, method: Hash) -> float:
    """Read a percentage that is a whole number of buckets."""
    value = place.number()
    try:
        method.share(value)
    except ValueError as error:
        place.fail(str(error), "bad_weight")
    return float(value)


def _read_test(place: Place) -> Comparison:
    place.object({"attribute", "op", "values", "case_insensitive", "loose"})
    operator = place.member("op").one_of(OPERATORS)
    folds = _is_set(place, "case_insensitive", operator, _FOLDING)
    at = place.at("values")
    values = at.values(MAX_VALUES) if place.has("values") else []
    if operator == "exists":
        if values:
            at.fail("exists compares with nothing")
    elif not values:
        at.fail("is missing or empty", "missing")
    if operator in _ONE_VALUE and len(values) != 1:
        at.fail(f"{operator} compares with one value")
    if operator == "matches" and len(values) > _MAX_PATTERNS:
        at.fail(f"has more than {_MAX_PATTERNS} patterns", "too_many")
    if operator in _ONE_BY_ONE:
        at.spend("values that are compared one by one", len(values), MAX_COMPARED)
    for number, value in enumerate(values):
        if operator not in _HASHED or not _is_scalar(value):
            _check_value(operator, at.item(number), folds=folds)
    return Comparison(
        read_attribute(place.member("attribute")),
        operator,
        tuple(values),
        folds,
        _is_set(place, "loose", operator, _LOOSENED),
    )


def _is_set(place: Place, name: str, operator: str, operators: Container[str]) -> bool:
    found = place.at(name).boolean() if place.has(name) else False
    if found and operator not in operators:
        place.at(name).fail(f"means nothing to {operator}")
    return found


def _is_scalar(value: object) -> bool:
    """Tell of most values that they may stand in a set; the others are worth a closer look."""
    kind = type(value)
    return kind is str or kind is bool or (kind is int and -(2**63) < value < 2**63)  # type: ignore[operator]


def _check_value(operator: str, place: Place, *, folds: bool) -> None:
    if operator in _HASHED:
        if not isinstance(place.value, (str, int, float)):
            place.fail("is not a string, number or boolean", "wrong_type")
        if not isinstance(place.value, (str, bool)):
            place.number()
        return
    if operator in _NUMBER_OPS:
        place.number()
        return
    text = place.text(_MAX_PATTERN if operator == "matches" else _MAX_TEXT)
    for operators, is_good, code, what in _TEXT_CHECKS:
        if operator in operators and not is_good(text):
            place.fail(f"{shown(text)} is no {what}", code)
    if operator == "matches":
        _check_pattern(place, text, folds=folds)


def _is_network(text: str) -> bool:
    try:
        ip_network(text, strict=False)
    except ValueError:
        return False
    return True


def _check_pattern(place: Place, text: str, *, folds: bool) -> None:
    try:
        program = _pattern(text, folds=folds)  # folding makes it larger: it may no longer fit
    except (re2.error, UnicodeEncodeError):
        place.fail(f"{shown(text)} is no pattern that RE2 can run", "bad_pattern")
    place.spend("steps of patterns", program.programsize, MAX_STEPS)


_TEXT_CHECKS: Sequence[tuple[Sequence[str], Callable[[str], object], str, str]] = (
    (_TIME_OPS, lambda text: seconds_of(text) is not None, "bad_time", "RFC 3339 time"),
    (_VERSION_OPS, version_key, "bad_version", "semantic version"),
    (("cidr",), _is_network, "bad_network", "IPv4 or IPv6 network"),
)


_READERS: Mapping[str, Callable[[Place, int], Condition]] = {
    "all": lambda place, depth: AllOf(_read_inner(place, depth)),
    "any": lambda place, depth: AnyOf(_read_inner(place, depth)),
    "not": lambda place, depth: Not(read_condition(place, depth)),
    "segment": lambda place, _: InSegment(read_name(place)),
    "rollout": lambda place, _: _read_share(place),
}


def written(condition: Condition) -> dict[str, Any]:
    """Return a condition as JSON members: what `read_condition` reads."""
    match condition:
        case AllOf(conditions):
            return {"all": [written(inner) for inner in conditions]}
        case AnyOf(conditions):
            return {"any": [written(inner) for inner in conditions]}
        case Not(inner):
            return {"not": written(inner)}
        case InSegment(name):
            return {"segment": name}
        case Share(by, salt, hash_, percent):
            return {"rollout": {"by": by, "salt": salt, "hash": hash_, "percent": percent}}
        case Comparison(attribute, operator, values, folds, loose):
            members: dict[str, Any] = {"attribute": attribute, "op": operator}
            if operator != "exists":
                members["values"] = list(values)
            if folds:
                members["case_insensitive"] = True
            if loose:
                members["loose"] = True
            return members


def segments_in(condition: Condition | None) -> Iterator[str]:
    """Name every segment a condition uses itself."""
    match condition:
        case AllOf(conditions) | AnyOf(conditions):
            for inner in conditions:
                yield from segments_in(inner)
        case Not(inner):
            yield from segments_in(inner)
        case InSegment(name):
            yield name
        case _:
            return


def nesting(condition: Condition | None) -> int:
    """Count the conditions inside each other, at the deepest."""
    match condition:
        case AllOf(conditions) | AnyOf(conditions):
            return 1 + max(map(nesting, conditions), default=0)
        case Not(inner):
            return 1 + nesting(inner)
        case _:
            return 1


def compiled(condition: Condition) -> Holds:
    """Return a closure (context, segments) -> bool."""
    match condition:
        case AllOf(conditions):
            return _all([compiled(inner) for inner in conditions])
        case AnyOf(conditions):
            return _any([compiled(inner) for inner in conditions])
        case Not(inner):
            holds = compiled(inner)
            return lambda context, segments: not holds(context, segments)
        case InSegment(name):
            return lambda context, segments: segments.segments.get(name, _never)(context, segments)
        case Share():
            return _share(condition)
        case Comparison():
            return _test(condition)


def _never(_: Context, __: Segments) -> bool:
    return False


def _all(inner: Sequence[Holds]) -> Holds:
    if len(inner) == 1:
        return inner[0]

    def holds(context: Context, segments: Segments) -> bool:
        for one in inner:  # noqa: SIM110 - a generator would cost more than what it asks
            if not one(context, segments):
                return False
        return True

    return holds


def _any(inner: Sequence[Holds]) -> Holds:
    if len(inner) == 1:
        return inner[0]

    def holds(context: Context, segments: Segments) -> bool:
        for one in inner:  # noqa: SIM110
            if one(context, segments):
                return True
        return False

    return holds


def getter(path: str) -> Callable[[Context], Any]:
    """Return a function that finds an attribute in a context, None where there is none."""
    names = path.split(".")
    if len(names) == 1:
        return lambda context: context.get(path)
    first, *others = names

    def get(context: Context) -> Any:
        found = context.get(first)
        for name in others:
            if not isinstance(found, Mapping):
                return None
            found = found.get(name)
        return found

    return get


def subject_of(value: object) -> Subject | None:
    """Return what of an attribute can be bucketed: a string, or an integer by its decimals."""
    if type(value) is str or (type(value) is int and -_TOO_LONG < value < _TOO_LONG):
        return value
    return None


def _share(share: Share) -> Holds:
    method = HASHES[share.hash]
    total = method.total or 100_000
    below = method.share(share.percent)
    bucket, get = method.bind(share.salt, total), getter(share.by)

    def holds(context: Context, _: Segments) -> bool:
        subject = subject_of(get(context))
        return subject is not None and bucket(subject) < below

    return holds


def _test(test: Comparison) -> Holds:
    holds = _positive(test)
    if test.op in ("not_in", "neq"):
        return lambda context, segments: not holds(context, segments)
    return holds


def _positive(test: Comparison) -> Holds:
    get = getter(test.attribute)
    if test.op in _SET_OPS or test.op in _EQUAL_OPS:
        return _equals(test, get)
    if test.op == "exists":
        return lambda context, _: get(context) is not None
    if test.op == "includes":
        return _includes(test, get)
    if test.op in _NUMBER_OPS:
        return _on_number(test, get)
    says = _on_text(test)
    return lambda context, _: type(found := get(context)) is str and says(found)


def _equals(test: Comparison, get: Callable[[Context], Any]) -> Holds:
    fold = str.casefold if test.case_insensitive else None
    texts = frozenset(fold(v) if fold else v for v in test.values if isinstance(v, str))
    if fold is None and all(isinstance(value, str) for value in test.values):
        if "." not in test.attribute:
            name = test.attribute

            def plain(context: Context, _: Segments) -> bool:
                found = context.get(name)
                return type(found) is str and found in texts

            return plain
        return lambda context, _: type(found := get(context)) is str and found in texts
    others = _among(test.values)

    def holds(context: Context, _: Segments) -> bool:
        found = get(context)
        if type(found) is str:
            return (fold(found) if fold else found) in texts
        return others(found)

    return holds


def _among(values: Sequence[Scalar]) -> Callable[[Any], bool]:
    """Tell whether something is one of the values: as dictionary keys true and 1 would be one."""
    texts = frozenset(v for v in values if isinstance(v, str))
    numbers = frozenset(v for v in values if type(v) in (int, float))
    booleans = frozenset(v for v in values if isinstance(v, bool))

    def says(found: Any) -> bool:
        kind = type(found)
        if kind is str:
            return found in texts
        if kind is bool:
            return found in booleans
        return (kind is int or kind is float) and found in numbers

    return says


def _includes(test: Comparison, get: Callable[[Context], Any]) -> Holds:
    """True for a list that holds one of the values."""
    says = _among(test.values)
    return lambda context, _: type(found := get(context)) is list and any(map(says, found))


def _on_text(test: Comparison) -> Callable[[str], bool]:
    texts = [str(value) for value in test.values]
    if test.op in _TIME_OPS:
        compares = _COMPARE["lt" if test.op == "before" else "gt"]
        return _on_order(compares, seconds_of, texts[0])
    if test.op in _VERSION_OPS:
        key = _loose_version if test.loose else version_key
        return _on_order(_COMPARE[test.op.removeprefix("semver_")], key, texts[0])
    if test.op == "cidr":
        networks = _networks(texts)
        return lambda found: _is_inside(found, networks)
    if test.op == "matches":
        return _matching([_pattern(text, folds=test.case_insensitive) for text in texts])
    if not test.case_insensitive:
        return _on_part(test.op, tuple(texts))
    says = _on_part(test.op, tuple(text.casefold() for text in texts))
    return lambda found: says(found.casefold())


def _on_part(operator: str, texts: tuple[str, ...]) -> Callable[[str], bool]:
    if operator == "starts_with":
        return lambda found: found.startswith(texts)
    if operator == "ends_with":
        return lambda found: found.endswith(texts)
    return lambda found: any(text in found for text in texts)


def _on_order(
    compares: Callable[[Any, Any], bool], key: Callable[[str], Any], limit: str
) -> Callable[[str], bool]:
    wanted = key(limit)

    def says(found: str) -> bool:
        place = key(found)
        return place is not None and compares(place, wanted)

    return says


def _loose_version(text: str) -> Key | None:
    return version_key(filled_version(text))


def _pattern(text: str, *, folds: bool) -> Any:
    options = re2.Options()
    options.log_errors = False
    options.case_sensitive = not folds
    options.max_mem = _MAX_PATTERN_BYTES
    return re2.compile(text, options)


def _matching(patterns: Sequence[Any]) -> Callable[[str], bool]:
    def says(found: str) -> bool:
        if len(found) > MAX_MATCHED:
            return False
        try:
            return any(pattern.search(found) is not None for pattern in patterns)
        except UnicodeEncodeError:
            return False  # half a surrogate pair is no text that RE2 could read

    return says


def _on_number(test: Comparison, get: Callable[[Context], Any]) -> Holds:
    limit = test.values[0]
    compares = _COMPARE[test.op]

    def holds(context: Context, _: Segments) -> bool:
        found = get(context)
        kind = type(found)
        return (kind is int or kind is float) and compares(found, limit)

    if not test.loose:
        return holds

    def holds_loosely(context: Context, segments: Segments) -> bool:
        found = get(context)
        if type(found) is not str:
            return holds(context, segments)
        return _NUMERAL.fullmatch(found) is not None and compares(float(found), limit)

    return holds_loosely


_COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {
    "eq": lambda found, limit: found == limit,
    "gt": lambda found, limit: found > limit,
    "gte": lambda found, limit: found >= limit,
    "lt": lambda found, limit: found < limit,
    "lte": lambda found, limit: found <= limit,
}


Networks = Mapping[int, Mapping[int, frozenset[int]]]


def _networks(texts: Sequence[str]) -> Networks:
    """Return the networks by version and by the bits that are the host's: a set for each."""
    found: dict[int, dict[int, set[int]]] = {4: {}, 6: {}}
    for network in (ip_network(text, strict=False) for text in texts):
        host = network.max_prefixlen - network.prefixlen
        start = int(network.network_address) >> host
        found[network.version].setdefault(host, set()).add(start)
    return {
        version: {host: frozenset(starts) for host, starts in hosts.items()}
        for version, hosts in found.items()
    }


def _is_inside(text: str, networks: Networks) -> bool:
    try:
        address = ip_address(text)
    except ValueError:
        return False
    # ::ffff:10.0.0.1 is how a socket for both families spells an IPv4 address.
    plain = getattr(address, "ipv4_mapped", None)
    return _is_among(address, networks) or (plain is not None and _is_among(plain, networks))


def _is_among(address: IPv4Address | IPv6Address, networks: Networks) -> bool:
    number = int(address)
    return any(number >> host in starts for host, starts in networks[address.version].items())
