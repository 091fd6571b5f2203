"""Unleash's client document and its export, converted to one form."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from app.importers.model import Notes
from pilothouse_core.definitions import Place, quote

_MANY = 100_000


@dataclass(frozen=True, slots=True)
class Feature:
    name: str
    place: Place
    notes: Notes
    enabled: bool
    description: str = ""
    tags: Sequence[str] = ()
    strategies: Sequence[Place] = ()
    variants: Sequence[Place] = ()
    dependencies: Sequence[Place] = ()


def is_export(place: Place) -> bool:
    return place.has("featureStrategies") or place.has("featureEnvironments")


def choose_backup(place: Place, environment: str | None) -> Place:
    """Return the document of one environment from Edge's backup: `[[environment, document]]`."""
    documents: dict[str, Place] = {}
    for pair in place.items(_MANY):
        parts = pair.items(2)
        if len(parts) != 2:  # noqa: PLR2004
            pair.fail("is not a pair of an environment and its document")
        name = parts[0].text()
        if name in documents:
            parts[0].fail(f"{quote(name)} occurs twice")
        documents[name] = parts[1]
    names = ", ".join(sorted(documents))
    if environment is None and len(documents) != 1:
        place.fail(f"has several environments, choose one: {names}" if documents else "is empty")
    if environment is not None and environment not in documents:
        place.fail(f"{quote(environment)} is not one of the environments: {names}")
    chosen = documents[environment] if environment is not None else next(iter(documents.values()))
    chosen.member("features")
    return chosen


def read_clients(place: Place) -> list[Feature]:
    """Read the document of clients: `{"version", "features", "segments"}`."""
    features = []
    for one in place.member("features").items(_MANY):
        name = one.member("name").text()
        notes = Notes(name)
        if one.has("strategy") and not one.has("strategies"):
            notes.add(one.at("strategy"), "is from a release in which features had one strategy")
        features.append(
            Feature(
                name,
                one,
                notes,
                enabled=one.member("enabled").boolean(),
                description=optional_text(one, "description"),
                strategies=optional_items(one, "strategies"),
                variants=optional_items(one, "variants"),
                dependencies=optional_items(one, "dependencies"),
            )
        )
    return features


def read_export(place: Place, environment: str | None) -> list[Feature]:
    """Read an export, which lists strategies and environments separately from features."""
    states = place.member("featureEnvironments").items(_MANY)
    strategies = optional_items(place, "featureStrategies")
    chosen = _environment(place.at("featureEnvironments"), [*states, *strategies], environment)
    export = _Export(
        _group_by_name([one for one in states if _is_in(one, chosen)], "featureName", "name"),
        _group_by_name([one for one in strategies if _is_in(one, chosen)], "featureName"),
        _group_by_name(optional_items(place, "featureTags"), "featureName"),
        _group_by_name(optional_items(place, "dependencies"), "feature"),
        _group_by_name(optional_items(place, "featureStrategySegments"), "featureStrategyId"),
    )
    return [export.feature(one) for one in place.member("features").items(_MANY)]


_Group = Mapping[str, Sequence[Place]]  # by the feature they belong to


@dataclass(frozen=True, slots=True)
class _Export:
    states: _Group
    strategies: _Group
    tags: _Group
    dependencies: _Group
    segments: _Group  # by the id of the strategy that uses them

    def feature(self, place: Place) -> Feature:
        name = place.member("name").text()
        notes = Notes(name)
        states = self.states.get(name, ())
        if len(states) != 1:
            notes.add(place, "does not have exactly one state in this environment")
        own_strategies = self.strategies.get(name, ())
        strategies = [
            self._current_form(one) for one in own_strategies if not one.at("disabled").value
        ]
        if own_strategies and not strategies:
            notes.add(own_strategies[0], "is disabled, as are all strategies of the feature")
        return Feature(
            name,
            place,
            notes,
            enabled=bool(states) and states[0].member("enabled").boolean(),
            description=optional_text(place, "description"),
            tags=[
                f"{optional_text(tag, 'tagType')}:{optional_text(tag, 'tagValue')}"
                for tag in self.tags.get(name, ())
            ],
            strategies=sorted(strategies, key=_order),
            variants=self._variants(place, states),
            dependencies=[
                dependency
                for child in self.dependencies.get(name, ())
                for dependency in optional_items(child, "dependencies")
            ],
        )

    def _variants(self, place: Place, states: Sequence[Place]) -> Sequence[Place]:
        """Return those of the environment; in Unleash 4 a feature had its own in all of them."""
        holder = next((state for state in states if state.has("variants")), place)
        return optional_items(holder, "variants")

    def _current_form(self, strategy: Place) -> Place:
        """Return a strategy in the current form: Unleash 4 listed its segments elsewhere."""
        number = strategy.at("id").value
        apart = self.segments.get(number, ()) if isinstance(number, str) else ()
        if not apart and not strategy.has("strategyName"):
            return strategy
        segments = [
            *optional_items(strategy, "segments"),
            *(one.member("segmentId") for one in apart),
        ]
        members = {"name": strategy.at("strategyName").value, **strategy.object()}
        stated = {**members, "segments": [one.value for one in segments]}
        return Place(stated, strategy.pointer)


def _group_by_name(places: Iterable[Place], *names: str) -> _Group:
    groups: dict[str, list[Place]] = {}
    for place in places:
        name = next((name for name in names if place.has(name)), names[0])
        groups.setdefault(place.member(name).text(), []).append(place)
    return groups


def _environment(place: Place, places: Sequence[Place], wanted: str | None) -> str | None:
    """Exports name the environment of a state; that of a strategy is left out if there is one."""
    names = sorted({one.at("environment").text() for one in places if one.has("environment")})
    if wanted is None and len(names) > 1:
        place.fail(f"have several environments, choose one: {', '.join(names)}")
    if wanted is not None and names and wanted not in names:
        place.fail(f"{quote(wanted)} is not one of the environments: {', '.join(names)}")
    if len(names) > 1:
        for one in places:
            one.member("environment")  # or it would be one of every environment
    return wanted if names and wanted is not None else next(iter(names), None)


def _is_in(place: Place, environment: str | None) -> bool:
    return not place.has("environment") or place.at("environment").value == environment


def _order(strategy: Place) -> float:
    sort_order = strategy.at("sortOrder")
    return sort_order.number() if sort_order.value is not None else 0


def optional_text(place: Place, name: str) -> str:
    """Return a text that is there for people only."""
    member = place.at(name)
    return "" if member.value is None else member.text(_MANY)


def optional_items(place: Place, name: str) -> list[Place]:
    member = place.at(name)
    return [] if member.value is None else list(member.items(_MANY))
