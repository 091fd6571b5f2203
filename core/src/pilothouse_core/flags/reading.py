"""Flags and segments read from JSON and checked; references between them are checked elsewhere."""

import math
from collections.abc import Mapping
from typing import Any

from pilothouse_core.bucketing import (
    DEFAULT_HASH,
    HASHES,
    Range,
    allocate_ranges,
    reallocate_ranges,
    shares_of,
)
from pilothouse_core.conditions.model import DEFAULT_BY, Condition
from pilothouse_core.conditions.reading import (
    read_attribute,
    read_condition,
    read_name,
    read_percent,
)
from pilothouse_core.definitions import Place, quote
from pilothouse_core.flags.model import (
    TYPES,
    Fixed,
    Flag,
    Prerequisite,
    Progressive,
    Rollout,
    Rule,
    Segment,
    Serve,
    Window,
    rollouts_of,
)
from pilothouse_core.times import seconds_of

MAX_WEIGHTS = 10_000  # of all rollouts of a flag
_MAX_ITEMS = 1000
_MAX_TAGS = 100
_LARGEST_INTEGER = 2**63 - 1
_RULE_ID_LENGTH = 100
_VARIANT_LENGTH = 200
FLAG_MEMBERS = (
    "name",
    "description",
    "owner",
    "tags",
    "type",
    "variants",
    "default_variant",
    "off_variant",
    "enabled",
    "rules",
    "prerequisites",
)


def read_flag(definition: Any, before: Flag | None = None) -> Flag:
    """Read and check a flag; raises DefinitionError.

    Rollouts of `before` that are still there keep their buckets as far as the weights allow.
    """
    place = Place(definition)
    place.object(FLAG_MEMBERS)
    kind = place.member("type").one_of(TYPES)
    variants = _read_variants(place.member("variants"), kind)
    name = read_name(place.member("name"))
    rules = place.at("rules").items(_MAX_ITEMS) if place.has("rules") else []
    read = _RuleReader(name, variants, rollouts_of(before))
    needs = place.at("prerequisites").items(_MAX_ITEMS) if place.has("prerequisites") else []
    tags = place.at("tags").items(_MAX_TAGS) if place.has("tags") else []
    return Flag(
        name=name,
        type=kind,  # type: ignore[arg-type]
        variants=variants,
        default_variant=read.variant_or_none(place.member("default_variant")),
        off_variant=read.variant_or_none(place.at("off_variant")),
        enabled=place.member("enabled").boolean(),
        rules=read.rules(rules),
        prerequisites=tuple(_read_prerequisite(need) for need in needs),
        description=place.at("description").text(10_000) if place.has("description") else "",
        owner=place.at("owner").text(200) if place.has("owner") else "",
        tags=tuple(tag.text(100) for tag in tags),
    )


def read_segment(definition: Any) -> Segment:
    place = Place(definition)
    place.object({"name", "when", "description"})
    return Segment(
        name=read_name(place.member("name")),
        when=_read_when(place),
        description=place.at("description").text(10_000) if place.has("description") else "",
    )


def _read_variants(place: Place, kind: str) -> Mapping[str, Any]:
    members = place.object()
    if not members or len(members) > _MAX_ITEMS:
        place.fail(f"names 1 to {_MAX_ITEMS} variants")
    variants = {}
    for name, value in members.items():
        at = place.at(name)
        if not 0 < len(name) <= _VARIANT_LENGTH:
            at.fail(f"is not a name of a variant: 1 to {_VARIANT_LENGTH} characters", "bad_name")
        if not _is_of(kind, value):
            at.fail(f"is not of the flag's type, {kind}", "wrong_type")
        variants[name] = float(value) if kind == "number" else value
    return variants


def _is_of(kind: str, value: Any) -> bool:
    match kind:
        case "boolean":
            return isinstance(value, bool)
        case "string":
            return isinstance(value, str)
        case "integer":
            return type(value) is int and abs(value) <= _LARGEST_INTEGER
        case "number":
            return (type(value) is float and math.isfinite(value)) or _is_of("integer", value)
        case _:
            return isinstance(value, (dict, list))


def _read_prerequisite(place: Place) -> Prerequisite:
    place.object({"flag", "variants"})
    variants = place.member("variants").items(_MAX_ITEMS)
    if not variants:
        place.at("variants").fail("is empty", "missing")
    return Prerequisite(
        read_name(place.member("flag")), tuple(variant.text() for variant in variants)
    )


def _read_when(place: Place) -> Condition | None:
    when = place.at("when")
    return None if when.value is None else read_condition(when)


class _RuleReader:
    """Reads rules: what they serve refers to the flag's variants and to its former rollouts."""

    def __init__(
        self, flag: str, variants: Mapping[str, Any], before: Mapping[str, Rollout]
    ) -> None:
        self._flag = flag
        self._variants = variants
        self._before = before

    def variant(self, place: Place) -> str:
        name = place.text()
        if name not in self._variants:
            place.fail(f"{quote(name)} is not a variant of this flag", "unknown_variant")
        return name

    def variant_or_none(self, place: Place) -> str | None:
        return None if place.value is None else self.variant(place)

    def rules(self, places: Any) -> tuple[Rule, ...]:
        read: list[Rule] = []
        seen: set[str] = set()
        taken = {place.value["id"] for place in places if _has_id(place)}
        for number, place in enumerate(places, start=1):
            place.object({"id", "when", "active", "serve"})
            name = place.at("id").text(_RULE_ID_LENGTH) if place.has("id") else ""
            if not name:
                name = next(
                    free for n in range(number, 10**6) if (free := f"rule-{n}") not in taken
                )
                taken.add(name)
            elif name in seen:
                place.at("id").fail(f"{quote(name)} names another rule already", "duplicate")
            seen.add(name)
            read.append(self._rule(place, name))
        return tuple(read)

    def _rule(self, place: Place, name: str) -> Rule:
        active = place.at("active")
        return Rule(
            name,
            _read_when(place),
            self._serve(place.member("serve"), name),
            None if active.value is None else _read_window(active),
        )

    def _serve(self, place: Place, rule: str) -> Serve:
        if len(place.object({"variant", "rollout", "progressive"})) != 1:
            place.fail("serves one of variant, rollout and progressive")
        if place.has("variant"):
            return Fixed(self.variant(place.at("variant")))
        if place.has("rollout"):
            return self._rollout(place.at("rollout"), rule)
        return self._progressive(place.at("progressive"))

    def _method(self, place: Place) -> tuple[str, str, str]:
        return (
            read_attribute(place.at("by")) if place.has("by") else DEFAULT_BY,
            place.at("salt").text() if place.has("salt") else self._flag,
            place.at("hash").one_of(HASHES) if place.has("hash") else DEFAULT_HASH,
        )

    def _rollout(self, place: Place, rule: str) -> Rollout:
        place.object({"by", "salt", "hash", "weights", "ranges"})
        by, salt, method = self._method(place)
        at = place.member("weights")
        at.spend("weights", len(at.object()), MAX_WEIGHTS)
        weights = {name: _read_weight(at.at(name), method) for name in at.object()}
        for name in weights:
            if name not in self._variants:
                at.at(name).fail("is not a variant of this flag", "unknown_variant")
        try:
            shares = HASHES[method].shares(weights)
        except ValueError as error:
            at.fail(str(error), "bad_weight")
        # In the order in which the variants are declared, whatever the order of the weights.
        shares = {name: shares[name] for name in self._variants if name in shares}
        stated = self._read_ranges(place.at("ranges"), shares)
        former = self._before.get(rule)
        if (
            stated is None
            and former is not None
            and _can_reallocate(former, by, salt, method, shares)
        ):
            stated = reallocate_ranges(former.ranges, shares)
        return Rollout(by, salt, method, weights, stated or allocate_ranges(shares))

    def _read_ranges(self, place: Place, shares: Mapping[str, int]) -> tuple[Range, ...] | None:
        """Return the ranges that are given with the weights, None if they are of other weights."""
        if place.value is None:
            return None
        ranges = []
        end = 0
        for number, value in enumerate(place.values(10_000)):
            match value:
                case [start, stop, str(variant)] if (
                    type(start) is type(stop) is int and start == end < stop
                ):
                    ranges.append(Range(start, stop, variant))
                    end = stop
                case _:
                    place.item(number).fail(
                        "is not [start, end, variant], next to the one before", "bad_range"
                    )
        counted = {name: share for name, share in shares.items() if share}
        return tuple(ranges) if shares_of(ranges) == counted else None

    def _progressive(self, place: Place) -> Progressive:
        place.object({"by", "salt", "hash", "variant", "otherwise", "from", "to"})
        by, salt, method = self._method(place)
        if HASHES[method].total is None:
            place.at("hash").fail("has no percentages", "bad_weight")
        starts, first = _read_point(place.member("from"), method)
        ends, last = _read_point(place.member("to"), method)
        if _seconds(ends) <= _seconds(starts):
            place.at("to").fail("is not after from", "bad_time")
        variant = self.variant(place.member("variant"))
        otherwise = self.variant(place.member("otherwise"))
        return Progressive(by, salt, method, variant, otherwise, starts, first, ends, last)


def _has_id(place: Place) -> bool:
    return place.has("id") and isinstance(place.value["id"], str)


def _can_reallocate(
    former: Rollout, by: str, salt: str, method: str, shares: Mapping[str, int]
) -> bool:
    same = (former.by, former.salt, former.hash) == (by, salt, method)
    return same and former.total == sum(shares.values())


def _read_weight(place: Place, method: str) -> float:
    hashing = HASHES[method]
    return float(place.number()) if hashing.total is None else read_percent(place, hashing)


def _read_point(place: Place, method: str) -> tuple[str, float]:
    place.object({"at", "percent"})
    at = place.member("at")
    if seconds_of(at.text()) is None:
        at.fail(f"{quote(at.value)} is not an RFC 3339 time", "bad_time")
    return at.value, read_percent(place.member("percent"), HASHES[method])


def _read_window(place: Place) -> Window:
    place.object({"from", "until"})
    for name in ("from", "until"):
        at = place.at(name)
        if at.value is not None and seconds_of(at.text()) is None:
            at.fail(f"{quote(at.value)} is not an RFC 3339 time", "bad_time")
    start, until = place.value.get("from"), place.value.get("until")
    if start and until and _seconds(until) <= _seconds(start):
        place.at("until").fail("is not after from", "bad_time")
    return Window(start, until)


def _seconds(text: str) -> float:
    return seconds_of(text) or 0.0
