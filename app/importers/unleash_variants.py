"""Which variant of Unleash a feature yields: names, values and rules."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import accumulate
from typing import Any, Final

from app.importers.model import Condition, Notes, all_of, comparison_json, when_of
from app.importers.unleash_constraints import SESSION, USER, Constraint, attribute_of, parameters_of
from pilothouse_core import strict_json
from pilothouse_core.definitions import Place, quote
from pilothouse_core.numbers import is_exact

OFF: Final = "disabled"  # what getVariant calls it, too
ON: Final = "enabled"  # without a variant
HASH: Final = "unleash-variants-1"
MAX_RULES: Final = 1000
_LARGEST_TOTAL: Final = 2**31 - 1
_LONGEST_PAYLOAD: Final = 1_000_000
_DEEPEST_PAYLOAD: Final = 32
ANOTHER: Final = re.compile(r"~[0-9]+\Z")

Rule = dict[str, Any]
Served = tuple[Condition, Mapping[str, Any]]  # a further condition, what is served


@dataclass(frozen=True, slots=True)
class _Payload:
    type: str
    value: str


@dataclass(slots=True)
class Variants:
    """The variants of one feature. One name with another payload becomes `name~2`."""

    notes: Notes
    payloads: dict[str, _Payload | None] = field(default_factory=dict)
    named: dict[str, list[str]] = field(default_factory=dict)
    _made: dict[tuple[str, _Payload | None], str] = field(default_factory=dict)

    def add(self, place: Place) -> str:
        """Return the name a variant has here."""
        name = place.member("name").text()
        if name in (OFF, ON):
            place.at("name").fail(f"{quote(name)} is reserved for flags without variants")
        if ANOTHER.search(name):
            place.at("name").fail(f"{quote(name)} ends like the name that a second payload gets")
        payload = _payload(place.at("payload"))
        if (name, payload) not in self._made:
            names = self.named.setdefault(name, [])
            made = f"{name}~{len(names) + 1}" if names else name
            names.append(made)
            self.payloads[made] = payload
            self._made[name, payload] = made
        return self._made[name, payload]

    def typed_values(self) -> tuple[str, dict[str, Any]]:
        """Return the type of the flag, and the value of each variant."""
        kinds = {payload.type for payload in self.payloads.values() if payload}
        if not kinds:
            return "string", {name: name for name in (*self.payloads, ON, OFF)}
        for kind, accepted, reads, empty in _TYPES:
            if kinds <= accepted:
                try:
                    return kind, self._values(reads, empty)
                except ValueError:
                    break
        return "object", self._values(asdict, {})

    def _values(self, reads: Any, empty: Any) -> dict[str, Any]:
        values = {
            name: reads(payload) if payload else empty for name, payload in self.payloads.items()
        }
        return {**values, ON: empty, OFF: empty}


def _payload(place: Place) -> _Payload | None:
    if place.value is None:
        return None
    return _Payload(place.member("type").text(), place.member("value").text(_LONGEST_PAYLOAD))


def _text(payload: _Payload) -> str:
    return payload.value


def _structure(payload: _Payload) -> Any:
    structure = strict_json.loads(payload.value, max_depth=_DEEPEST_PAYLOAD, exact=True)
    if not isinstance(structure, (dict, list)):
        raise ValueError("is not an object")  # noqa: TRY004 - as the parser has it
    return structure


def _number(payload: _Payload) -> float:
    number = float(payload.value)
    if not math.isfinite(number) or not is_exact(payload.value):
        raise ValueError("is not a number")
    return number


_TYPES: Final[Sequence[tuple[str, set[str], Callable[[_Payload], Any], Any]]] = (
    ("string", {"string", "csv"}, _text, ""),
    ("object", {"json"}, _structure, {}),
    ("number", {"number"}, _number, 0),
)


def rules(gates: Sequence[Constraint], served: Sequence[Served], place: Place) -> list[Rule]:
    """Return the variants served where one of the constraints holds."""
    if len(gates) * len(served) > MAX_RULES:
        place.fail(f"expands to more than {MAX_RULES} rules")
    return [
        rule_of(Constraint(all_of([gate.when, condition]), gate.active), serve)
        for gate in gates
        for condition, serve in served
    ]


def rule_of(gate: Constraint, serve: Mapping[str, Any]) -> Rule:
    rule = {"when": when_of(gate.when), "serve": dict(serve)}
    return rule if gate.active is None else {**rule, "active": dict(gate.active)}


def served_by_feature(name: str, places: Sequence[Place], variants: Variants) -> Sequence[Served]:
    """Return the variants that a feature serves without a strategy's own."""
    sticky = places[0].at("stickiness")
    return [*_overrides(places, variants), *_by_bucket(name, sticky, places, variants)]


def served_by_strategy(
    feature: str, strategy: Place, places: Sequence[Place], variants: Variants
) -> Sequence[Served]:
    for variant in places:
        if variant.at("overrides").value:
            variant.at("overrides").fail("belong to a strategy: some SDKs of Unleash ignore them")
    parameters = parameters_of(strategy)
    group = parameters.at("groupId")
    salt = feature if group.value is None else group.text()
    return _by_bucket(salt, parameters.at("stickiness"), places, variants)


def _overrides(places: Sequence[Place], variants: Variants) -> list[Served]:
    made: list[Served] = []
    for variant in places:
        if variant.at("overrides").value is None:
            continue
        name = variants.add(variant)
        for override in variant.at("overrides").items(1000):
            attribute = attribute_of(override.member("contextName"))
            values = [value.text() for value in override.member("values").items(100_000)]
            if values:
                made.append((comparison_json(attribute, "in", *values), {"variant": name}))
    return made


def _by_bucket(
    group: str, sticky: Place, places: Sequence[Place], variants: Variants
) -> list[Served]:
    """Serve variants by bucket; without a subject, Unleash picks any and this serves the first."""
    weights = [(variants.add(one), _weight(one.member("weight"))) for one in places]
    named = [(name, weight) for name, weight in weights if weight]
    if not 0 < sum(weight for _, weight in named) <= _LARGEST_TOTAL:
        places[0].at("weight").fail(
            "has an invalid sum together with the other weights: 0, or too large"
        )
    first: Served = ({"all": []}, {"variant": named[0][0]})
    if len(named) == 1:
        return [first]
    ends = accumulate(weight for _, weight in named)
    ranges = [[end - weight, end, name] for (name, weight), end in zip(named, ends, strict=True)]
    totals: dict[str, int] = {}
    for name, weight in named:
        totals[name] = totals.get(name, 0) + weight
    rollout = {"salt": group, "hash": HASH, "weights": totals, "ranges": ranges}
    return [
        *(({"all": []}, {"rollout": {"by": by, **rollout}}) for by in _subjects(sticky)),
        first,
    ]


def _subjects(sticky: Place) -> list[str]:
    if sticky.value in (None, "default"):
        return [USER, SESSION]
    if sticky.value == "random":
        sticky.fail("is random at every evaluation: it has no stable cohorts to import")
    return [attribute_of(sticky)]


def _weight(place: Place) -> int:
    if type(place.value) is not int or place.value < 0:
        place.fail("is not an integer")
    return place.value
