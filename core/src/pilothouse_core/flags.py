"""What a flag and a segment are: read from JSON, checked in themselves, written back."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pilothouse_core.bucketing import (
    DEFAULT_HASH,
    HASHES,
    Range,
    laid,
    moved,
    percent,
    shares_of,
)
from pilothouse_core.conditions import (
    DEFAULT_BY,
    MAX_VALUES,
    Comparison,
    Condition,
    read_attribute,
    read_condition,
    read_name,
    read_percent,
    segments_in,
    written,
)
from pilothouse_core.definitions import Place, shown
from pilothouse_core.times import seconds_of

Type = Literal["boolean", "string", "integer", "number", "object"]
TYPES: tuple[Type, ...] = ("boolean", "string", "integer", "number", "object")
MAX_WEIGHTS = 10_000  # of all rollouts of a flag
_MAX_ITEMS = 1000
_MAX_TAGS = 100
_LARGEST_INTEGER = 2**63 - 1
TARGETED, ROLLOUT = "targeted-users", "rollout"  # the rules of the simple form
_RULE_ID_LENGTH = 100
_VARIANT_LENGTH = 200
_USER_LENGTH = 1000


@dataclass(frozen=True, slots=True)
class Fixed:
    variant: str


@dataclass(frozen=True, slots=True)
class Rollout:
    """Subjects by their bucket. `weights` as they were written, `ranges` as they came to lie."""

    by: str
    salt: str
    hash: str
    weights: Mapping[str, float]
    ranges: tuple[Range, ...]

    @property
    def total(self) -> int:
        return self.ranges[-1].end


@dataclass(frozen=True, slots=True)
class Progressive:
    """A share that moves from one percentage to another, linear in time."""

    by: str
    salt: str
    hash: str
    variant: str
    otherwise: str
    starts: str
    first: float
    ends: str
    last: float


Serve = Fixed | Rollout | Progressive


@dataclass(frozen=True, slots=True)
class Window:
    """From `start` up to, not including, `until`: RFC 3339, None is open."""

    start: str | None
    until: str | None


@dataclass(frozen=True, slots=True)
class Rule:
    id: str
    when: Condition | None
    serve: Serve
    active: Window | None = None


@dataclass(frozen=True, slots=True)
class Prerequisite:
    """Met when flag `flag` serves one of `variants`."""

    flag: str
    variants: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Flag:
    name: str
    type: Type
    variants: Mapping[str, Any]
    default_variant: str | None  # None: the caller's own default
    off_variant: str | None
    enabled: bool
    rules: tuple[Rule, ...] = ()
    prerequisites: tuple[Prerequisite, ...] = ()
    description: str = ""
    owner: str = ""
    tags: tuple[str, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Segment:
    name: str
    when: Condition | None
    description: str = ""


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
    read = _Reader(name, variants, _rollouts(before))
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
            at.fail(f"is no name of a variant: 1 to {_VARIANT_LENGTH} characters", "bad_name")
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


class _Reader:
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
            place.fail(f"{shown(name)} is no variant of this flag", "unknown_variant")
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
                place.at("id").fail(f"{shown(name)} names another rule already", "duplicate")
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
                at.at(name).fail("is no variant of this flag", "unknown_variant")
        try:
            shares = HASHES[method].shares(weights)
        except ValueError as error:
            at.fail(str(error), "bad_weight")
        # In the order in which the variants are declared, whatever the order of the weights.
        shares = {name: shares[name] for name in self._variants if name in shares}
        stated = self._stated(place.at("ranges"), shares)
        former = self._before.get(rule)
        if stated is None and former is not None and _moves(former, by, salt, method, shares):
            stated = moved(former.ranges, shares)
        return Rollout(by, salt, method, weights, stated or laid(shares))

    def _stated(self, place: Place, shares: Mapping[str, int]) -> tuple[Range, ...] | None:
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
        if _moment(ends) <= _moment(starts):
            place.at("to").fail("is not after from", "bad_time")
        variant = self.variant(place.member("variant"))
        otherwise = self.variant(place.member("otherwise"))
        return Progressive(by, salt, method, variant, otherwise, starts, first, ends, last)


def _has_id(place: Place) -> bool:
    return place.has("id") and isinstance(place.value["id"], str)


def _moves(former: Rollout, by: str, salt: str, method: str, shares: Mapping[str, int]) -> bool:
    same = (former.by, former.salt, former.hash) == (by, salt, method)
    return same and former.total == sum(shares.values())


def _read_weight(place: Place, method: str) -> float:
    hashing = HASHES[method]
    return float(place.number()) if hashing.total is None else read_percent(place, hashing)


def _read_point(place: Place, method: str) -> tuple[str, float]:
    place.object({"at", "percent"})
    at = place.member("at")
    if seconds_of(at.text()) is None:
        at.fail(f"{shown(at.value)} is no RFC 3339 time", "bad_time")
    return at.value, read_percent(place.member("percent"), HASHES[method])


def _read_window(place: Place) -> Window:
    place.object({"from", "until"})
    for name in ("from", "until"):
        at = place.at(name)
        if at.value is not None and seconds_of(at.text()) is None:
            at.fail(f"{shown(at.value)} is no RFC 3339 time", "bad_time")
    start, until = place.value.get("from"), place.value.get("until")
    if start and until and _moment(until) <= _moment(start):
        place.at("until").fail("is not after from", "bad_time")
    return Window(start, until)


def _moment(text: str) -> float:
    return seconds_of(text) or 0.0


def _rollouts(flag: Flag | None) -> Mapping[str, Rollout]:
    if flag is None:
        return {}
    return {rule.id: rule.serve for rule in flag.rules if isinstance(rule.serve, Rollout)}


def flag_json(flag: Flag) -> dict[str, Any]:
    """Return a flag as JSON members: what `read_flag` reads."""
    return {
        "name": flag.name,
        "description": flag.description,
        "owner": flag.owner,
        "tags": list(flag.tags),
        "type": flag.type,
        "variants": dict(flag.variants),
        "default_variant": flag.default_variant,
        "off_variant": flag.off_variant,
        "enabled": flag.enabled,
        "rules": [_rule_json(rule) for rule in flag.rules],
        "prerequisites": [
            {"flag": need.flag, "variants": list(need.variants)} for need in flag.prerequisites
        ],
    }


def segment_json(segment: Segment) -> dict[str, Any]:
    when = segment.when
    return {
        "name": segment.name,
        "description": segment.description,
        "when": None if when is None else written(when),
    }


def _rule_json(rule: Rule) -> dict[str, Any]:
    members: dict[str, Any] = {
        "id": rule.id,
        "when": None if rule.when is None else written(rule.when),
        "serve": _serve_json(rule.serve),
    }
    if rule.active is not None:
        members["active"] = {"from": rule.active.start, "until": rule.active.until}
    return members


def _serve_json(serve: Serve) -> dict[str, Any]:
    match serve:
        case Fixed(variant):
            return {"variant": variant}
        case Rollout():
            members = {"by": serve.by, "salt": serve.salt, "hash": serve.hash}
            weights = {name: _number(weight) for name, weight in serve.weights.items()}
            ranges = [list(found) for found in serve.ranges]
            return {"rollout": {**members, "weights": weights, "ranges": ranges}}
        case Progressive():
            return {
                "progressive": {
                    "by": serve.by,
                    "salt": serve.salt,
                    "hash": serve.hash,
                    "variant": serve.variant,
                    "otherwise": serve.otherwise,
                    "from": {"at": serve.starts, "percent": _number(serve.first)},
                    "to": {"at": serve.ends, "percent": _number(serve.last)},
                }
            }


def _number(value: float) -> float:
    """Write whole percentages without a fraction, as people do."""
    return int(value) if value == int(value) else value


def segments_used(flag: Flag) -> Iterator[tuple[str, str]]:
    """Name every segment with the place that names it."""
    for number, rule in enumerate(flag.rules):
        for name in segments_in(rule.when):
            yield name, f"/rules/{number}/when"


# The simple form: a boolean flag, some users by name, and a percentage of all others.


@dataclass(frozen=True, slots=True)
class Simple:
    rollout_percentage: float
    target_users: tuple[str, ...]


SIMPLE_MEMBERS = ("rollout_percentage", "target_users")


def read_simple(place: Place) -> Simple:
    """Read both members of the simple form; each may be absent."""
    share = place.at("rollout_percentage")
    users = place.at("target_users")
    percentage = 0.0 if share.value is None else read_percent(share, HASHES[DEFAULT_HASH])
    return Simple(
        rollout_percentage=percentage,
        target_users=() if users.value is None else _read_users(users),
    )


def _read_users(users: Place) -> tuple[str, ...]:
    found = users.values(MAX_VALUES)
    for number, user in enumerate(found):
        if type(user) is not str or len(user) > _USER_LENGTH:
            users.item(number).text(_USER_LENGTH)
    return tuple(found)


def simple_rules(name: str, simple: Simple, before: Flag | None = None) -> list[dict[str, Any]]:
    """Return the rules of a simple flag; its rollout keeps the salt it had."""
    former = _rollouts(before).get(ROLLOUT)
    rules: list[dict[str, Any]] = []
    if simple.target_users:
        when = {"attribute": DEFAULT_BY, "op": "in", "values": list(simple.target_users)}
        rules.append({"id": TARGETED, "when": when, "serve": {"variant": "on"}})
    share = simple.rollout_percentage
    rest = percent(HASHES[DEFAULT_HASH].share(100) - HASHES[DEFAULT_HASH].share(share), 100_000)
    rollout = {
        "by": DEFAULT_BY,
        "salt": former.salt if former else name,
        "hash": DEFAULT_HASH,
        "weights": {"on": share, "off": rest},
    }
    rules.append({"id": ROLLOUT, "when": None, "serve": {"rollout": rollout}})
    return rules


def simple_of(flag: Flag) -> Simple | None:
    """Return the simple form of a flag that has one."""
    if dict(flag.variants) != {"on": True, "off": False} or flag.type != "boolean":
        return None
    *targeted, last = flag.rules or (None,)
    if last is None or (last.id, last.when, last.active) != (ROLLOUT, None, None):
        return None
    serve = last.serve
    if not isinstance(serve, Rollout) or (serve.by, serve.hash) != (DEFAULT_BY, DEFAULT_HASH):
        return None
    users: tuple[str, ...] = ()
    if targeted:
        found = _targeted(targeted)
        if found is None:
            return None
        users = found
    return Simple(float(serve.weights.get("on", 0)), users)


def _targeted(rules: list[Any]) -> tuple[str, ...] | None:
    if len(rules) != 1:
        return None
    (rule,) = rules
    match rule:
        case Rule(
            id=rule_id,
            when=Comparison(attribute=by, op="in", values=values, case_insensitive=False),
            serve=Fixed("on"),
            active=None,
        ) if rule_id == TARGETED and by == DEFAULT_BY:
            users = tuple(value for value in values if isinstance(value, str))
            return users if len(users) == len(values) else None
        case _:
            return None


def renamed(flag: Flag, name: str) -> Flag:
    """Return the flag under another name; nobody changes buckets, as every salt is stored."""
    return replace(flag, name=name)
