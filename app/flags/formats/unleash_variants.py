"""Which variant of Unleash a feature yields: names, values and rules."""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, Final

from app.flags.formats.model import Notes, all_of, holds_test, when_of
from app.flags.formats.unleash_gates import SESSION, USER, Gate, attribute_of, parameters_of
from pilothouse_core.definitions import Place, shown

OFF: Final = "disabled"  # what getVariant calls it, too
ON: Final = "enabled"  # without a variant
HASH: Final = "unleash-variants-1"
_LARGEST_TOTAL: Final = 2**31 - 1

Rule = dict[str, Any]


@dataclass(slots=True)
class Variants:
    """The variants of one feature. One name with another payload becomes `name~2`."""

    notes: Notes
    payloads: dict[str, Mapping[str, Any] | None] = field(default_factory=dict)
    named: dict[str, list[str]] = field(default_factory=dict)

    def add(self, place: Place) -> str:
        """Return the name a variant has here."""
        name = place.member("name").text()
        if name in (OFF, ON):
            place.at("name").fail(f"{shown(name)} is what a flag without a variant serves here")
        payload = place.at("payload").value
        names = self.named.setdefault(name, [])
        for known in names:
            if self.payloads[known] == payload:
                return known
        made = f"{name}~{len(names) + 1}" if names else name
        if made in self.payloads:
            place.at("name").fail(f"another variant is called {shown(made)}")
        names.append(made)
        self.payloads[made] = payload
        return made

    def typed(self) -> tuple[str, dict[str, Any]]:
        """Return the type of the flag, and the value of each variant."""
        kinds = {payload.get("type") for payload in self.payloads.values() if payload}
        if not kinds:
            return "string", {name: name for name in (*self.payloads, ON, OFF)}
        for kind, accepted, reads, empty in _TYPES:
            if kinds <= accepted:
                try:
                    return kind, self._values(reads, empty)
                except ValueError:
                    break
        return "object", self._values(dict, {})

    def _values(self, reads: Any, empty: Any) -> dict[str, Any]:
        values = {
            name: reads(payload) if payload else empty for name, payload in self.payloads.items()
        }
        return {**values, ON: empty, OFF: empty}


def _text(payload: Mapping[str, Any]) -> str:
    if not isinstance(payload.get("value"), str):
        raise ValueError("is no text")  # noqa: TRY004 - as json and float have it
    return str(payload["value"])


def _structure(payload: Mapping[str, Any]) -> Any:
    found = json.loads(_text(payload))
    if not isinstance(found, (dict, list)):
        raise ValueError("is no object")  # noqa: TRY004
    return found


def _number(payload: Mapping[str, Any]) -> float:
    found = float(str(payload.get("value")))
    if not math.isfinite(found):
        raise ValueError("is no number")
    return found


_TYPES: Final[Sequence[tuple[str, set[str], Callable[[Mapping[str, Any]], Any], Any]]] = (
    ("string", {"string", "csv"}, _text, ""),
    ("object", {"json"}, _structure, {}),
    ("number", {"number"}, _number, 0),
)


def rules(
    gates: Iterable[Gate], group: str, sticky: Place, found: Sequence[Place], variants: Variants
) -> list[Rule]:
    """Return what those who pass one of the gates get of these variants."""
    served = [*_overrides(found, variants), *_drawn(group, sticky, found, variants)]
    return [
        rule_of(Gate(all_of([gate.when, condition]), gate.active), serve)
        for gate in gates
        for condition, serve in served
    ]


def rule_of(gate: Gate, serve: Mapping[str, Any]) -> Rule:
    rule = {"when": when_of(gate.when), "serve": dict(serve)}
    return rule if gate.active is None else {**rule, "active": dict(gate.active)}


_Served = tuple[dict[str, Any], Mapping[str, Any]]  # a further condition, what is served


def _overrides(found: Sequence[Place], variants: Variants) -> list[_Served]:
    served: list[_Served] = []
    for variant in found:
        if variant.at("overrides").value is None:
            continue
        name = variants.add(variant)
        for override in variant.at("overrides").items(1000):
            attribute = attribute_of(override.member("contextName"))
            values = [value.text() for value in override.member("values").items(100_000)]
            if values:
                served.append((holds_test(attribute, "in", *values), {"variant": name}))
    return served


def _drawn(group: str, sticky: Place, found: Sequence[Place], variants: Variants) -> list[_Served]:
    """Place everybody by their bucket. Who has none would get any: they get the first variant."""
    weights = [(variants.add(one), _weight(one.member("weight"))) for one in found]
    named = [(name, weight) for name, weight in weights if weight]
    if not 0 < sum(weight for _, weight in named) <= _LARGEST_TOTAL:
        found[0].at("weight").fail("adds up with the others to nothing, or to too much")
    first: _Served = ({"all": []}, {"variant": named[0][0]})
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
        sticky.fail("draws lots each time it is asked: nobody has a variant to keep")
    return [attribute_of(sticky)]


def _weight(place: Place) -> int:
    if type(place.value) is not int or place.value < 0:
        place.fail("is no whole number")
    return place.value


def sticky_of(strategy: Place) -> Place:
    return parameters_of(strategy).at("stickiness")


def group_of(strategy: Place, feature: str) -> str:
    group = parameters_of(strategy).at("groupId")
    return feature if group.value is None else group.text()
