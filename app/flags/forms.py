"""From what a client sends to a definition, and back: the full form and the simple one."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from app.flags.model import Item
from pilothouse_core.definitions import DefinitionError, Place
from pilothouse_core.diff import Diff, diff, same
from pilothouse_core.flags import (
    FLAG_MEMBERS,
    SIMPLE_MEMBERS,
    Flag,
    Segment,
    Simple,
    flag_json,
    read_flag,
    read_segment,
    read_simple,
    segment_json,
    simple_of,
    simple_rules,
)

# What the service adds when it shows a flag; sent back with an edit, it says nothing.
SHOWN_ONLY = frozenset(
    {"environment", "version", "created_at", "updated_at", "updated_by", "last_evaluated_at"}
)
_SWITCH = {"on": True, "off": False}
_NOT_SIMPLE = "is for flags of the simple form: boolean, with one rollout for all"


def read(body: Mapping[str, Any], before: Flag | None = None) -> Flag:
    """Read a whole flag in either form; raises DefinitionError.

    Rollouts that `before` has too keep their buckets as far as the weights allow.
    """
    full = {name: value for name, value in body.items() if name not in SHOWN_ONLY}
    simple = {name: full.pop(name, None) for name in SIMPLE_MEMBERS}
    stated = {name: value for name, value in simple.items() if value is not None}
    for name in full:
        if name not in FLAG_MEMBERS:
            Place(full).at(name).fail("is not known here", "unknown_member")
    name = str(full.get("name", ""))
    if stated and (edited := _edited(full, stated, before)) is not None:
        full = {
            "type": "boolean",
            "variants": _SWITCH,
            "default_variant": "off",
            "off_variant": "off",
            **full,
            "rules": simple_rules(name, edited, before),
        }
    return read_flag(_completed(full), before)


def _completed(full: Mapping[str, Any]) -> dict[str, Any]:
    """Fill in what a boolean flag need not say: a switch that is on."""
    filled: dict[str, Any] = {"enabled": True, **full}
    if "type" not in full and "variants" not in full:
        filled |= {"type": "boolean", "variants": _SWITCH}
    if filled.get("type") == "boolean" and filled.get("variants") == _SWITCH:
        filled.setdefault("default_variant", "off" if full.get("rules") else "on")
        filled.setdefault("off_variant", "off")
    return filled


def _edited(
    full: Mapping[str, Any], stated: Mapping[str, Any], before: Flag | None
) -> Simple | None:
    """Return the simple form if that counts where both are sent, being the one that was edited.

    A flag of the simple form is shown in both forms; who sends it back has changed one of them.
    """
    simple = read_simple(Place(stated))
    if "rules" not in full:
        _refuse_others(full, stated, ("type", "variants", "default_variant", "off_variant"))
        return simple
    known = None if before is None else simple_of(before)
    if before is not None and known and same(full["rules"], flag_json(before)["rules"]):
        if _says(known, stated):
            return None
        _refuse_others(full, stated, ("type", "variants"))
        return read_simple(Place({**simple_members(known), **stated}))
    if not _says(known, stated):
        told = simple_of(read_flag(_completed(full)))
        if told is None or not _says(told, stated):
            raise DefinitionError(f"/{next(iter(stated))}", "contradicts rules", "contradiction")
    return None


def _refuse_others(
    full: Mapping[str, Any], stated: Mapping[str, Any], names: Iterable[str]
) -> None:
    for name in names:
        if name in full and not _is_switch(name, full[name]):
            Place(full).at(name).fail(f"goes with rules, not with {' or '.join(stated)}")


def _is_switch(name: str, value: object) -> bool:
    allowed: Mapping[str, tuple[object, ...]] = {
        "type": ("boolean",),
        "variants": (_SWITCH,),
        "default_variant": ("off",),
        "off_variant": ("off",),
    }
    return value in allowed[name]


def _says(simple: Simple | None, stated: Mapping[str, Any]) -> bool:
    if simple is None:
        return False
    percentage = stated.get("rollout_percentage", simple.rollout_percentage)
    users = stated.get("target_users", list(simple.target_users))
    return bool(percentage == simple.rollout_percentage and users == list(simple.target_users))


def merged(flag: Flag, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a flag's members with some replaced; raises DefinitionError."""
    members = flag_json(flag)
    changes = {name: value for name, value in changes.items() if name not in SHOWN_ONLY}
    if not changes.keys() & set(SIMPLE_MEMBERS) or "rules" in changes:
        return {**members, **changes}
    simple = simple_of(flag)
    if simple is None:
        name = next(name for name in SIMPLE_MEMBERS if name in changes)
        raise DefinitionError(f"/{name}", _NOT_SIMPLE, "not_simple")
    return {**members, **simple_members(simple), **changes}


def simple_members(simple: Simple) -> dict[str, Any]:
    share = simple.rollout_percentage
    return {
        "rollout_percentage": int(share) if share == int(share) else share,
        "target_users": list(simple.target_users),
    }


def text_of(definition: Flag | Segment) -> str:
    """Write what is stored: JSON whose members keep their order."""
    members = flag_json(definition) if isinstance(definition, Flag) else segment_json(definition)
    return json.dumps(members, ensure_ascii=False, separators=(",", ":"))


def shown(item: Item, flag: Flag | None = None) -> dict[str, Any]:
    """Return a flag or segment as clients see it; `flag` spares reading its definition again."""
    members: dict[str, Any] = json.loads(item.definition) if item.definition else {}
    if item.kind == "flag" and members:
        simple = simple_of(read_flag(members) if flag is None else flag)
        if simple is not None:
            members |= simple_members(simple)
    return {
        **members,
        "name": item.name,
        "environment": item.environment,
        "version": item.version,
        "created_at": item.created_at.isoformat(),
        "updated_at": item.at.isoformat(),
        "updated_by": item.actor,
    }


def read_any_segment(body: Mapping[str, Any]) -> Segment:
    return read_segment({name: value for name, value in body.items() if name not in SHOWN_ONLY})


def difference(old: Item | None, new: Item) -> Diff:
    """Tell what differs between two versions, each rule and prerequisite by its name."""
    return diff(_named(old), _named(new))


def _named(item: Item | None) -> dict[str, Any]:
    members: dict[str, Any] = {}
    if item is not None and item.definition:
        members = json.loads(item.definition)
    if "rules" in members:
        members["rules"] = {rule["id"]: rule for rule in members["rules"]}
    if "prerequisites" in members:
        members["prerequisites"] = {
            need["flag"]: need["variants"] for need in members["prerequisites"]
        }
    return members
