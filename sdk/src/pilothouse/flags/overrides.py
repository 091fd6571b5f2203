"""Flags with one value for all users: overrides, and values set by tests. Pure."""

from typing import Any

from pilothouse_core.definitions import DefinitionError
from pilothouse_core.flags.model import Flag
from pilothouse_core.flags.reading import read_flag

_TYPES = {bool: "boolean", str: "string", int: "integer", float: "number", dict: "object"}
_TYPES[list] = "object"


def definition_of(name: str, value: Any) -> dict[str, Any]:
    """Return a definition that serves `value`; raises ValueError for what no flag can be."""
    kind = _TYPES.get(type(value))
    if kind is None:
        raise ValueError(f"a flag cannot be a {type(value).__name__}")
    is_switch = kind == "boolean"
    return {
        "name": name,
        "type": kind,
        "variants": {"on": True, "off": False} if is_switch else {"on": value},
        "default_variant": "on" if not is_switch or value else "off",
        "off_variant": "off" if is_switch else None,
        "enabled": True,
    }


def override(name: str, value: Any) -> Flag:
    try:
        return read_flag(definition_of(name, value))
    except DefinitionError as error:
        raise ValueError(str(error)) from error
