"""Plans as JSON: `{"kind": "archive_flag", "name": "new-checkout"}`. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from app.flags.definitions.plans import (
    ArchiveFlag,
    ChangeFlag,
    ChangeSegment,
    ChangeTargets,
    CopyFlag,
    CreateFlag,
    CreateSegment,
    DeleteFlag,
    DeleteSegment,
    ImportItems,
    KillFlag,
    Plan,
    ReplaceFlag,
    ReplaceSegment,
    RestoreFlag,
    RestoreVersion,
    SetItems,
    StatedItem,
)
from pilothouse_core.flags.model import Flag
from pilothouse_core.flags.reading import read_flag, read_segment
from pilothouse_core.flags.serialization import flag_json, segment_json


def _identity(value: Any) -> Any:
    return value


@dataclass(frozen=True, slots=True)
class _Member:
    is_valid: Callable[[Any], bool]
    read: Callable[[Any], Any] = _identity
    write: Callable[[Any], Any] = _identity


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_text_or_null(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _is_texts_or_null(value: Any) -> bool:
    return value is None or _is_texts(value)


def _is_boolean(value: Any) -> bool:
    return isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _is_operation(value: Any) -> bool:
    return value in ("replace", "append", "remove")


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _stated_item_json(item: StatedItem) -> dict[str, Any]:
    definition = item.definition
    if definition is not None:
        is_flag = isinstance(definition, Flag)
        members = flag_json(definition) if is_flag else segment_json(definition)  # type: ignore[arg-type]
    return {
        "kind": item.kind,
        "name": item.name,
        "definition": None if definition is None else members,
        "is_archived": item.is_archived,
        "base": item.base,
    }


def _read_stated_item(raw: Mapping[str, Any]) -> StatedItem:
    read = read_flag if raw["kind"] == "flag" else read_segment
    members = raw["definition"]
    return StatedItem(
        raw["kind"],
        raw["name"],
        None if members is None else read(members),
        raw["is_archived"],
        raw["base"],
    )


_NAME = {"name": _Member(_is_text)}
_MEMBERS = {"members": _Member(_is_object)}
_FLAG = {"flag": _Member(_is_object, read_flag, flag_json)}
_FORCE = {"force": _Member(_is_boolean)}
_KINDS: Mapping[str, tuple[type[Plan], Mapping[str, _Member]]] = {
    "create_flag": (CreateFlag, _FLAG),
    "create_segment": (
        CreateSegment,
        {"segment": _Member(_is_object, read_segment, segment_json)},
    ),
    "replace_flag": (ReplaceFlag, _NAME | _MEMBERS | _FORCE),
    "replace_segment": (ReplaceSegment, _NAME | _MEMBERS),
    "change_flag": (ChangeFlag, _NAME | _MEMBERS | _FORCE),
    "change_segment": (ChangeSegment, _NAME | _MEMBERS),
    "change_targets": (
        ChangeTargets,
        _NAME
        | {
            "operation": _Member(_is_operation),
            "users": _Member(_is_texts, tuple, list),
            "variant": _Member(_is_text_or_null),
        },
    ),
    "delete_flag": (DeleteFlag, _NAME),
    "delete_segment": (DeleteSegment, _NAME),
    "archive_flag": (ArchiveFlag, _NAME),
    "restore_flag": (RestoreFlag, _NAME),
    "kill_flag": (KillFlag, _NAME | {"reason": _Member(_is_text)}),
    "restore_version": (RestoreVersion, {"version": _Member(_is_number)} | _FLAG | _FORCE),
    "copy_flag": (CopyFlag, _FLAG | {"overwrite": _Member(_is_boolean)} | _FORCE),
    "import_items": (
        ImportItems,
        {
            "flags": _Member(
                _is_list,
                lambda flags: tuple(map(read_flag, flags)),
                lambda flags: list(map(flag_json, flags)),
            ),
            "segments": _Member(
                _is_list,
                lambda segments: tuple(map(read_segment, segments)),
                lambda segments: list(map(segment_json, segments)),
            ),
            "archived": _Member(
                _is_texts_or_null,
                lambda names: None if names is None else frozenset(names),
                lambda names: None if names is None else sorted(names),
            ),
        },
    ),
    "set_items": (
        SetItems,
        {
            "items": _Member(
                _is_list,
                lambda items: tuple(map(_read_stated_item, items)),
                lambda items: list(map(_stated_item_json, items)),
            )
        },
    ),
}
_NAMES: Mapping[type[Plan], str] = {plan: kind for kind, (plan, _) in _KINDS.items()}


def plan_to_json(plan: Plan) -> dict[str, Any]:
    """Return a plan as an object of JSON, which shares its values with the plan."""
    kind = _NAMES[type(plan)]
    _, members = _KINDS[kind]
    return {"kind": kind} | {
        name: member.write(getattr(plan, name)) for name, member in members.items()
    }


def plan_from_json(raw: Mapping[str, Any]) -> Plan:
    """Return the plan that `plan_to_json` made an object of.

    Raises ValueError if it is not one, namely DefinitionError for a flaw in a definition.
    """
    stated = dict(raw)
    kind = stated.pop("kind", None)
    if not isinstance(kind, str) or kind not in _KINDS:
        raise ValueError(f"no plan is of the kind {kind!r}")
    plan, members = _KINDS[kind]
    if stated.keys() != members.keys():
        raise ValueError(f"the members of {kind} are not {sorted(members)}")
    for name, member in members.items():
        if not member.is_valid(stated[name]):
            raise ValueError(f"the member {name!r} of {kind} has a wrong type")
    return plan(**{name: member.read(stated[name]) for name, member in members.items()})
