"""The JSON Schema of the service's own settings, for files of variables and for manifests."""

import json
from collections.abc import Mapping
from typing import Any

from app.settings import Settings

_MEMBERS = ("description", "default", "examples", "minimum", "maximum", "minLength", "pattern")
_WORDS = ("true", "false", "t", "f", "yes", "no", "y", "n", "on", "off", "1", "0")
_DIGITS = {"integer": "^[+-]?[0-9]+$", "number": r"^[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)$"}


def settings_schema() -> dict[str, Any]:
    """Return the schema of variables by their names.

    A variable is text, and a manifest may write a number or a boolean: both are valid. Other
    variables than settings may be there.
    """
    known = Settings.model_json_schema()["properties"]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Settings of Pilothouse",
        "type": "object",
        "properties": {name.upper(): _setting(name, known[name]) for name in known},
    }


def settings_schema_text() -> str:
    return json.dumps(settings_schema(), ensure_ascii=False, indent=2) + "\n"


def _setting(name: str, stated: Mapping[str, Any]) -> dict[str, Any]:
    kinds = stated.get("anyOf", [stated])
    types = [kind["type"] for kind in kinds]
    found = {member: stated[member] for member in _MEMBERS if member in stated}
    if found.get("default", "") is None:
        del found["default"]
    if any(kind.get("writeOnly") for kind in kinds):
        found["writeOnly"] = True
    options = stated.get("enum") or ([stated["const"]] if "const" in stated else None)
    if options is not None:
        found["enum"] = options + [word.upper() for word in options if _takes(name, word.upper())]
    elif types[0] in _DIGITS:
        found["pattern"] = _DIGITS[types[0]]
    elif types[0] == "boolean":
        found["pattern"] = f"^({'|'.join(map(_in_any_case, _WORDS))})$"
    text = ["string"] if "string" not in types else []
    return {"type": [*types, *text] if len(types) + len(text) > 1 else types[0], **found}


def _takes(name: str, value: str) -> bool:
    try:
        Settings.model_validate({name: value})
    except ValueError:
        return False
    return True


def _in_any_case(word: str) -> str:
    # Without flags, which not every validator knows.
    return "".join(f"[{letter.upper()}{letter}]" if letter.isalpha() else letter for letter in word)
