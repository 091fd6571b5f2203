"""Edits as JSON: `{"kind": "create_key", "key": "db.host", ...}`. Pure.

An edit may hold secrets in the clear (see `edits`), and so does its JSON: it is never stored or
logged without encryption.
"""

from collections.abc import Callable, Mapping
from typing import Any

from app.configs.documents.edits import (
    ApplyTemplate,
    CreateDocument,
    CreateKey,
    DeleteDocument,
    Edit,
    FormerRendering,
    PatchKeys,
    PatchSealed,
    RemoveKey,
    ReplaceDocument,
    ReplaceKey,
    RestoreKey,
    RestoreVersion,
    WriteTombstone,
)
from app.configs.model import TemplateUse, use_from_json, use_to_json

_Check = Callable[[Any], bool]


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_flag_or_null(value: Any) -> bool:
    return value is None or isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _is_json(_: Any) -> bool:
    return True


def _is_map_of_texts(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_text, value.values()))


def _is_use(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == {"version", "parameters", "at"}
        and _is_number(value["version"])
        and _is_object(value["parameters"])
        and _is_text(value["at"])
    )


def _is_map_of_uses(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_use, value.values()))


def _is_rendering_or_null(value: Any) -> bool:
    return value is None or (
        isinstance(value, dict)
        and value.keys() == {"use", "tree"}
        and _is_use(value["use"])
        and _is_object(value["tree"])
    )


_KINDS: Mapping[str, tuple[type[Edit], Mapping[str, _Check]]] = {
    "create_key": (CreateKey, {"key": _is_text, "value": _is_json, "is_encrypted": _is_flag}),
    "replace_key": (
        ReplaceKey,
        {"key": _is_text, "value": _is_json, "is_encrypted": _is_flag_or_null},
    ),
    "remove_key": (RemoveKey, {"key": _is_text}),
    "patch_keys": (
        PatchKeys,
        {"set": _is_object, "unset": _is_texts, "encrypt": _is_texts, "keep_both": _is_flag},
    ),
    "patch_sealed": (PatchSealed, {"set": _is_object, "unset": _is_texts}),
    "create_document": (CreateDocument, {"members": _is_object}),
    "replace_document": (ReplaceDocument, {"members": _is_object}),
    "delete_document": (DeleteDocument, {}),
    "write_tombstone": (WriteTombstone, {}),
    "restore_version": (
        RestoreVersion,
        {
            "version": _is_number,
            "data": _is_object,
            "is_deletion": _is_flag,
            "templates": _is_map_of_uses,
            "origins": _is_map_of_texts,
        },
    ),
    "restore_key": (RestoreKey, {"key": _is_text, "version": _is_number, "data": _is_object}),
    "apply_template": (
        ApplyTemplate,
        {"name": _is_text, "use": _is_use, "tree": _is_object, "former": _is_rendering_or_null},
    ),
}
_NAMES: Mapping[type[Edit], str] = {edit: kind for kind, (edit, _) in _KINDS.items()}


def _uses_to_json(uses: Mapping[str, TemplateUse]) -> dict[str, Any]:
    return {name: use_to_json(use) for name, use in uses.items()}


def _uses_from_json(raw: Mapping[str, Any]) -> dict[str, TemplateUse]:
    return {name: use_from_json(use) for name, use in raw.items()}


def _rendering_to_json(rendering: FormerRendering | None) -> dict[str, Any] | None:
    if rendering is None:
        return None
    return {"use": use_to_json(rendering.use), "tree": rendering.tree}


def _rendering_from_json(raw: Mapping[str, Any] | None) -> FormerRendering | None:
    return None if raw is None else FormerRendering(use_from_json(raw["use"]), raw["tree"])


# Of members that are not JSON as they are: how they become JSON, and are read from it.
_CONVERSIONS: Mapping[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "unset": (list, tuple),
    "encrypt": (list, tuple),
    "use": (use_to_json, use_from_json),
    "templates": (_uses_to_json, _uses_from_json),
    "former": (_rendering_to_json, _rendering_from_json),
}


def edit_to_json(edit: Edit) -> dict[str, Any]:
    """Return an edit as an object of JSON, which shares its values with the edit."""
    kind = _NAMES[type(edit)]
    _, checks = _KINDS[kind]
    members = {name: getattr(edit, name) for name in checks}
    for name in members.keys() & _CONVERSIONS.keys():
        members[name] = _CONVERSIONS[name][0](members[name])
    return {"kind": kind} | members


def edit_from_json(raw: Mapping[str, Any]) -> Edit:
    """Return the edit that `edit_to_json` made an object of.

    Raises ValueError if it is not one, and what the edit itself raises for its members.
    """
    members = dict(raw)
    kind = members.pop("kind", None)
    if not isinstance(kind, str) or kind not in _KINDS:
        raise ValueError(f"no edit is of the kind {kind!r}")
    edit, checks = _KINDS[kind]
    if members.keys() != checks.keys():
        raise ValueError(f"the members of {kind} are not {sorted(checks)}")
    for name, is_valid in checks.items():
        if not is_valid(members[name]):
            raise ValueError(f"the member {name!r} of {kind} has a wrong type")
    for name in members.keys() & _CONVERSIONS.keys():
        members[name] = _CONVERSIONS[name][1](members[name])
    return edit(**members)
