"""Import of Unleash flags from the document of its clients or from an export.

A feature without variants becomes a boolean flag, `on` or `off`. One with variants, of its own or
of its strategies, becomes a flag of the type of their payloads:

| payloads                | type   | value                                              |
| none                    | string | the name of the variant                            |
| string, csv             | string | the payload's text; "" without a payload           |
| json, objects and lists | object | what the payload says; {} without a payload        |
| number                  | number | the payload's number; 0 without a payload          |
| of several kinds        | object | the payload as Unleash holds it, {"type", "value"} |

Its variants are called as in Unleash. Two more say what Unleash answers without one: `disabled`,
the feature is off, and `enabled`, it is on and yields no variant. Where strategies use one name for
different payloads, the later ones are called `name~2`, `name~3`. `answered` derives from a variant
what isEnabled and getVariant answered.

Two things are decided here that Unleash leaves to chance, for those who have no sticky attribute:
they are not in a rollout that falls back to it, and among variants they get the first with a
weight. Rollouts that are all chance are reported.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

from app.importers.model import ALWAYS, ImportedFlags, Notes, UnexpressedNote, any_of, check_flag
from app.importers.unleash_constraints import (
    Constraint,
    ConstraintReader,
    hashes_requested_name,
    whole_number,
)
from app.importers.unleash_documents import (
    Feature,
    choose_backup,
    is_export,
    read_clients,
    read_export,
)
from app.importers.unleash_variants import (
    ANOTHER,
    OFF,
    ON,
    Rule,
    Served,
    Variants,
    rule_of,
    rules,
    served_by_feature,
    served_by_strategy,
)
from pilothouse_core.definitions import Place

_MANY_VARIANTS: Final = 1000


def read_unleash(document: Any, environment: str | None = None) -> ImportedFlags:
    """Read features and segments; `environment` chooses where there are several.

    A list is what Edge saves: pairs of an environment and what its clients are sent.
    """
    whole = Notes("")
    with whole.catching():
        place = Place(document)
        if isinstance(document, list):
            place = choose_backup(place, environment)
        features = read_export(place, environment) if is_export(place) else read_clients(place)
        gates = ConstraintReader(_segments(place.at("segments")))
    if whole.entries:
        return ImportedFlags((), (), tuple(whole.entries))
    made: dict[str, _Conversion] = {}
    for feature in features:
        if feature.name in made:
            made[feature.name].notes.add(feature.place, "is defined twice")
        else:
            made[feature.name] = _convert_feature(feature, gates)
    for feature in features:
        _add_prerequisites(feature, made)
    _leave_out_children(features, made)
    good = [one for one in made.values() if not one.notes.entries]
    used = sorted(set[int]().union(*(one.segments for one in good)))
    report: list[UnexpressedNote] = [note for one in made.values() for note in one.notes.entries]
    return ImportedFlags(
        tuple(one.definition for one in good), tuple(map(gates.segment, used)), tuple(report)
    )


def unleash_answer(kind: str, variant: str | None) -> tuple[bool, str]:
    """Return the results of Unleash's isEnabled and getVariant for a served variant."""
    if kind == "boolean" or variant is None:
        return variant == "on", "disabled"
    if variant in (OFF, ON):
        return variant == ON, "disabled"
    return True, ANOTHER.sub("", variant)


def _segments(place: Place) -> Mapping[int, Place]:
    if place.value is None:
        return {}
    segments = {}
    for one in place.items(100_000):
        segments[whole_number(one.member("id"))] = one
    return segments


@dataclass(slots=True)
class _Conversion:
    """A feature converted to a flag, with what other features may require of it."""

    notes: Notes
    has_parents: bool = False
    hashes_requested_name: bool = False
    definition: dict[str, Any] = field(default_factory=dict)
    segments: set[int] = field(default_factory=set)
    off: str = "off"
    on: str = "on"
    named: Mapping[str, list[str]] = field(default_factory=dict)

    def served_variants(self) -> list[str]:
        return [name for name in self.definition["variants"] if name != self.off]

    def serves_no_variant(self) -> bool:
        """Tell whether the feature can be on without a variant."""
        served = [rule["serve"].get("variant") for rule in self.definition["rules"]]
        return self.on in [*served, self.definition["default_variant"]]


def _convert_feature(feature: Feature, gates: ConstraintReader) -> _Conversion:
    made = _Conversion(feature.notes, has_parents=bool(feature.dependencies))
    with made.notes.catching():
        has_variants = feature.variants or any(_of_strategy(one) for one in feature.strategies)
        build = _with_variants if has_variants else _boolean
        members = build(feature, gates, made)
        made.hashes_requested_name = any(map(hashes_requested_name, feature.strategies))
        made.definition = {
            "name": feature.name,
            "description": feature.description,
            "tags": list(feature.tags),
            **members,
            "off_variant": made.off,
            "enabled": feature.enabled,
        }
    return made


def _of_strategy(strategy: Place) -> Sequence[Place]:
    variants = strategy.at("variants")
    return [] if variants.value is None else variants.items(1000)


def _boolean(feature: Feature, gates: ConstraintReader, made: _Conversion) -> dict[str, Any]:
    feature_rules: list[Rule] = []
    for strategy in feature.strategies:
        passed = gates.constraints(feature.name, strategy, made.notes, made.segments)
        feature_rules += [rule_of(gate, {"variant": "on"}) for gate in passed]
    return {
        "type": "boolean",
        "variants": {"on": True, "off": False},
        "default_variant": "off" if feature.strategies else "on",
        "rules": _possible(feature_rules),
    }


def _with_variants(feature: Feature, gates: ConstraintReader, made: _Conversion) -> dict[str, Any]:
    made.off, made.on = OFF, ON
    variants = Variants(made.notes)
    feature_rules: list[Rule] = []
    waiting: list[Constraint] = []  # subjects that meet these get the variants of the feature

    @cache
    def of_feature() -> Sequence[Served]:
        if not feature.variants:
            return [(ALWAYS, {"variant": ON})]
        with made.notes.catching():
            return served_by_feature(feature.name, feature.variants, variants)
        return []

    for strategy in feature.strategies:
        passed = gates.constraints(feature.name, strategy, made.notes, made.segments)
        own = _of_strategy(strategy)
        if not own:
            waiting += passed
            continue
        if waiting:
            feature_rules += rules(_merge_timeless(waiting), of_feature(), feature.place)
            waiting = []
        with made.notes.catching():
            of_strategy = served_by_strategy(feature.name, strategy, own, variants)
            feature_rules += rules(passed, of_strategy, strategy)
    if not feature.strategies:
        waiting = [Constraint(ALWAYS)]
    if waiting:
        feature_rules += rules(_merge_timeless(waiting), of_feature(), feature.place)
    kind, values = variants.typed_values()
    made.named = variants.named
    return {
        "type": kind,
        "variants": values,
        "default_variant": OFF,
        "rules": _possible(feature_rules),
    }


def _merge_timeless(gates: Sequence[Constraint]) -> list[Constraint]:
    timeless = [gate.when for gate in gates if gate.active is None]
    timed = [gate for gate in gates if gate.active is not None]
    return [*([Constraint(any_of(timeless))] if timeless else []), *timed]


def _possible(all_rules: Iterable[Rule]) -> list[Rule]:
    return [rule for rule in all_rules if rule["when"] != {"any": []}]


def _add_prerequisites(feature: Feature, made: Mapping[str, _Conversion]) -> None:
    child = made[feature.name]
    needs = []
    for dependency in feature.dependencies:
        with child.notes.catching():
            needs.append(_prerequisite(dependency, made))
    if sum(len(need["variants"]) for need in needs) > _MANY_VARIANTS:
        child.notes.add(feature.place, f"depends on more than {_MANY_VARIANTS} variants")
    if not child.notes.entries:
        child.definition["prerequisites"] = needs
        check_flag(child.definition, feature.place, child.notes)


def _prerequisite(dependency: Place, made: Mapping[str, _Conversion]) -> dict[str, Any]:
    name = dependency.member("feature").text()
    parent = made.get(name)
    if parent is None:
        dependency.at("feature").fail(f"there is no feature {name!r}")
    if parent.notes.entries:
        dependency.at("feature").fail(f"{name!r} cannot be imported")
    if parent.has_parents:
        dependency.at("feature").fail(
            f"{name!r} depends on another feature: Unleash never enables it"
        )
    if parent.hashes_requested_name:
        dependency.at("feature").fail(
            f"{name!r} has a rollout without a groupId: it differs for each child"
        )
    expected = dependency.at("enabled")
    wanted = dependency.at("variants")
    names = [] if wanted.value is None else [one.text() for one in wanted.items(1000)]
    if expected.value is not None and not expected.boolean():
        if names:
            wanted.fail("are required of a feature that must be off")
        return {"flag": name, "variants": [parent.off]}
    return {
        "flag": name,
        "variants": _parent_variants(wanted, names, parent) if names else parent.served_variants(),
    }


def _parent_variants(place: Place, names: Sequence[str], parent: _Conversion) -> list[str]:
    if parent.serves_no_variant() and OFF not in names:
        place.fail(
            "are required of a feature that can be on without a variant: Unleash's SDKs disagree"
        )
    known = [made for name in names for made in parent.named.get(name, [])]
    if OFF in names and parent.serves_no_variant():
        known.append(parent.on)
    if not known:
        place.fail("are not variants of that feature")
    return known


def _leave_out_children(features: Sequence[Feature], made: Mapping[str, _Conversion]) -> None:
    """Omit features that depend on omitted ones, until none does."""
    changed = True
    while changed:
        changed = False
        for feature in features:
            child = made[feature.name]
            for dependency in feature.dependencies:
                if child.notes.entries:
                    break  # its members may be of any type
                parent = made[dependency.at("feature").value]
                if parent.notes.entries:
                    child.notes.add(dependency.at("feature"), "cannot be imported")
                    changed = True
