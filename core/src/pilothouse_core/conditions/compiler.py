"""Conditions compiled to closures.

A compiled condition never raises and never waits, whatever the context holds.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

from pilothouse_core.bucketing import HASHES
from pilothouse_core.conditions.attributes import getter, subject_of
from pilothouse_core.conditions.literals import NUMERAL, compile_pattern, loose_version_key
from pilothouse_core.conditions.model import (
    EQUAL_OPS,
    MAX_TEXT,
    NUMBER_OPS,
    SET_OPS,
    SUBJECTS,
    TIME_OPS,
    VERSION_OPS,
    AllOf,
    AnyOf,
    Comparison,
    Condition,
    Context,
    InSegment,
    Matcher,
    Not,
    Scalar,
    Segments,
    Share,
)
from pilothouse_core.text_matching import prefix_matcher, substring_matcher, suffix_matcher
from pilothouse_core.times import seconds_of
from pilothouse_core.versions import version_key

# Reading an attribute of this length or more is counted as work.
_SHORT = 256


def compile_condition(condition: Condition) -> Matcher:
    """Return a closure (context, segments) -> bool."""
    match condition:
        case AllOf(conditions):
            return _all([compile_condition(inner) for inner in conditions])
        case AnyOf(conditions):
            return _any([compile_condition(inner) for inner in conditions])
        case Not(inner):
            holds = compile_condition(inner)
            return lambda context, segments: not holds(context, segments)
        case InSegment(name):
            return lambda context, segments: segments.segments.get(name, _never)(context, segments)
        case Share():
            return _share(condition)
        case Comparison():
            return _test(condition)


def _never(_: Context, __: Segments) -> bool:
    return False


def _all(inner: Sequence[Matcher]) -> Matcher:
    if len(inner) == 1:
        return inner[0]

    def holds(context: Context, segments: Segments) -> bool:
        for one in inner:  # noqa: SIM110 - a generator would cost more than what it asks
            if not one(context, segments):
                return False
        return True

    return holds


def _any(inner: Sequence[Matcher]) -> Matcher:
    if len(inner) == 1:
        return inner[0]

    def holds(context: Context, segments: Segments) -> bool:
        for one in inner:  # noqa: SIM110
            if one(context, segments):
                return True
        return False

    return holds


def _share(share: Share) -> Matcher:
    method = HASHES[share.hash]
    total = method.total or 100_000
    below = method.share(share.percent)
    bucket, get = method.bind(share.salt, total), getter(share.by)

    if (
        below in (0, total) and not method.needs_subject
    ):  # no subject or all, also contexts without one
        return lambda _context, _segments: below == total

    def holds(context: Context, _: Segments) -> bool:
        subject = subject_of(get(context))
        return subject is not None and bucket(subject) < below

    return holds


def _test(test: Comparison) -> Matcher:
    holds = _positive(test)
    if test.op in ("not_in", "neq"):
        return lambda context, segments: not holds(context, segments)
    return holds


def _positive(test: Comparison) -> Matcher:
    get = getter(test.attribute)
    if test.op in SET_OPS or test.op in EQUAL_OPS:
        return _equals(test, get)
    if test.op == "exists":
        return lambda context, _: get(context) is not None
    if test.op == "includes":
        return _includes(test, get)
    if test.op in NUMBER_OPS:
        return _on_number(test, get)
    if test.attribute in SUBJECTS:
        get = _subject_text(get)
    if test.loose and test.op in VERSION_OPS:
        get = _version_text(get)
    return _text_matcher(get, _on_text(test))


def _version_text(get: Callable[[Context], Any]) -> Callable[[Context], Any]:
    """Return a getter of versions; a number counts by its decimals: 1.2 may lack quotes."""

    def text(context: Context) -> Any:
        version = get(context)
        if type(version) is float or (type(version) is int and subject_of(version) is not None):
            return str(version)
        return version

    return text


def _subject_text(get: Callable[[Context], Any]) -> Callable[[Context], Any]:
    """Return a getter of subjects as rollouts read them: an integer by its decimals."""

    def text(context: Context) -> Any:
        subject = get(context)
        return str(subject) if type(subject) is int and subject_of(subject) is not None else subject

    return text


def _text_matcher(get: Callable[[Context], Any], says: Callable[[str], bool]) -> Matcher:
    """True for a text that is not too long and of which `says` is true."""

    def holds(context: Context, segments: Segments) -> bool:
        text = get(context)
        if type(text) is not str:
            return False
        if len(text) > _SHORT:
            if len(text) > MAX_TEXT:
                return False
            segments.pause()
        return says(text)

    return holds


def _equals(test: Comparison, get: Callable[[Context], Any]) -> Matcher:
    if test.attribute in SUBJECTS:
        return _equals_subject(test, get)
    return _equals_exactly(test, get)


def _equals_subject(test: Comparison, get: Callable[[Context], Any]) -> Matcher:
    """Compare as rollouts take subjects: 101 and "101" are one."""
    values = tuple(str(v) if type(v) is int else v for v in test.values)
    if test.case_insensitive:
        folded = _equals_exactly(replace(test, values=values), _subject_text(get))
        plain = _equals_subject(replace(test, case_insensitive=False), get)
        return lambda context, segments: folded(context, segments) or plain(context, segments)
    texts, name = _in_bounds(values), test.attribute

    def is_among(context: Context, _: Segments) -> bool:
        subject = context.get(name)
        if type(subject) is str:
            return subject in texts
        return type(subject) is int and subject_of(subject) is not None and str(subject) in texts

    if all(isinstance(value, str) for value in test.values):
        return is_among
    others = _among([value for value in test.values if not isinstance(value, str)])
    return lambda context, segments: is_among(context, segments) or others(context.get(name))


def _equals_exactly(test: Comparison, get: Callable[[Context], Any]) -> Matcher:
    fold = str.casefold if test.case_insensitive else None
    texts = frozenset(map(fold, _texts(test.values))) if fold else _in_bounds(test.values)
    if fold is None and all(isinstance(value, str) for value in test.values):
        if "." not in test.attribute and test.attribute not in SUBJECTS:  # `get` reads those
            name = test.attribute

            def plain(context: Context, _: Segments) -> bool:
                value = context.get(name)
                return type(value) is str and value in texts

            return plain
        return lambda context, _: type(value := get(context)) is str and value in texts
    others = _among(test.values)
    if fold is None:
        return lambda context, _: others(get(context))
    folded = _text_matcher(get, lambda text: text.casefold() in texts)

    def holds(context: Context, segments: Segments) -> bool:
        return folded(context, segments) or (type(f := get(context)) is not str and others(f))

    return holds


def _texts(values: Sequence[Scalar]) -> Iterator[str]:
    return (value for value in values if isinstance(value, str))


def _in_bounds(values: Sequence[Scalar]) -> frozenset[str]:
    """Return the texts that an attribute can be: of too long a text no operator is true.

    So nothing has to be measured when a context is looked at.
    """
    return frozenset(text for text in _texts(values) if len(text) <= MAX_TEXT)


def _among(values: Sequence[Scalar]) -> Callable[[Any], bool]:
    """Return a test for membership; in one set, true and 1 would be equal."""
    texts = _in_bounds(values)
    numbers = frozenset(v for v in values if type(v) in (int, float))
    booleans = frozenset(v for v in values if isinstance(v, bool))

    def says(value: Any) -> bool:
        kind = type(value)
        if kind is str:
            return value in texts
        if kind is bool:
            return value in booleans
        return (kind is int or kind is float) and value in numbers

    return says


def _includes(test: Comparison, get: Callable[[Context], Any]) -> Matcher:
    """True for a list that holds one of the values."""
    says = _among(test.values)

    def holds(context: Context, segments: Segments) -> bool:
        values = get(context)
        if type(values) is not list:
            return False
        if len(values) > _SHORT:
            segments.pause()
        return any(map(says, values))

    return holds


def _on_text(test: Comparison) -> Callable[[str], bool]:
    texts = [str(value) for value in test.values]
    if test.op in TIME_OPS:
        compares = _COMPARE["lt" if test.op == "before" else "gt"]
        return _on_order(compares, seconds_of, texts[0])
    if test.op in VERSION_OPS:
        key = loose_version_key if test.loose else version_key
        return _on_order(_COMPARE[test.op.removeprefix("semver_")], key, texts[0])
    if test.op == "cidr":
        networks = _networks(texts)
        return lambda text: _is_inside(text, networks)
    if test.op == "matches":
        return _matching([compile_pattern(text, folds=test.case_insensitive) for text in texts])
    if not test.case_insensitive:
        return _on_part(test.op, tuple(texts))
    says = _on_part(test.op, tuple(text.casefold() for text in texts))
    return lambda text: says(text.casefold())


def _on_part(operator: str, texts: tuple[str, ...]) -> Callable[[str], bool]:
    if operator == "starts_with":
        return prefix_matcher(texts)
    return suffix_matcher(texts) if operator == "ends_with" else substring_matcher(texts)


def _on_order(
    compares: Callable[[Any, Any], bool], key: Callable[[str], Any], limit: str
) -> Callable[[str], bool]:
    wanted = key(limit)

    def says(text: str) -> bool:
        place = key(text)
        return place is not None and compares(place, wanted)

    return says


def _matching(patterns: Sequence[Any]) -> Callable[[str], bool]:
    def says(text: str) -> bool:
        try:
            return any(pattern.search(text) is not None for pattern in patterns)
        except UnicodeEncodeError:
            return False  # half a surrogate pair is no text that RE2 could read

    return says


def _on_number(test: Comparison, get: Callable[[Context], Any]) -> Matcher:
    limit = test.values[0]
    if isinstance(limit, str):  # loose
        limit = float(limit)
    compares = _COMPARE[test.op]

    def holds(context: Context, _: Segments) -> bool:
        number = get(context)
        kind = type(number)
        return (kind is int or kind is float) and compares(number, limit)

    if not test.loose:
        return holds

    def says(text: str) -> bool:
        return NUMERAL.fullmatch(text) is not None and compares(float(text), limit)

    holds_of_text = _text_matcher(get, says)
    return lambda context, segments: holds(context, segments) or holds_of_text(context, segments)


_COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {
    "eq": lambda value, limit: value == limit,
    "gt": lambda value, limit: value > limit,
    "gte": lambda value, limit: value >= limit,
    "lt": lambda value, limit: value < limit,
    "lte": lambda value, limit: value <= limit,
}
Networks = Mapping[int, Mapping[int, frozenset[int]]]


def _networks(texts: Sequence[str]) -> Networks:
    """Return the networks by version and by the bits that are the host's: a set for each."""
    starts_by_version: dict[int, dict[int, set[int]]] = {4: {}, 6: {}}
    for network in (ip_network(text, strict=False) for text in texts):
        host = network.max_prefixlen - network.prefixlen
        start = int(network.network_address) >> host
        starts_by_version[network.version].setdefault(host, set()).add(start)
    return {
        version: {host: frozenset(starts) for host, starts in hosts.items()}
        for version, hosts in starts_by_version.items()
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
