"""What a feature hands to `app.main`: its routes, and what runs once its ports are open."""

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from fastapi import APIRouter

from app.web.fast_path import FastGet, FastPost
from app.web.path_rules import NO_RULES, PathRules
from app.web.problem_codes import CodeRules

Task = Callable[[], Awaitable[None]]
Facts = Callable[[], Mapping[str, object]]
_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class Routes:
    """The part of a feature that is known before anything is opened.

    Callers of `routers` are authenticated, and unknown query parameters are rejected unless a
    router is in `lenient` too. `open_routers` see to both themselves, or need neither.
    """

    routers: Sequence[APIRouter] = ()
    lenient: Collection[APIRouter] = ()
    open_routers: Sequence[APIRouter] = ()
    path_rules: PathRules = NO_RULES
    problem_codes: CodeRules = ()


async def _do_nothing() -> None:
    return


def _change_nothing() -> None:
    return


def _always() -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Feature:
    """What a feature adds to a service whose ports are open.

    `app.main` does the same with every feature, in their order; it closes them in reverse.
    """

    state: Mapping[str, object] = field(
        default_factory=dict
    )  # what its routes find: see from_state
    fast_gets: Sequence[FastGet] = ()
    fast_posts: Mapping[bytes, FastPost] = field(default_factory=dict)  # by path
    start: Task = _do_nothing  # before the first request; must not fail if a server is unavailable
    tasks: Mapping[str, Task] = field(default_factory=dict)  # run as long as the service, by name
    is_ready: Callable[[], bool] = _always  # whether reads can be answered
    facts: Facts = dict  # members of /health: only numbers, since it needs no token
    announce_shutdown: Callable[[], None] = _change_nothing  # while it still serves
    begin_shutdown: Callable[[], None] = _change_nothing  # waiting requests have to end
    close: Task = _do_nothing  # once the tasks have ended, before the ports are closed


def lifespan_state(features: Sequence[Feature]) -> dict[str, object]:
    """Return what routes and the fast path find; raises ValueError if two features share a name."""
    return {
        **merge(feature.state for feature in features),
        "fast_gets": tuple(read for feature in features for read in feature.fast_gets),
        "fast_posts": merge(feature.fast_posts for feature in features),
        "readiness_checks": tuple(feature.is_ready for feature in features),
        "health_facts": tuple(feature.facts for feature in features),
    }


def merge(parts: Iterable[Mapping[_Key, _Value]]) -> dict[_Key, _Value]:
    """Return one mapping of all parts; raises ValueError if two share a key."""
    merged: dict[_Key, _Value] = {}
    for part in parts:
        if shared := merged.keys() & part.keys():
            raise ValueError(f"two features use the same name: {shared}")
        merged.update(part)
    return merged
