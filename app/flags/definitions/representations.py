"""Conversion between definitions and what clients send and receive, in full and simple form."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from app.actors import actor_name
from app.flags.model import Item
from app.importers.pilothouse import write_json
from pilothouse_core.conditions.model import DEFAULT_BY, SUBJECTS, Comparison
from pilothouse_core.definitions import DefinitionError, Place, unknown_member
from pilothouse_core.diff import Diff, diff, is_same
from pilothouse_core.flags.model import Fixed, Flag, Rule, Segment
from pilothouse_core.flags.reading import FLAG_MEMBERS, read_flag, read_segment
from pilothouse_core.flags.serialization import flag_json, segment_json
from pilothouse_core.flags.simple_form import (
    SIMPLE_MEMBERS,
    TARGETED_RULE,
    SimpleForm,
    read_simple_form,
    simple_form_of,
    simple_rules,
)

# What the service adds when it shows a flag; sent back with an edit, it says nothing.
READ_ONLY_MEMBERS = frozenset(
    {
        "environment",
        "version",
        "created_at",
        "updated_at",
        "updated_by",
        "last_evaluated_at",
        "archived",
    }
)
_BOOLEAN_VARIANTS = {"on": True, "off": False}
_FULL_FORM_MEMBERS = frozenset(
    {"type", "variants", "default_variant", "off_variant", "prerequisites"}
)
_NOT_SIMPLE = "needs a flag of the simple form: boolean, with one rollout for all"


def read_flag_body(body: Mapping[str, Any], before: Flag | None = None) -> Flag:
    """Read a whole flag in either form; raises DefinitionError.

    Rollouts that `before` has too keep their buckets as far as the weights allow.
    """
    full = {name: value for name, value in body.items() if name not in READ_ONLY_MEMBERS}
    simple = {name: full.pop(name, None) for name in SIMPLE_MEMBERS}
    stated = {name: value for name, value in simple.items() if value is not None}
    for name in full:
        if name not in FLAG_MEMBERS:
            known = (*FLAG_MEMBERS, *SIMPLE_MEMBERS)
            Place(full).at(name).fail(unknown_member(name, known), "unknown_member")
    name = str(full.get("name", ""))
    if stated and (simple_form := _stated_simple_form(full, stated, before)) is not None:
        full = {
            "type": "boolean",
            "variants": _BOOLEAN_VARIANTS,
            "default_variant": "off",
            "off_variant": "off",
            **full,
            "rules": simple_rules(name, simple_form, before),
        }
    return read_flag(_with_defaults(full), before)


def _with_defaults(full: Mapping[str, Any]) -> dict[str, Any]:
    """Fill in the members that a boolean flag may omit.

    A flag that is created by its name alone is not enabled.
    """
    filled = dict(full)
    if "type" not in full and "variants" not in full:
        filled |= {"type": "boolean", "variants": _BOOLEAN_VARIANTS}
    if filled.get("type") == "boolean" and filled.get("variants") == _BOOLEAN_VARIANTS:
        if not full.get("rules") and "default_variant" not in full:
            filled.setdefault("enabled", False)
        filled.setdefault("default_variant", "off" if full.get("rules") else "on")
        filled.setdefault("off_variant", "off")
    filled.setdefault("enabled", True)
    return filled


def is_simple_form(body: Mapping[str, Any]) -> bool:
    """Tell whether a body is in the simple form, which keeps members it does not name.

    What it names besides, such as a description, is in both forms.
    """
    if "rules" in body:
        return False
    return any(body.get(name) is not None for name in SIMPLE_MEMBERS) or not (
        body.keys() & _FULL_FORM_MEMBERS
    )


def patched_flag(flag: Flag, changes: Mapping[str, Any]) -> Flag:
    """Return a flag with some members replaced, in either form; raises DefinitionError."""
    changes = {
        name: value
        for name, value in changes.items()
        if value is not None or name not in SIMPLE_MEMBERS
    }
    if "rules" not in changes and changes.keys() & set(SIMPLE_MEMBERS):
        flag = _with_rollout(flag)
    return read_flag_body(patched_members(flag, changes), flag)


def _with_rollout(flag: Flag) -> Flag:
    """Return a switch without rules in the simple form: on for as many users as it is now."""
    if flag.rules or flag.type != "boolean" or dict(flag.variants) != _BOOLEAN_VARIANTS:
        return flag
    is_on = flag.enabled and flag.default_variant == "on"
    rules = simple_rules(flag.name, SimpleForm(100.0 if is_on else 0.0, ()))
    return read_flag({**flag_json(flag), "default_variant": "off", "rules": rules})


@dataclass(frozen=True, slots=True)
class NamedUsers:
    """The rule of a flag that serves one variant to users by their ids."""

    place: int
    users: tuple[Any, ...]
    variant: str


def named_users(flag: Flag) -> NamedUsers | None:
    """Return the users that a flag names; raises DefinitionError if the rule is of another kind."""
    for place, rule in enumerate(flag.rules):
        if rule.id != TARGETED_RULE:
            continue
        match rule.when, rule.serve:
            case Comparison(attribute=by, op="in", values=values, case_insensitive=False), Fixed(
                variant
            ) if by in SUBJECTS:
                users = tuple(str(user) if type(user) is int else user for user in values)
                return NamedUsers(place, users, variant)
        detail = f"has the id {TARGETED_RULE!r}, but is not a list of users"
        raise DefinitionError(f"/rules/{place}", detail, "no_targets")
    return None


def with_named_users(flag: Flag, users: Sequence[Any], variant: str | None) -> Flag:
    """Return a flag that names these users; raises DefinitionError.

    They are served `variant` if it names no users yet. For an empty list there is no rule.
    """
    named = named_users(flag)
    if named is None:
        return _with_targets(_with_rollout(flag), users, variant) if users else flag
    if variant not in {None, named.variant}:
        detail = f"differs from {named.variant!r}, the variant of the users that the flag names"
        raise DefinitionError("/variant", detail, "contradiction")
    rules = list(flag.rules)
    rule = rules[named.place]
    if users:
        assert isinstance(rule.when, Comparison)
        rules[named.place] = replace(rule, when=replace(rule.when, values=tuple(users)))
    else:
        del rules[named.place]
    return replace(flag, rules=tuple(rules))


def _with_targets(flag: Flag, users: Sequence[Any], variant: str | None) -> Flag:
    if variant is None and flag.type == "boolean" and flag.variants.get("on") is True:
        variant = "on"
    if variant is None:
        raise DefinitionError(
            "/variant", "is missing: name the variant that these users are served", "missing"
        )
    if variant not in flag.variants:
        raise DefinitionError("/variant", "is not a variant of this flag", "unknown_variant")
    when = Comparison(DEFAULT_BY, "in", tuple(users))
    rules = (Rule(TARGETED_RULE, when, Fixed(variant)), *flag.rules)
    # Read again: the numbers of rules and conditions are limited.
    return read_flag(flag_json(replace(flag, rules=rules)))


def _stated_simple_form(
    full: Mapping[str, Any], stated: Mapping[str, Any], before: Flag | None
) -> SimpleForm | None:
    """Return the simple form if it was sent, and edited if both forms were sent.

    Responses show a flag of the simple form in both forms; an edit changes one of them.
    """
    simple = read_simple_form(Place(stated))
    if "rules" not in full:
        _refuse_other_members(full, stated, ("type", "variants", "default_variant", "off_variant"))
        return simple
    known = None if before is None else simple_form_of(before)
    if before is not None and known and is_same(full["rules"], flag_json(before)["rules"]):
        if _agrees(known, stated):
            return None
        _refuse_other_members(full, stated, ("type", "variants"))
        return read_simple_form(Place({**simple_members(known), **stated}))
    if not _agrees(known, stated):
        simplified = simple_form_of(read_flag(_with_defaults(full)))
        if simplified is None or not _agrees(simplified, stated):
            raise DefinitionError(f"/{next(iter(stated))}", "contradicts rules", "contradiction")
    return None


def _refuse_other_members(
    full: Mapping[str, Any], stated: Mapping[str, Any], names: Iterable[str]
) -> None:
    for name in names:
        if name in full and not _is_boolean_default(name, full[name]):
            Place(full).at(name).fail(f"can be combined with rules, not with {' or '.join(stated)}")


def _is_boolean_default(name: str, value: object) -> bool:
    allowed: Mapping[str, tuple[object, ...]] = {
        "type": ("boolean",),
        "variants": (_BOOLEAN_VARIANTS,),
        "default_variant": ("off",),
        "off_variant": ("off",),
    }
    return value in allowed[name]


def _agrees(simple: SimpleForm | None, stated: Mapping[str, Any]) -> bool:
    if simple is None:
        return False
    percentage = stated.get("rollout_percentage", simple.rollout_percentage)
    users = stated.get("target_users", simple.target_users)
    texts = [str(user) if type(user) is int else user for user in users]
    return bool(percentage == simple.rollout_percentage and texts == list(simple.target_users))


def patched_members(flag: Flag, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a flag's members with some replaced; raises DefinitionError."""
    members = flag_json(flag)
    changes = {name: value for name, value in changes.items() if name not in READ_ONLY_MEMBERS}
    if not changes.keys() & set(SIMPLE_MEMBERS) or "rules" in changes:
        return {**members, **changes}
    simple = simple_form_of(flag)
    if simple is None:
        name = next(name for name in SIMPLE_MEMBERS if name in changes)
        raise DefinitionError(f"/{name}", _NOT_SIMPLE, "not_simple")
    return {**members, **simple_members(simple), **changes}


def simple_members(simple: SimpleForm) -> dict[str, Any]:
    share = simple.rollout_percentage
    return {
        "rollout_percentage": int(share) if share == int(share) else share,
        "target_users": list(simple.target_users),
    }


def definition_text(definition: Flag | Segment) -> str:
    """Return the JSON text to be stored; its members keep their order."""
    return write_json(_members(definition))


def _members(definition: Flag | Segment) -> dict[str, Any]:
    return flag_json(definition) if isinstance(definition, Flag) else segment_json(definition)


def members_of(item: Item, flag: Flag | None = None) -> dict[str, Any]:
    """Return the stored members of a flag or segment, as this release writes them.

    What this release cannot read is returned as it is stored.
    """
    try:
        return _members(definition_of(item) if flag is None else flag)
    except DefinitionError:
        members: dict[str, Any] = json.loads(item.definition)
        return members


def definition_of(item: Item) -> Flag | Segment:
    """Return the stored definition; raises DefinitionError."""
    members = json.loads(item.definition)
    return read_flag(members) if item.kind == "flag" else read_segment(members)


def public_members(item: Item, flag: Flag | None = None) -> dict[str, Any]:
    """Return a flag or segment as clients see it; `flag` spares reading its definition again."""
    members: dict[str, Any] = json.loads(item.definition) if item.definition else {}
    if item.kind == "flag" and members:
        simple = simple_form_of(read_flag(members) if flag is None else flag)
        if simple is not None:
            members |= simple_members(simple)
        members["archived"] = item.is_archived
    return {
        **members,
        "name": item.name,
        "environment": item.environment,
        "version": item.version,
        "created_at": item.created_at.isoformat(),
        "updated_at": item.at.isoformat(),
        "updated_by": actor_name(item.actor),
    }


def read_segment_body(body: Mapping[str, Any]) -> Segment:
    return read_segment(
        {name: value for name, value in body.items() if name not in READ_ONLY_MEMBERS}
    )


def difference(old: str, new: str) -> Diff:
    """Return the difference of two stored definitions, each rule and prerequisite by its name.

    An empty text is no definition: the item did not exist or is deleted.
    """
    return diff(_comparable_members(old), _comparable_members(new))


def _comparable_members(definition: str) -> dict[str, Any]:
    members: dict[str, Any] = json.loads(definition) if definition else {}
    if "rules" in members:
        members["rules"] = {rule["id"]: rule for rule in members["rules"]}
    if "prerequisites" in members:
        members["prerequisites"] = {
            need["flag"]: need["variants"] for need in members["prerequisites"]
        }
    return members
