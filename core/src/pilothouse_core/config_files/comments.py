"""Comments in flat formats that carry the key and the type of the next entry."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from pilothouse_core import strict_json
from pilothouse_core.config_files.errors import BadFile, quoted_name
from pilothouse_core.config_files.patterns import compile_pattern
from pilothouse_core.trees import SECRET, is_secret

_NOTE: Final = compile_pattern(r"[ \t\f]*+[#!][ \t]*+(type|key):[ \t]*+(.*?)[ \t]*", re.DOTALL)
_TYPES: Final = ("text", "number", "boolean", "null", "list", "object")
_SECRET_TYPE: Final = "secret"  # noqa: S105 - the name of a type, not a secret


@dataclass(slots=True)
class Notes:
    """The key and type that comments give to the next entry."""

    key: str | None = None
    type: str = "text"
    is_secret: bool = False

    def take(self, comment: str, line: int) -> None:
        """Read one comment; raises BadFile for a type that is not known."""
        match = _NOTE.fullmatch(comment)
        if match is None:
            return
        if match[1] == "key":
            self.key = _key(match[2], line)
            return
        words = match[2].split()
        self.is_secret = words[:1] == [_SECRET_TYPE]
        kinds = words[self.is_secret :] or ["text"] * self.is_secret
        if len(kinds) != 1 or kinds[0] not in _TYPES:
            raise BadFile(f"the type {quoted_name(match[2])} is not known", line)
        self.type = kinds[0]

    def value_of(self, text: str, line: int) -> object:
        """Return the value of the entry that follows; raises BadFile if it is not of the type."""
        value = _typed_value(text, self.type, line)
        return {SECRET: {"value": value}} if self.is_secret else value


def _key(text: str, line: int) -> str:
    if not text.startswith('"'):
        return text
    try:
        return str(strict_json.loads(text))
    except strict_json.BadJson as error:
        raise BadFile(f"the key in a comment is not JSON: {error.reason}", line) from None


def _typed_value(text: str, kind: str, line: int) -> object:
    if kind == "text":
        return text
    if text == "" and kind in {"null", "list", "object"}:
        return {"null": None, "list": [], "object": {}}[kind]
    try:
        value = strict_json.loads(text, exact=True)
    except strict_json.BadJson as error:
        raise BadFile(f"the value is not of the type {kind}: {error.reason}", line) from None
    if type_of(value) != kind:
        raise BadFile(f"the value is not of the type {kind}", line)
    return value


def type_of(value: object) -> str:
    match value:
        case str():
            return "text"
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case None:
            return "null"
        case list():
            return "list"
        case _:
            return "object"


def type_note(value: object, *, is_secret: bool) -> Iterator[str]:
    """Yield the comment before an entry whose value is not plain text."""
    kind = type_of(value)
    words = [_SECRET_TYPE] * is_secret + [kind] * (kind != "text")
    if words:
        yield f"# type: {' '.join(words)}"


def key_note(key: str) -> str:
    is_plain = key.isprintable() and key == key.strip() and not key.startswith('"')
    return f"# key: {key if is_plain else json.dumps(key)}"


def revealed_secret(value: object) -> tuple[bool, object]:
    """Tell whether a leaf is a secret whose value is shown, and return the value."""
    match value:
        case {"$secret": {"value": plain}}:
            return True, plain
    return False, value


def holds_mask(value: object) -> bool:
    """Tell whether a list holds a secret whose value is not shown.

    Without it the list would be another one: it is left out as a whole.
    """
    is_shown, inner = revealed_secret(value)
    if is_secret(inner):
        return True
    if isinstance(inner, dict) and not is_shown:
        return any(map(holds_mask, inner.values()))
    return isinstance(inner, list) and any(map(holds_mask, inner))


def with_revealed_values(value: object) -> object:
    """Return what is in a leaf with the values of secrets that are shown."""
    is_shown, inner = revealed_secret(value)
    if is_shown:
        return inner
    if isinstance(inner, dict):
        return {name: with_revealed_values(member) for name, member in inner.items()}
    return [with_revealed_values(item) for item in inner] if isinstance(inner, list) else inner


def omission_note(key: str, why: str = "a secret") -> str:
    """Return the comment that replaces an omitted value."""
    # A line break in a name would let the rest of it pass for an entry.
    return f"# {''.join(filter(str.isprintable, key))} is {why} and left out"
