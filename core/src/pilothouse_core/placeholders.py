"""Placeholders, `${name}` and `${name:default}`, in the texts of a configuration. Pure.

The grammar is that of Spring's property placeholders: a name is the key of another value, the
text after the first colon is the default, names and defaults may contain placeholders, and `$${`
is an escaped `${`.
"""

import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pilothouse_core.keys import canonical_key, join_item, join_member
from pilothouse_core.strict_json import BadJson, loads
from pilothouse_core.trees import (
    SECRET,
    Tree,
    child_key,
    contains_key,
    is_secret,
    is_section,
    leaf_key,
    value_at,
)

_LARGEST_INTEGER = 2**53  # what every reader of JSON has exactly
MAX_NESTING = 16  # of placeholders in each other, in one text
MAX_CHAIN = 50  # of values of which each needs the next
_MAX_DEPTH = 120  # of lists, placeholders and values together: the interpreter's stack has an end
MAX_PLACEHOLDERS = 20_000  # in what is resolved at once
_LONGEST = 8192  # characters of one placeholder
MAX_RESOLVED = 4 * 1024 * 1024  # characters of all that takes the place of placeholders
_BRACE = re.compile(r"[{}]")
OPENING = re.compile(r"(?P<escaped>\$?)\$\{")


class PlaceholderCycle(ValueError):
    """Values need each other; `keys` leads from one of them back to it."""

    def __init__(self, keys: Sequence[str]) -> None:
        super().__init__(f"{' -> '.join(keys)} is a cycle of placeholders")
        self.keys = keys


class PlaceholdersExceedLimit(ValueError):
    """Resolving would nest too deeply or make too much of a little."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(f"the placeholders of {key!r} {reason}")
        self.key = key


@dataclass(frozen=True, slots=True)
class Placeholder:
    """One placeholder: `text` as it is written, the parts of its name, and of its default."""

    text: str
    name: tuple["Part", ...]
    default: tuple["Part", ...] | None


Part = str | Placeholder


@dataclass(frozen=True, slots=True)
class RevealedSecret:
    """A secret in the clear, in which placeholders are not resolved."""

    value: Any


Outcome = Literal["value", "default", "unresolved"]


@dataclass(frozen=True, slots=True)
class PlaceholderUse:
    """The replacement of one placeholder: the value of `key`, the default, or nothing."""

    name: str
    outcome: Outcome
    key: str | None = None


@dataclass(slots=True)
class Resolution:
    """A resolved value; `uses` has the placeholders of each leaf, by its key.

    `secrets` has the keys of the secrets that are in it.
    """

    value: Any = None
    uses: dict[str, list[PlaceholderUse]] = field(default_factory=dict)
    secrets: set[str] = field(default_factory=set)


def read_value(text: str) -> Any:
    """Return `text` read as JSON; itself if it is not JSON or a number would change its digits.

    `1e5`, `1.10` and what is beyond 2^53 may be passwords, versions or keys: they stay text.
    """
    try:
        value = loads(text)
    except BadJson:
        return text
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        is_same = str(value) == text.strip() and abs(value) <= _LARGEST_INTEGER
        return value if is_same else text
    return value


def parse_placeholders(text: str, key: str = "", depth: int = 0) -> tuple[Part, ...]:
    """Return the parts of a text; from a `${` that is not closed on, all is text.

    Raises PlaceholdersExceedLimit; `key` says where the text is.
    """
    if depth > MAX_NESTING:
        raise PlaceholdersExceedLimit(key, f"are nested more than {MAX_NESTING} deep")
    parts: list[Part] = []
    end = 0
    while (opening := OPENING.search(text, end)) is not None:
        if opening["escaped"]:
            parts += [text[end : opening.start()], "${"]
            end = opening.end()
            continue
        close = closing_brace(text, opening.end(), opening.end() + _LONGEST)
        if close == len(text):
            break
        if len(parts) > 2 * MAX_PLACEHOLDERS:
            raise PlaceholdersExceedLimit(key, f"are more than {MAX_PLACEHOLDERS}")
        parts.append(text[end : opening.start()])
        name, default = _split_default(text[opening.end() : close])
        parts.append(
            Placeholder(
                text[opening.start() : close + 1],
                parse_placeholders(name.strip(), key, depth + 1),
                None if default is None else parse_placeholders(default, key, depth + 1),
            )
        )
        end = close + 1
    parts.append(text[end:])
    return tuple(part for part in parts if part != "")


def closing_brace(text: str, start: int, end: int | None = None) -> int:
    """Return where a placeholder ends whose name begins at `start`; if nowhere, the text's end.

    The brace is looked for before `end`.
    """
    depth = 1
    for brace in _BRACE.finditer(text, start, len(text) if end is None else end):
        depth += 1 if brace[0] == "{" else -1
        if not depth:
            return brace.start()
    return len(text)


def _split_default(inner: str) -> tuple[str, str | None]:
    """Part name and default at the first colon that lies in no further placeholder or brackets."""
    depth = 0
    for position, character in enumerate(inner):
        if character in "{[":
            depth += 1
        elif character in "}]":
            depth -= 1
        elif character == ":" and depth <= 0:
            return inner[:position], inner[position + 1 :]
    return inner, None


def resolve_placeholders(
    data: Mapping[str, Any],
    find_key: Callable[[str], str | None] | None = None,
    key: str = "",
) -> Resolution:
    """Return the value at `key`, or the whole document, with placeholders replaced by values.

    A text that is one placeholder and nothing else becomes the value, with its type; of a default,
    what `read_value` makes of it. In a longer text numbers and booleans are written as in
    JSON, and `null` as nothing. A text with a secret in it is a mask, unless the secret is
    a `RevealedSecret`; no secret is part of a name. What names no value and has no default stays
    as it is written, and so does what would put a list or an object into a text.

    `find_key` returns the key that a name means, if there is one. Raises PlaceholderCycle and
    PlaceholdersExceedLimit.
    """

    def find_exactly(name: str) -> str | None:
        exact_key = canonical_key(name)
        return exact_key if name and contains_key(data, exact_key) else None

    return _Resolver(data, find_key or find_exactly).resolve(key)


@dataclass(frozen=True, slots=True)
class _Value:
    """A resolved value; `size` counts its characters, roughly.

    `is_secret`: a secret is in it; `is_masked`: one that is not opened.
    """

    value: Any
    size: int
    is_secret: bool = False
    is_masked: bool = False


_MASK = _Value({SECRET: "masked"}, 20, is_secret=True, is_masked=True)


class _Resolver:
    """One walk through a configuration; each value is resolved once."""

    def __init__(self, data: Mapping[str, Any], find_key: Callable[[str], str | None]) -> None:
        self._data = data
        self._find_key = find_key
        self._known: dict[str, _Value] = {}
        self._chain: list[str] = []
        self._depth = 0
        self._placeholders = 0
        self._size = 0
        self._result = Resolution()

    def resolve(self, key: str) -> Resolution:
        value = value_at(self._data, key) if key else self._data
        if is_section(value) or not key:
            self._result.value = self._section(value, key)
        else:
            self._result.value = self._value_of(key, value).value
        return self._result

    def _section(self, section: Mapping[str, Any], prefix: str) -> Tree:
        tree: Tree = {}
        for name, value in section.items():
            key = child_key(prefix, name)
            if is_section(value):
                tree[name] = self._section(value, key)
            else:
                tree[name] = self._value_of(key, value).value
        return tree

    def _value_of(self, key: str, value: Any) -> _Value:
        if key in self._known:
            return self._known[key]
        if key in self._chain:
            raise PlaceholderCycle([*self._chain[self._chain.index(key) :], key])
        if len(self._chain) == MAX_CHAIN:
            reason = f"need more than {MAX_CHAIN} values, one after the other"
            raise PlaceholdersExceedLimit(self._chain[0], reason)
        self._chain.append(key)
        uses: list[PlaceholderUse] = []
        resolved_value = self._known[key] = self._resolve_inner(key, value, uses)
        self._chain.pop()
        if uses:
            self._result.uses[key] = uses
        return resolved_value

    def _resolve_inner(self, key: str, value: Any, uses: list[PlaceholderUse]) -> _Value:
        """Resolve a leaf, or a value inside it."""
        self._descend(key)
        resolved_value = self._resolve_part(key, value, uses)
        self._depth -= 1
        return resolved_value

    def _resolve_part(self, key: str, value: Any, uses: list[PlaceholderUse]) -> _Value:
        if isinstance(value, RevealedSecret):
            self._result.secrets.add(key)
            return _Value(value.value, _size(value.value), is_secret=True)
        if isinstance(value, str):
            return self._text(key, value, uses) if "${" in value else _Value(value, len(value))
        if is_secret(value):
            self._result.secrets.add(key)
            return replace(_MASK, value=value)
        if isinstance(value, list):
            items = [
                self._resolve_inner(join_item(key, n), item, uses) for n, item in enumerate(value)
            ]
            return _combine([item.value for item in items], items)
        if isinstance(value, dict):
            members = {
                n: self._resolve_inner(join_member(key, n), v, uses) for n, v in value.items()
            }
            return _combine({n: v.value for n, v in members.items()}, members.values())
        return _Value(value, _size(value))

    def _text(self, key: str, text: str, uses: list[PlaceholderUse]) -> _Value:
        parts = parse_placeholders(text, key)
        if len(parts) == 1 and isinstance(parts[0], Placeholder):
            replacement = self._placeholder(key, parts[0], uses, is_whole=True)
            self._count(key, replacement.size)
            return replacement
        return self._join_parts(key, parts, uses)

    def _join_parts(self, key: str, parts: Sequence[Part], uses: list[PlaceholderUse]) -> _Value:
        texts: list[str] = []
        is_secret = is_masked = False
        for part in parts:
            if isinstance(part, str):
                texts.append(part)
                continue
            replacement = self._placeholder(key, part, uses, is_whole=False)
            is_secret |= replacement.is_secret
            is_masked |= replacement.is_masked
            texts.append("" if replacement.is_masked else replacement.value)
            self._count(key, replacement.size)
        text = "".join(texts)
        return _MASK if is_masked else _Value(text, len(text), is_secret)

    def _placeholder(
        self, key: str, placeholder: Placeholder, uses: list[PlaceholderUse], *, is_whole: bool
    ) -> _Value:
        self._descend(key)
        self._placeholders += 1
        if self._placeholders > MAX_PLACEHOLDERS:
            raise PlaceholdersExceedLimit(
                key, f"are more than {MAX_PLACEHOLDERS} together with others"
            )
        replacement = self._replacement(key, placeholder, uses, is_whole=is_whole)
        self._depth -= 1
        return replacement

    def _replacement(
        self, key: str, placeholder: Placeholder, uses: list[PlaceholderUse], *, is_whole: bool
    ) -> _Value:
        as_written = _Value(placeholder.text, len(placeholder.text))
        name = self._join_parts(key, placeholder.name, uses)
        if name.is_secret:
            uses.append(PlaceholderUse(placeholder.text, "unresolved"))
            return as_written
        entry = self._look_up(name.value, is_whole=is_whole)
        if entry is not None:
            uses.append(PlaceholderUse(name.value, "value", entry[0]))
            return entry[1]
        default = placeholder.default
        uses.append(PlaceholderUse(name.value, "unresolved" if default is None else "default"))
        if default is None:
            return as_written
        if is_whole and len(default) == 1 and isinstance(default[0], Placeholder):
            return self._placeholder(key, default[0], uses, is_whole=True)
        text = self._join_parts(key, default, uses)
        if text.is_secret or not is_whole:
            return text
        return replace(text, value=read_value(text.value))

    def _look_up(self, name: str, *, is_whole: bool) -> tuple[str, _Value] | None:
        """Return key and value that a name means, if it can take the place of a placeholder."""
        key = self._find_key(name)
        if key is None:
            return None
        _, key = leaf_key(self._data, key)
        value = value_at(self._data, key)
        if is_section(value):
            return None
        resolved_value = self._value_of(key, value)
        if is_whole or resolved_value.is_masked:
            return key, resolved_value
        text = _text_of(resolved_value.value)
        return None if text is None else (key, replace(resolved_value, value=text, size=len(text)))

    def _descend(self, key: str) -> None:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise PlaceholdersExceedLimit(key, "nest too deeply")

    def _count(self, key: str, size: int) -> None:
        self._size += size
        if self._size > MAX_RESOLVED:
            reason = f"would become more than {MAX_RESOLVED} characters"
            raise PlaceholdersExceedLimit(key, reason)


def _combine(value: Any, parts: Collection[_Value]) -> _Value:
    return _Value(
        value,
        sum(part.size for part in parts) + len(parts),
        any(part.is_secret for part in parts),
        any(part.is_masked for part in parts),
    )


def _size(value: Any) -> int:
    return len(value) if isinstance(value, str) else len(json.dumps(value))


def _text_of(value: Any) -> str | None:
    """Return a value as part of a text; None for a list or an object."""
    if isinstance(value, str):
        return value
    if isinstance(value, (list, dict)):
        return None
    return "" if value is None else json.dumps(value)
