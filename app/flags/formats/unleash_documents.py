"""The two documents of Unleash, brought to one form: what its clients are sent, and exports."""

from collections.abc import Sequence
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
        features.append(
            Feature(
                name,
                one,
                Notes(name),
                enabled=one.member("enabled").boolean(),
                description=_description(one),
                strategies=_listed(one, "strategies"),
                variants=_listed(one, "variants"),
                dependencies=_listed(one, "dependencies"),
            )
        )
    return features


def read_export(place: Place, environment: str | None) -> list[Feature]:
    """Read an export, whose strategies and environments stand apart from the features."""
    states = place.member("featureEnvironments").items(_MANY)
    chosen = _environment(place.at("featureEnvironments"), states, environment)
    for strategy in _listed(place, "featureStrategies"):
        if any(not _is_in(state, chosen) for state in states):
            strategy.member("environment")  # or it would be one of every environment
    return [
        _exported(place, one, [state for state in states if _is_in(state, chosen)])
        for one in place.member("features").items(_MANY)
    ]


def _exported(place: Place, feature: Place, states: Sequence[Place]) -> Feature:
    name = feature.member("name").text()
    notes = Notes(name)
    own = [state for state in states if _feature_of(state) == name]
    if len(own) != 1:
        notes.add(feature, "is not there once in this environment")
    environment = own[0].at("environment").value if own else None
    found = [
        strategy
        for strategy in _listed(place, "featureStrategies")
        if strategy.at("featureName").value == name and _is_in(strategy, environment)
    ]
    strategies = [strategy for strategy in found if not strategy.at("disabled").value]
    if found and not strategies:
        notes.add(found[0], "is disabled, as are all strategies of the feature")
    return Feature(
        name,
        feature,
        notes,
        enabled=bool(own) and own[0].member("enabled").boolean(),
        description=_description(feature),
        tags=_tags(place, name),
        strategies=sorted(strategies, key=_order),
        variants=_listed(own[0], "variants") if own else (),
        dependencies=[
            dependency
            for child in _listed(place, "dependencies")
            if child.at("feature").value == name
            for dependency in _listed(child, "dependencies")
        ],
    )


def _environment(place: Place, states: Sequence[Place], environment: str | None) -> str | None:
    names = sorted({str(state.at("environment").value) for state in states})
    if environment is None and len(names) > 1:
        place.fail(f"are of several environments, choose one: {', '.join(names)}")
    if environment is not None and environment not in names:
        place.fail(f"{shown(environment)} is none of the environments: {', '.join(names)}")
    return environment if len(names) > 1 else next(iter(names), None)


def _is_in(place: Place, environment: str | None) -> bool:
    """Exports name the environment of a state; that of a strategy is left out if there is one."""
    return not place.has("environment") or place.at("environment").value == environment


def _feature_of(state: Place) -> object:
    return state.at("featureName" if state.has("featureName") else "name").value


def _order(strategy: Place) -> float:
    found = strategy.at("sortOrder")
    return found.number() if found.value is not None else 0


def _tags(place: Place, feature: str) -> list[str]:
    return [
        f"{tag.at('tagType').value}:{tag.at('tagValue').value}"
        for tag in _listed(place, "featureTags")
        if tag.at("featureName").value == feature
    ]


def _description(place: Place) -> str:
    return str(place.at("description").value or "")


def _listed(place: Place, name: str) -> list[Place]:
    found = place.at(name)
    return [] if found.value is None else list(found.items(_MANY))
