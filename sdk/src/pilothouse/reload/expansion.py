"""`${VAR:default}` in the texts of a configuration."""

import re
from collections.abc import Mapping
from typing import Any

from pilothouse.reload.errors import BadConfig, MissingVariable
from pilothouse_core.keys import join_key
from pilothouse_core.placeholders import MAX_NESTING, OPENING, closing_brace, read_value
from pilothouse_core.trees import Tree

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_WORDS = {"True": True, "TRUE": True, "False": False, "FALSE": False}


def read_variable(text: str) -> Any:
    """Return the value of a variable, as `read_value` does, or a boolean in Python's spelling."""
    return _WORDS[text] if text in _WORDS else read_value(text)


def expand_tree(tree: Tree, environment: Mapping[str, str]) -> Tree:
    """Return the tree with every reference replaced; parts without any are shared with it.

    `${NAME}` is a variable of `environment`, `${NAME:default}` one that may be absent; everything
    between the colon and the brace is the default, which may be empty. `${NAME:-default}` uses the
    default for an empty variable as well. A default may contain references. White space around the
    name and around a default is ignored. A text that is one reference and nothing else is read as
    `read_value` does (`${PORT:8080}` is a number). `$${` is an escaped `${`. The value of a
    variable is not expanded again. Names of members are not expanded.

    Raises MissingVariable, which names every absent variable at once, and BadConfig for `${` that
    begins no reference.
    """
    missing: dict[str, None] = {}
    result = _expanded_section(tree, environment, missing, "")
    if missing:
        raise MissingVariable(list(missing))
    return result


def _expanded_section(
    tree: Tree, environment: Mapping[str, str], missing: dict[str, None], path: str
) -> Tree:
    """Copy only changed parts: few texts of a large file are references."""
    result = tree
    for name, value in tree.items():
        kind = type(value)
        if (kind is str and "${" in value) or kind is dict or kind is list:
            new = _expand_value(value, environment, missing, join_key(path, name))
            if new is not value:
                if result is tree:
                    result = dict(tree)
                result[name] = new
    return result


def _expand_value(
    value: Any, environment: Mapping[str, str], missing: dict[str, None], path: str
) -> Any:
    if isinstance(value, str):
        return _text(value, environment, missing, path) if "${" in value else value
    if isinstance(value, dict):
        return _expanded_section(value, environment, missing, path)
    if isinstance(value, list):
        items = [_expand_value(item, environment, missing, path) for item in value]
        is_same = all(new is item for new, item in zip(items, value, strict=True))
        return value if is_same else items
    return value


def _text(text: str, environment: Mapping[str, str], missing: dict[str, None], path: str) -> Any:
    result, is_reference = _Expansion(environment, missing, path).expand(text)
    return read_value(result) if is_reference and result else result


class _Expansion:
    """The references of one text."""

    def __init__(self, environment: Mapping[str, str], missing: dict[str, None], path: str) -> None:
        self._environment = environment
        self._missing = missing
        self._path = path

    def expand(self, text: str, depth: int = 0) -> tuple[str, bool]:
        """Return the text with references replaced, and whether it was exactly one reference."""
        if depth > MAX_NESTING:
            raise BadConfig(f"{self._path}: more than {MAX_NESTING} references inside each other")
        parts: list[str] = []
        end, references = 0, 0
        while (opening := OPENING.search(text, end)) is not None:
            parts.append(text[end : opening.start()])
            if opening["escaped"]:
                parts.append("${")
                end = opening.end()
                continue
            close = closing_brace(text, opening.end())
            if close == len(text):
                raise self._syntax_error()
            name, default = self._parse(text[opening.end() : close])
            parts.append(self._look_up(name, default, depth))
            references, end = references + 1, close + 1
        is_reference = references == 1 and end == len(text) and len(parts) == 2 and not parts[0]  # noqa: PLR2004
        return "".join([*parts, text[end:]]), is_reference

    def _parse(self, inner: str) -> tuple[str, str | None]:
        name, colon, default = inner.partition(":")
        name = name.strip()
        if not _NAME.fullmatch(name):
            raise self._syntax_error()
        return name, default if colon else None

    def _syntax_error(self) -> BadConfig:
        return BadConfig(
            f"{self._path}: '${{' begins no ${{NAME}} or ${{NAME:default}}; write $${{"
        )

    def _look_up(self, name: str, default: str | None, depth: int) -> str:
        value = self._environment.get(name)
        if default is not None and default.startswith("-"):
            value, default = value or None, default[1:]
        if value is not None:
            return value
        if default is None:
            self._missing[name] = None
            return ""
        return self.expand(default.strip() or default, depth + 1)[0]
