"""Rendering of templates: parameters take their places in data, and nothing else happens. Pure.

`{"$param": "port"}` becomes the value of the parameter, with its type, and `${name}` in a text its
value as text. Only declared parameters are placeholders: every other `${...}`, such as
`${HOME:/root}`, stays text for the reader of the document. `$${` is a literal `${`.
"""

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pilothouse_core.schema_index import join_pointer

PARAMETER: Final = "$param"  # the only member of an object that a parameter replaces
MAX_TEMPLATE_DEPTH: Final = 32  # objects and lists inside each other
MAX_TEMPLATE_NODES: Final = 5000  # objects, lists and values
MAX_RENDERED_CHARACTERS: Final = 768 * 1024  # what no document could hold anyway
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}", re.ASCII)
_PLACEHOLDER: Final = re.compile(rf"\$\$\{{|\$\{{({_NAME.pattern})\}}", re.ASCII)
_ABSENT: Any = object()


class BadTemplate(ValueError):
    """The data cannot be rendered; `pointer` leads to the place in it."""

    def __init__(self, pointer: str, reason: str) -> None:
        super().__init__(f"at {pointer[:200]!r}: {reason}")
        self.pointer, self.reason = pointer, reason


class BadParameter(ValueError):
    """The value of the parameter `name` cannot take its place."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"the parameter {name!r} {reason}")
        self.name, self.reason = name, reason


class RenderingTooLarge(ValueError):
    """The rendering would be larger than a document may be."""

    def __init__(self) -> None:
        super().__init__(f"the rendering has more than {MAX_RENDERED_CHARACTERS} characters")


def is_parameter_name(name: str) -> bool:
    """Tell whether a parameter may have this name: a letter or `_`, then up to 63 more, or `-`."""
    return _NAME.fullmatch(name) is not None


def check_template(data: Any, declared: Collection[str]) -> None:
    """Raise BadTemplate for data beyond the bounds, and for a malformed or unknown `$param`."""
    nodes = 0
    waiting: list[tuple[str, Any, int]] = [("", data, 1)]
    while waiting:
        pointer, value, depth = waiting.pop()
        nodes += 1
        if nodes > MAX_TEMPLATE_NODES:
            raise BadTemplate("", f"more than {MAX_TEMPLATE_NODES} objects, lists and values")
        if not isinstance(value, dict | list):
            continue
        if depth > MAX_TEMPLATE_DEPTH:
            raise BadTemplate(pointer, f"more than {MAX_TEMPLATE_DEPTH} levels deep")
        if isinstance(value, dict) and PARAMETER in value:
            _check_parameter(pointer, value, declared)
            continue
        members = value.items() if isinstance(value, dict) else enumerate(value)
        waiting += [(join_pointer(pointer, name), inner, depth + 1) for name, inner in members]


def _check_parameter(pointer: str, value: Mapping[str, Any], declared: Collection[str]) -> None:
    name = value[PARAMETER]
    if len(value) > 1:
        raise BadTemplate(pointer, f"an object with `{PARAMETER}` has no other member")
    if not isinstance(name, str) or name not in declared:
        raise BadTemplate(join_pointer(pointer, PARAMETER), "not the name of a parameter")


def used_parameters(data: Any, declared: Collection[str]) -> frozenset[str]:
    """Return the parameters that a template has a place for."""
    return frozenset(_used_parameters(data, declared))


def _used_parameters(data: Any, declared: Collection[str]) -> Iterator[str]:
    waiting = [data]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield from (name for name in _PLACEHOLDER.findall(value) if name in declared)
        elif isinstance(value, list):
            waiting += value
        elif isinstance(value, dict) and PARAMETER in value:
            yield value[PARAMETER]
        elif isinstance(value, dict):
            waiting += value.values()


def render(
    data: Mapping[str, Any], parameters: Mapping[str, Any], declared: Collection[str]
) -> Any:
    """Return data that passed `check_template` with the values of its parameters.

    A `$param` without a value is left out, as a member or an item, and with it the section that
    it leaves empty; a text cannot do without it. In a text, numbers and booleans are written as in
    JSON, and null as nothing. Values are not rendered again. Raises BadParameter for a text that
    lacks a value, or gets a list or an object, and RenderingTooLarge.
    """
    rendered = _Renderer(parameters, frozenset(declared)).render(data)
    return {} if rendered is _ABSENT else rendered


@dataclass(slots=True)
class _Renderer:
    """One rendering; `room` counts the characters that may still be written, roughly."""

    parameters: Mapping[str, Any]
    declared: frozenset[str]
    room: int = MAX_RENDERED_CHARACTERS

    def render(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._render_text(value)
        if isinstance(value, list):
            items = (self.render(item) for item in value)
            return [item for item in items if item is not _ABSENT]
        if isinstance(value, dict) and PARAMETER in value:
            return self._parameter(value[PARAMETER])
        if isinstance(value, dict):
            self._count(sum(map(len, value)))
            members = [(name, self.render(inner)) for name, inner in value.items()]
            rendered = {name: inner for name, inner in members if inner is not _ABSENT}
            return _ABSENT if members and not rendered else rendered
        self._count(_size(value))
        return value

    def _parameter(self, name: str) -> Any:
        value = self.parameters.get(name, _ABSENT)
        if value is not _ABSENT:
            self._count(_size(value))
        return value

    def _render_text(self, text: str) -> str:
        parts: list[str] = []
        end = 0
        for place in _PLACEHOLDER.finditer(text):
            parts += [text[end : place.start()], self._replacement(place)]
            self._count(len(parts[-2]) + len(parts[-1]))
            end = place.end()
        parts.append(text[end:])
        self._count(len(parts[-1]))
        return "".join(parts)

    def _replacement(self, place: re.Match[str]) -> str:
        name = place[1]
        if name is None:
            return "${"
        if name not in self.declared:
            return place[0]
        if name not in self.parameters:
            raise BadParameter(name, "has no value, and a text needs one")
        value = self.parameters[name]
        if isinstance(value, list | dict):
            raise BadParameter(name, "is a list or an object, and has its place in a text")
        if isinstance(value, str):
            return value
        return "" if value is None else json.dumps(value)

    def _count(self, size: int) -> None:
        self.room -= size
        if self.room < 0:
            raise RenderingTooLarge


def _size(value: Any) -> int:
    return len(value) if isinstance(value, str) else len(json.dumps(value))
