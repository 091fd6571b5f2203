"""When each key of a version last changed, and up to which version it was a secret. Pure."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from app.configs.model import Body, KeyFact
from app.configs.removals import REMOVALS_ROOM, limit_removals
from app.configs.secrets import secret_places
from pilothouse_core.diff import diff
from pilothouse_core.trees import Tree, is_secret, value_at

NO_ORIGINS: Mapping[str, str] = MappingProxyType({})
_MOST_PLACES = 100  # that one key remembers; of more, all in its list is taken for secret


def key_facts(  # noqa: PLR0913 - what a version says of itself, and two bounds
    base: Body | None,
    data: Tree,
    version: int,
    actor: str,
    at_: str,
    keep: int,
    *,
    origins: Mapping[str, str] = NO_ORIGINS,
    room: int = REMOVALS_ROOM,
) -> dict[str, KeyFact]:
    """Return for every key when it last changed, given the sealed data of the new version.

    `keep`: how many versions the store keeps; a key removed longer ago is forgotten. `origins`: the
    templates of keys that are taken from one; any other change of a key is made by hand. What is
    said of removed keys is bounded, see `removals`.
    """
    before = dict(base.keys) if base is not None else {}
    difference = diff(base.data if base is not None else {}, data)
    facts = {
        key: fact
        for key, fact in before.items()
        if not fact.removed or fact.version > version - keep
    }
    for key, value in (
        difference.added | {k: new for k, (_, new) in difference.changed.items()}
    ).items():
        until, places = _secret_until(key, base, value)
        facts[key] = KeyFact(version, actor, at_, secret_until=until, places_until=places)
    for key in difference.removed:
        until, places = _secret_until(key, base, None)
        facts[key] = KeyFact(
            version, actor, at_, removed=True, secret_until=until, places_until=places
        )
    for key, template in origins.items():
        if key in facts and not facts[key].removed:
            facts[key] = replace(facts[key], template=template)
    return limit_removals(facts, room)


def _secret_until(key: str, base: Body | None, value: Any) -> tuple[int, Mapping[str, int]]:
    """Return up to which version a key was a secret, and places in the list that it was."""
    if base is None:
        return 0, {}
    present = value_at(base.data, key)
    earlier = base.keys.get(key)
    places = dict(earlier.places_until) if earlier is not None else {}
    places |= dict.fromkeys(secret_places(key, present), base.version)
    if len(places) > _MOST_PLACES:
        places = {key: max(places.values())}
    if is_secret(value):
        return 0, places
    if is_secret(present):
        return base.version, places
    return (earlier.secret_until if earlier is not None else 0), places
