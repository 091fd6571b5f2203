"""The two documents of Unleash, brought to one form: what its clients are sent, and exports."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from app.flags.formats.model import Notes
from pilothouse_core.definitions import Place, shown

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


def read_clients(place: Place) -> list[Feature]:
    """Read what clients are sent: `{"version", "features", "segments"}`."""
    features = []
    for one in place.member("features").items(_MANY):
        name = one.member("name").text()
        notes = Notes(name)
        if one.has("strategy") and not one.has("strategies"):
            notes.add(one.at("strategy"), "is of a time when features had one strategy")
        features.append(
            Feature(
                name,
                one,
                notes,
                enabled=one.member("enabled").boolean(),
                description=described(one, "description"),
                strategies=listed(one, "strategies"),
                variants=listed(one, "variants"),
                dependencies=listed(one, "dependencies"),
            )
        )
    return features


def read_export(place: Place, environment: str | None) -> list[Feature]:
    """Read an export, whose strategies and environments stand apart from the features."""
    states = place.member("featureEnvironments").items(_MANY)
    strategies = listed(place, "featureStrategies")
    chosen = _environment(place.at("featureEnvironments"), [*states, *strategies], environment)
    export = _Export(
        _grouped([one for one in states if _is_in(one, chosen)], "featureName", "name"),
        _grouped([one for one in strategies if _is_in(one, chosen)], "featureName"),
        _grouped(listed(place, "featureTags"), "featureName"),
        _grouped(listed(place, "dependencies"), "feature"),
        _grouped(listed(place, "featureStrategySegments"), "featureStrategyId"),
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
            notes.add(place, "is not there once in this environment")
        found = self.strategies.get(name, ())
        strategies = [self._stated(one) for one in found if not one.at("disabled").value]
        if found and not strategies:
            notes.add(found[0], "is disabled, as are all strategies of the feature")
        return Feature(
            name,
            place,
            notes,
            enabled=bool(states) and states[0].member("enabled").boolean(),
            description=described(place, "description"),
            tags=[
                f"{described(tag, 'tagType')}:{described(tag, 'tagValue')}"
                for tag in self.tags.get(name, ())
            ],
            strategies=sorted(strategies, key=_order),
            variants=self._variants(place, states),
            dependencies=[
                dependency
                for child in self.dependencies.get(name, ())
                for dependency in listed(child, "dependencies")
            ],
        )

    def _variants(self, place: Place, states: Sequence[Place]) -> Sequence[Place]:
        """Return those of the environment; in Unleash 4 a feature had its own in all of them."""
        told = next((state for state in states if state.has("variants")), place)
        return listed(told, "variants")

    def _stated(self, strategy: Place) -> Place:
        """Return a strategy as it is told today: Unleash 4 kept its segments elsewhere."""
        number = strategy.at("id").value
        apart = self.segments.get(number, ()) if isinstance(number, str) else ()
        if not apart and not strategy.has("strategyName"):
            return strategy
        segments = [*listed(strategy, "segments"), *(one.member("segmentId") for one in apart)]
        members = {"name": strategy.at("strategyName").value, **strategy.object()}
        stated = {**members, "segments": [one.value for one in segments]}
        return Place(stated, strategy.pointer)


def _grouped(places: Iterable[Place], *names: str) -> _Group:
    groups: dict[str, list[Place]] = {}
    for place in places:
        name = next((name for name in names if place.has(name)), names[0])
        groups.setdefault(place.member(name).text(), []).append(place)
    return groups


def _environment(place: Place, found: Sequence[Place], wanted: str | None) -> str | None:
    """Exports name the environment of a state; that of a strategy is left out if there is one."""
    names = sorted({one.at("environment").text() for one in found if one.has("environment")})
    if wanted is None and len(names) > 1:
        place.fail(f"are of several environments, choose one: {', '.join(names)}")
    if wanted is not None and names and wanted not in names:
        place.fail(f"{shown(wanted)} is none of the environments: {', '.join(names)}")
    if len(names) > 1:
        for one in found:
            one.member("environment")  # or it would be one of every environment
    return wanted if names and wanted is not None else next(iter(names), None)


def _is_in(place: Place, environment: str | None) -> bool:
    return not place.has("environment") or place.at("environment").value == environment


def _order(strategy: Place) -> float:
    found = strategy.at("sortOrder")
    return found.number() if found.value is not None else 0


def described(place: Place, name: str) -> str:
    """Return a text that is there for people only."""
    found = place.at(name)
    return "" if found.value is None else found.text(_MANY)


def listed(place: Place, name: str) -> list[Place]:
    found = place.at(name)
    return [] if found.value is None else list(found.items(_MANY))
