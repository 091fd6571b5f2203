"""Metadata of a flag, kept in tags of the form `name=value`."""

import json
import math

from pilothouse_core.flags.model import Flag


def metadata_tag(name: str, value: str | float | bool) -> str:  # noqa: FBT001 - a value
    """Return the tag that says `name=value`; `metadata_of` reads it back as it was."""
    if not isinstance(value, str):
        return f"{name}={json.dumps(value)}"
    return f"{name}={value if _as_metadata(value) == value else json.dumps(value)}"


def metadata_of(flag: Flag) -> dict[str, str | int | float | bool]:
    """Return the tags of the form `name=value`: JSON booleans, numbers and texts, or text."""
    pairs = (tag.partition("=") for tag in flag.tags)
    return {name: _as_metadata(text) for name, equals, text in pairs if name and equals}


def _as_metadata(text: str) -> str | int | float | bool:
    try:
        value = json.loads(text, parse_constant=str)
    except (ValueError, RecursionError):
        return text
    if isinstance(value, float) and not math.isfinite(value):
        return text
    return value if isinstance(value, (str, int, float)) else text
